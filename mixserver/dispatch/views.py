"""The state of workers, roles and jobs as values for displays; computed only when asked for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from mixserver.dispatch.scheduling.job_history import host
from mixserver.dispatch.scheduling.scheduler import Scheduler
from mixserver.dispatch.scheduling.scheduler_state import WorkerState
from mixserver.dispatch.submitted_jobs import SubmittedJob, SubmittedJobs
from mixserver.dispatch.tally import Tally, WorkerTally
from mixserver.wire.worker import Role


@dataclass(frozen=True, slots=True)
class JobView:
    """What a worker is busy with."""

    atoms: int
    """Atoms that were sent."""
    stream: int
    """Jobs of one stream follow one trajectory."""
    busy_s: float
    """Seconds since the job was assigned to the worker."""


@dataclass(frozen=True, slots=True)
class WorkerView:
    """One worker, as a display shows it."""

    name: str
    role: Role
    engine: str
    model: str
    dtype: str
    host: str
    """The machine it runs on; "" if it did not say."""
    state: Literal["idle", "busy", "overdue", "silent"]
    job: int | None
    doing: JobView | None
    """About `job`; None if the worker has none, or one that is not wanted any more."""
    silent_for_s: float
    """Seconds since it last sent anything."""
    tally: WorkerTally
    """What it has done since it joined."""


@dataclass(frozen=True, slots=True)
class RoleView:
    """One role."""

    role: Role
    fingerprint: str
    """Of the model that its workers must have; "" while any may join."""
    queue: int
    """Jobs that wait for a worker."""
    served: bool
    """Whether it has ever had a worker."""
    starved_s: float | None
    """Seconds for which jobs have waited without any worker that is alive and on time."""
    last_loss: str
    """Which worker was lost last and why; "" if none was."""


@dataclass(frozen=True, slots=True)
class DispatchView:
    """All workers and roles at one time."""

    workers: tuple[WorkerView, ...]
    roles: tuple[RoleView, ...]
    counts: Mapping[str, int]
    """How often what happened since the start; see `Tally.counts`."""


def view(
    name: str, state: WorkerState, now: float, tally: WorkerTally, doing: JobView | None
) -> WorkerView:
    """The view of a worker at a time."""
    return WorkerView(
        name=name,
        role=state.role,
        engine=state.card.engine,
        model=state.card.name,
        dtype=state.card.dtype,
        host=host(state.process),
        state="silent"
        if state.silent
        else "overdue"
        if state.overdue
        else "idle"
        if state.job is None
        else "busy",
        job=state.job,
        doing=doing,
        silent_for_s=now - state.last_seen,
        tally=tally,
    )


def dispatch_view(
    scheduler: Scheduler,
    tally: Tally,
    jobs: SubmittedJobs,
    now: float,
) -> DispatchView:
    """The view of all workers and roles at a time.

    Args:
        scheduler: knows them.
        tally: knows what they have done.
        jobs: those that have no result yet.
        now: seconds on the scheduler's clock.
    """
    workers = tuple(
        view(name, state, now, tally.of(name), _doing(name, jobs.get(state.job), now))
        for name, state in scheduler.workers.items()
    )
    roles = tuple(_role_view(scheduler, role, now) for role in scheduler.queues)
    return DispatchView(workers, roles, dict(tally.counts))


def _doing(worker: str, job: SubmittedJob | None, now: float) -> JobView | None:
    if job is None or worker not in job.assigned:
        return None
    return JobView(len(job.evaluate.positions), job.evaluate.stream, now - job.assigned[worker])


def _role_view(scheduler: Scheduler, role: Role, now: float) -> RoleView:
    roles = scheduler.roles
    return RoleView(
        role=role,
        fingerprint=roles.pins.get(role, ""),
        queue=len(scheduler.queues[role]),
        served=roles.is_served(role),
        starved_s=roles.empty_for(role, now),
        last_loss=roles.last_loss(role),
    )
