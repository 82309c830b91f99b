"""What the board remembers: workers' places, jobs, and which job suits which worker.

Values and pure functions; the board changes the values and carries the functions' answers out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from mixserver.dispatch.history import History, host
from mixserver.wire.worker import ModelCard, Role


@dataclass(slots=True)
class Place:
    """One worker's place on the board."""

    role: Role
    card: ModelCard
    process: str
    heard: float
    """When it was last heard."""
    idle_since: float
    job: int | None = None
    """What it was asked last and has said nothing about yet."""
    due: float = 0.0
    """When it should be done with `job`."""
    stream: int | None = None
    """The stream of its last job: what its engine is warm for."""
    silent: bool = False
    overdue: bool = False
    hung: bool = False

    @property
    def healthy(self) -> bool:
        """Whether an answer of it is to be expected."""
        return not self.silent and not self.overdue


@dataclass(slots=True)
class Job:
    """One job that is neither answered nor given up."""

    role: Role
    stream: int
    at: str | None = None
    """The worker counted on for it; None if it waits."""
    history: History = field(default_factory=History)


Places = Mapping[str, Place]
Jobs = Mapping[int, Job]


def second(job: Job, places: Places) -> bool:
    """Whether a worker can be expected to say something else than those who refused a job."""
    return any(
        place.role == job.role and place.healthy and name not in job.history.refusals
        for name, place in places.items()
    )


def idle_workers(role: Role, places: Places) -> list[str]:
    """Those of a role that can be asked, the one that has been idle longest first."""
    idle = [
        name
        for name, place in places.items()
        if place.role == role and place.job is None and not place.silent
    ]
    return sorted(idle, key=lambda name: places[name].idle_since)


def pair(waiting: Sequence[int], idle: Sequence[str], jobs: Jobs, places: Places) -> dict[int, str]:
    """Which of the waiting jobs goes to which of the idle workers.

    The longest waiting jobs go first: each to a worker that is warm for it, else to the one that
    has been idle longest. A job that workers were lost over, or that one refused, goes to another
    worker, on another machine if there is one.

    Args:
        waiting: jobs in their order.
        idle: workers in their order.
        jobs: what the numbers mean.
        places: what the names mean.
    """
    free = list(idle)
    pairs: dict[int, str] = {}
    for number in waiting[: len(idle)]:
        job = jobs[number]
        if job.history.troubled:
            worker = _another(job.history, free, places)
        else:
            worker = next((w for w in free if places[w].stream == job.stream), None)
        if worker is not None:
            pairs[number] = worker
            free.remove(worker)
    for number in waiting:
        if not free:
            break
        if number in pairs:
            continue
        worker = _another(jobs[number].history, free, places)
        if worker is not None:
            pairs[number] = worker
            free.remove(worker)
    return pairs


def _another(history: History, free: Sequence[str], places: Places) -> str | None:
    """The worker for a job, as little like those that had trouble with it as there is."""
    if not history.troubled:
        return free[0]
    return min(
        (worker for worker in free if worker not in history.refusals),
        key=lambda worker: (
            worker in history.workers,
            host(places[worker].process) in history.hosts,
        ),
        default=None,
    )
