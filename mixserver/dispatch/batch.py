"""Questions that belong together, and their answers. Knows nothing of workers or of jobs' fates."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

from mixserver.wire.worker import Evaluate, Result, Role


@dataclass(frozen=True, slots=True)
class Reply:
    """A checked result, and how it came about."""

    result: Result
    worker: str
    waited_s: float
    """From the question to its hand-out to this worker."""
    took_s: float
    """From the hand-out to the answer, on the server's clock."""


class Batch:
    """Questions on their way; leaving its context withdraws those that are not answered.

    Asking needs no task and no turn of the event loop: a job leaves within `ask` if a worker is
    free, so whoever asks can go on with something else meanwhile.

    Args:
        submit: takes a question for this batch and gives its number.
        withdraw: takes a question back, by its number.
    """

    def __init__(
        self,
        submit: Callable[[Role, Evaluate, Batch], int],
        withdraw: Callable[[int], None],
    ) -> None:
        self.last_answer = 0.0
        """When the newest reply came in, on the event loop's clock."""
        self._submit = submit
        self._withdraw = withdraw
        self._numbers: list[int] = []
        self._missing = 0
        self._replies: dict[int, Reply] = {}
        self._error: Exception | None = None
        self._waiter: asyncio.Future[None] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for number in self._numbers:
            if number not in self._replies:
                self._withdraw(number)

    def ask(self, role: Role, evaluate: Evaluate) -> None:
        """Ask a question; its job number is given here.

        Its arrays are not copied and must not change until it is answered or withdrawn.

        Raises:
            NoWorkerError: there is no such role, or nothing is evaluated any more.
        """
        self._missing += 1  # the answer may come before `submit` returns
        try:
            self._numbers.append(self._submit(role, evaluate, self))
        except BaseException:
            self._missing -= 1
            raise

    async def answers(self) -> list[Reply]:
        """Wait for all that was asked since the last call; in the order of asking.

        Raises:
            BadInput: a question is at fault.
            NoWorkerError: nobody is left for one (only under "stop"), or the dispatcher closed.
        """
        if self._missing and self._error is None:
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter
        if self._error is not None:
            raise self._error
        numbers, self._numbers = self._numbers, []
        return [self._replies.pop(number) for number in numbers]

    def answered(self, number: int, reply: Reply, now: float) -> None:
        """Take in a reply."""
        self._replies[number] = reply
        self._missing -= 1
        self.last_answer = now
        if not self._missing:
            self._wake()

    def failed(self, error: Exception) -> None:
        """Take in that a question will not be answered; the first error counts."""
        if self._error is None:
            self._error = error
            self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
