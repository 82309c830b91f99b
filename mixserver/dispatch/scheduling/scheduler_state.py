"""The scheduler's state: workers and jobs, as values that only the scheduler changes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from mixserver.dispatch.scheduling.durations import JobSize
from mixserver.dispatch.scheduling.job_history import JobHistory
from mixserver.wire.worker import ModelCard, Role


@dataclass(slots=True)
class WorkerState:
    """One worker that has been accepted."""

    role: Role
    card: ModelCard
    process: str
    last_seen: float
    """When it last sent anything."""
    idle_since: float
    job: int | None = None
    """The job it was assigned last and has not returned yet."""
    due: float = 0.0
    """Deadline of `job`."""
    stream: int | None = None
    """The stream of its last job, for which its engine keeps state."""
    silent: bool = False
    overdue: bool = False
    hung: bool = False

    @property
    def healthy(self) -> bool:
        """Whether a result can be expected from it."""
        return not self.silent and not self.overdue


@dataclass(slots=True)
class Job:
    """One job that has neither a result nor failed."""

    role: Role
    stream: int
    size: JobSize | None = None
    """What its cost depends on; None if nothing is learned from it."""
    checks: tuple[str, str] | None = None
    """For a spot check: the worker that evaluated the same job, and its process."""
    worker: str | None = None
    """The worker counted on for it; None if it is queued."""
    history: JobHistory = field(default_factory=JobHistory)

    def allows(self, worker: str, workers: Workers) -> bool:
        """Whether a worker may evaluate it: a spot check needs another process than the first."""
        if self.checks is None:
            return True
        name, process = self.checks
        theirs = workers[worker].process
        return theirs != process if theirs and process else worker != name


Workers: TypeAlias = Mapping[str, WorkerState]
Jobs: TypeAlias = Mapping[int, Job]


def has_second_opinion(job: Job, workers: Workers) -> bool:
    """Whether a healthy worker is left that has not refused a job."""
    return any(
        state.role == job.role
        and state.healthy
        and name not in job.history.refusals
        and job.allows(name, workers)
        for name, state in workers.items()
    )


def has_healthy(role: Role, workers: Workers) -> bool:
    """Whether a role has a healthy worker."""
    for state in workers.values():  # noqa: SIM110 - for every job: `any` costs twice as much
        if state.role == role and state.healthy:
            return True
    return False


def other_holder(number: int, worker: str, workers: Workers) -> str | None:
    """A healthy worker besides this one that evaluates a job."""
    for name, state in workers.items():
        if state.job == number and name != worker and state.healthy:
            return name
    return None


def shift(workers: Workers, jobs: Jobs, seconds: float, now: float) -> None:
    """Move all times forward by a pause of the server, which is no worker's fault."""
    for state in workers.values():
        state.last_seen = min(now, state.last_seen + seconds)
        state.due += seconds
    for job in jobs.values():
        job.history.shift(seconds)
