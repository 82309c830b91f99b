"""Listeners for tests without sockets: workers that are engines in this process."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

from mixserver_worker.engine import EngineResult

from mixserver.core.errors import MixserverError
from mixserver.dispatch.scheduling.events import (
    FailureReceived,
    Listener,
    ResultReceived,
    WorkerEvent,
    WorkerJoined,
)
from mixserver.wire.worker import Evaluate, Result, Role


class EngineListener:
    """A listener whose workers are engines; it remembers all jobs and can hold results back.

    Args:
        workers: role and engine of each worker, by name.
    """

    address = "in process"

    def __init__(self, workers: Mapping[str, tuple[Role, Any]]) -> None:
        self.workers = dict(workers)
        self.jobs: list[tuple[str, Evaluate]] = []
        """All jobs so far, each with its worker."""
        self.awake: dict[Role, asyncio.Event] = {}
        for role, _ in self.workers.values():
            self.awake.setdefault(role, asyncio.Event()).set()
        self._tasks: set[asyncio.Task[None]] = set()

    @classmethod
    def one_per_role(cls, engines: Mapping[Role, Any]) -> EngineListener:
        """One worker a role, named like the role."""
        return cls({role: (role, engine) for role, engine in engines.items()})

    async def open(self, report: Callable[[Listener, WorkerEvent], None]) -> None:
        self._report = report
        for worker, (role, engine) in self.workers.items():
            report(self, WorkerJoined(worker, role, engine.card))

    def welcome(self, worker: str) -> None:
        """Do nothing: the workers are here."""

    def send(self, worker: str, job: Evaluate) -> None:
        self.jobs.append((worker, job))
        task = asyncio.ensure_future(self._evaluate(worker, job))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def drop(self, worker: str, reason: str) -> None:
        raise RuntimeError(f"{worker} dropped: {reason}")

    async def close(self, reason: str) -> None:
        self.wake()
        await asyncio.gather(*self._tasks)

    def sleep(self, *roles: Role) -> None:
        """Let workers of some roles, or all, hold their results back."""
        for role in roles or self.awake:
            self.awake[role].clear()

    def wake(self) -> None:
        for awake in self.awake.values():
            awake.set()

    async def delay(self, role: Role, job: Evaluate) -> None:
        """Before a job is evaluated; raises a `MixserverError` to refuse it."""
        await self.awake[role].wait()

    async def _evaluate(self, worker: str, job: Evaluate) -> None:
        role, engine = self.workers[worker]
        try:
            await self.delay(role, job)
            event: WorkerEvent = ResultReceived(worker, as_result(job, engine.evaluate(job)))
        except MixserverError as error:
            event = FailureReceived(worker, job.job, "input", str(error))
        self._report(self, event)


def as_result(job: Evaluate, answer: EngineResult | Result) -> Result:
    """An engine's result as it comes from a worker."""
    if isinstance(answer, Result):
        return answer
    return Result(
        job=job.job,
        energy=answer.energy,
        forces=answer.forces,
        virial=answer.virial,
        energies=answer.energies,
        values=answer.values,
    )
