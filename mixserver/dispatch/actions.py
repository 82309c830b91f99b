"""What the board wants done, as values: the dispatcher carries it out. Also what it is told.

The events of `events` come from doors; the four here come from the dispatcher itself.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from mixserver.wire.worker import ModelCard, Result, Role


@dataclass(frozen=True, slots=True)
class Submitted:
    """A job is to be evaluated."""

    job: int
    role: Role
    stream: int


@dataclass(frozen=True, slots=True)
class Withdrawn:
    """Nobody wants a job's answer any more."""

    job: int


@dataclass(frozen=True, slots=True)
class Tick:
    """Time has passed."""


@dataclass(frozen=True, slots=True)
class Paused:
    """The server itself stood still (stopped, suspended, swapped out): it heard no worker, and that
    is held against none.
    """  # noqa: D205 - one sentence

    seconds: float


@dataclass(frozen=True, slots=True)
class TakeIn:
    """A worker that joined fits: welcome it."""

    worker: str
    role: Role
    card: ModelCard


@dataclass(frozen=True, slots=True)
class TurnAway:
    """A worker that joined does not fit: tell it why."""

    worker: str
    reason: str


@dataclass(frozen=True, slots=True)
class Drop:
    """A worker was at fault: tell it so; it is not asked again until it rejoins."""

    worker: str
    reason: str


@dataclass(frozen=True, slots=True)
class Lost:
    """A worker is not counted on any more. It may be dead, so there is nothing to tell it."""

    worker: str
    reason: str
    job: int | None
    """The job it was at and that others now get, if any."""


@dataclass(frozen=True, slots=True)
class Back:
    """A silent worker was heard again and is counted on again."""

    worker: str


@dataclass(frozen=True, slots=True)
class Overdue:
    """A worker is over its job's deadline; another one gets the job too."""

    worker: str
    job: int


@dataclass(frozen=True, slots=True)
class Hung:
    """A worker has not answered for so long that it never will; its process can be killed."""

    worker: str
    process: str
    """"HOST:PID", if it is known."""
    reason: str


@dataclass(frozen=True, slots=True)
class Doubted:
    """A worker says that a job is at fault; another one is asked before that is believed."""

    worker: str
    job: int
    why: str


@dataclass(frozen=True, slots=True)
class Contradicted:
    """A worker answered a job that another one had called faulty."""

    job: int
    worker: str
    refusal: str


@dataclass(frozen=True, slots=True)
class Assign:
    """Hand a job to a worker."""

    worker: str
    job: int


@dataclass(frozen=True, slots=True)
class Finish:
    """A job is answered."""

    job: int
    worker: str
    result: Result


@dataclass(frozen=True, slots=True)
class GiveUp:
    """A job will not be answered."""

    job: int
    kind: Literal["input", "nobody"]
    """"input": the job is at fault. "nobody": no worker is left for it."""
    reason: str


@dataclass(frozen=True, slots=True)
class Starved:
    """Jobs of a role wait, and no worker of that role is alive and in time."""

    role: Role
    reason: str = field(default="", compare=False)


@dataclass(frozen=True, slots=True)
class Served:
    """A starved role has a worker again."""

    role: Role


Action: TypeAlias = (
    TakeIn
    | TurnAway
    | Drop
    | Lost
    | Back
    | Overdue
    | Hung
    | Doubted
    | Contradicted
    | Assign
    | Finish
    | GiveUp
    | Starved
    | Served
)
