"""Jobs that are submitted one by one and gathered together, each under a key of the caller's.

Knows neither workers nor how a job is dispatched.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Hashable
from typing import Any, Self

import msgspec

from mixserver.wire.worker import Evaluate, Result, Role


class JobResult(msgspec.Struct, frozen=True):
    """A validated result with its provenance."""

    result: Result
    worker: str
    waited_s: float
    """From submission to assignment to this worker."""
    took_s: float
    """From assignment to the result, on the server's clock."""


class Batch:
    """Submitted jobs; leaving its context cancels those without a result.

    Submitting needs no task and no turn of the event loop: a job is sent within `submit` if a
    worker is idle, so the caller can go on with other work meanwhile.

    Args:
        submit: takes a job for this batch and returns its number.
        cancel: cancels a job by its number.
    """

    def __init__(
        self,
        submit: Callable[[Role, Evaluate, Batch], int],
        cancel: Callable[[int], None],
    ) -> None:
        self.last_result = 0.0
        """When the latest result arrived, on the event loop's clock."""
        self.spot_checks: dict[Role, bool] = {}
        """Whether the jobs of a role are checked; kept by the dispatcher."""
        self._submit = submit
        self._cancel = cancel
        self._numbers: dict[Hashable, int] = {}
        self._pending = 0
        self._results: dict[int, JobResult] = {}
        self._error: Exception | None = None
        self._waiter: asyncio.Future[None] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for number in self._numbers.values():
            if number not in self._results:
                self._cancel(number)

    def submit(self, key: Hashable, role: Role, evaluate: Evaluate) -> None:
        """Submit a job under a key; its job number is assigned here.

        Its arrays are not copied and must not change until its result is there or it is cancelled.

        Raises:
            ValueError: a job with this key has been submitted and not gathered yet.
            NoWorkerError: the role is not configured, or the dispatcher is closed.
        """
        if key in self._numbers:
            raise ValueError(f"the batch has a job with the key {key!r} already")
        self._pending += 1  # the result may arrive before `submit` returns
        try:
            self._numbers[key] = self._submit(role, evaluate, self)
        except BaseException:
            self._pending -= 1
            raise

    async def gather(self) -> dict[Any, JobResult]:
        """Wait for all jobs submitted since the last call; results by key, in submission order.

        Raises:
            BadInput: a job is at fault.
            NoWorkerError: no worker is left for one (only under "stop"), or the dispatcher closed.
        """
        if self._pending and self._error is None:
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter
        if self._error is not None:
            raise self._error
        numbers, self._numbers = self._numbers, {}
        return {key: self._results.pop(number) for key, number in numbers.items()}

    def complete(self, number: int, result: JobResult, now: float) -> None:
        """Called by the dispatcher: a job has its result."""
        self._results[number] = result
        self._pending -= 1
        self.last_result = now
        if not self._pending:
            self._wake()

    def fail(self, error: Exception) -> None:
        """Called by the dispatcher: a job will have no result. The first error counts."""
        if self._error is None:
            self._error = error
            self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
