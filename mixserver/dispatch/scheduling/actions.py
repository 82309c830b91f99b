"""The scheduler's decisions, as values that the dispatcher carries out.

Also the dispatcher's own events; those of workers are in `events`. What comes with every job is a
msgspec struct: it costs a tenth of a frozen dataclass to make (0.1 us, not 1.2 us).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, TypeAlias

import msgspec

from mixserver.dispatch.scheduling.durations import JobSize
from mixserver.wire.worker import ModelCard, Result, Role


class JobSubmitted(msgspec.Struct, frozen=True):
    """Event: a job is to be evaluated."""

    job: int
    role: Role
    stream: int
    size: JobSize | None = None
    """What its cost depends on; None if nothing is learned from it."""
    checks: str = ""
    """For a spot check: the worker that evaluated the same job. Another process evaluates it."""


@dataclass(frozen=True, slots=True)
class JobCancelled:
    """Event: the result of a job is no longer needed."""

    job: int


@dataclass(frozen=True, slots=True)
class Tick:
    """Event: time has passed."""


@dataclass(frozen=True, slots=True)
class ServerPaused:
    """Event: the server did not run for a while (stopped, suspended, swapped out).

    It received nothing meanwhile, which is not held against any worker.
    """

    seconds: float


@dataclass(frozen=True, slots=True)
class AcceptWorker:
    """Welcome a worker that joined."""

    worker: str
    role: Role
    card: ModelCard


@dataclass(frozen=True, slots=True)
class RejectWorker:
    """Reject a worker that asked to join, with the reason."""

    worker: str
    reason: str


@dataclass(frozen=True, slots=True)
class DropWorker:
    """Disconnect a worker at fault, with the reason; it gets no jobs until it joins again."""

    worker: str
    reason: str


@dataclass(frozen=True, slots=True)
class WorkerLost:
    """A worker is no longer counted on. It may be dead, so nothing is sent to it."""

    worker: str
    reason: str
    job: int | None
    """The job it was assigned, which is queued again, if any."""


@dataclass(frozen=True, slots=True)
class WorkerRecovered:
    """A silent worker has sent something and is counted on again."""

    worker: str


@dataclass(frozen=True, slots=True)
class WorkerOverdue:
    """A worker has exceeded its job's deadline; another worker gets the job too."""

    worker: str
    job: int


@dataclass(frozen=True, slots=True)
class JobCopied:
    """A job takes much longer than usual; an idle worker evaluates it too, the first result counts.

    Nothing is held against the worker that has it.
    """

    worker: str
    """The worker that has it."""
    job: int
    other: str
    """The worker that gets the copy."""
    late_s: float
    """Seconds after which it was late."""


@dataclass(frozen=True, slots=True)
class WorkerHung:
    """A worker will never return its job; its process can be killed."""

    worker: str
    process: str
    """"HOST:PID", if it is known."""
    reason: str


@dataclass(frozen=True, slots=True)
class JobDisputed:
    """A worker reports that a job is at fault; a second one must confirm it."""

    worker: str
    job: int
    reason: str


@dataclass(frozen=True, slots=True)
class DisputeResolved:
    """A worker evaluated a job that another one had reported to be at fault."""

    job: int
    worker: str
    refusal: str


class AssignJob(msgspec.Struct, frozen=True):
    """Send a job to a worker."""

    worker: str
    job: int


class CompleteJob(msgspec.Struct, frozen=True):
    """A job has its result."""

    job: int
    worker: str
    result: Result


@dataclass(frozen=True, slots=True)
class FailJob:
    """A job will have no result."""

    job: int
    kind: Literal["input", "no_worker"]
    """"input": the job is at fault. "no_worker": no worker is left for it."""
    reason: str


@dataclass(frozen=True, slots=True)
class RoleEmpty:
    """Jobs of a role wait, and the role has no worker that is alive and on time."""

    role: Role
    reason: str = field(default="", compare=False)


@dataclass(frozen=True, slots=True)
class RoleAvailable:
    """An empty role has a worker again."""

    role: Role


Action: TypeAlias = (
    AcceptWorker
    | RejectWorker
    | DropWorker
    | WorkerLost
    | WorkerRecovered
    | WorkerOverdue
    | WorkerHung
    | JobCopied
    | JobDisputed
    | DisputeResolved
    | AssignJob
    | CompleteJob
    | FailJob
    | RoleEmpty
    | RoleAvailable
)
