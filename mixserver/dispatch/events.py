"""What happens to workers, as values: the doors report it, the board decides on it.

A door is a place where workers connect: `zmq_door` for mixserver's own, `ipi_door` for stock i-PI
clients. Both speak to the dispatcher through these five events and the `Door` protocol.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, TypeAlias

from mixserver.wire.worker import Blame, Evaluate, ModelCard, Result, Role


@dataclass(frozen=True, slots=True)
class Joined:
    """A worker said Hello. The board takes it in or has it turned away."""

    worker: str
    """Unique; the door can reach the worker by it."""
    role: Role
    card: ModelCard
    process: str = ""
    """"HOST:PID", which tells a worker that lost its connection from another of its name."""
    job: int | None = None
    """The job it holds from before, if it has joined before; it will say how that went."""


@dataclass(frozen=True, slots=True)
class Heard:
    """A sign of life."""

    worker: str


@dataclass(frozen=True, slots=True)
class Answered:
    """A result came in (its shapes are right among themselves; nothing else is checked yet)."""

    worker: str
    result: Result


@dataclass(frozen=True, slots=True)
class Failed:
    """A worker could not evaluate a job."""

    worker: str
    job: int
    blame: Blame
    message: str


@dataclass(frozen=True, slots=True)
class Left:
    """A worker said goodbye, hung up, or broke the protocol."""

    worker: str
    reason: str
    orderly: bool = False
    """True if it said goodbye of its own accord: then its job is not suspected of breaking it."""
    unsent: bool = False
    """True if the job it was handed last could not be sent: then that job did nothing to it."""


Event: TypeAlias = Joined | Heard | Answered | Failed | Left


class Door(Protocol):
    """Where workers connect. Lives on the event loop; never blocks it."""

    @property
    def address(self) -> str:
        """Where workers should connect, once `open` has returned."""

    async def open(self, report: Callable[[Door, Event], None]) -> None:
        """Bind, and report from now on every event through `report` (on the event loop).

        Raises:
            ConfigError: the address is in use or no address.
        """

    def welcome(self, worker: str) -> None:
        """Tell a worker that it is in; it takes the place of another of its name."""

    def send(self, worker: str, job: Evaluate) -> None:
        """Hand a job to a worker. If it is gone, report `Left` (unsent) rather than raise."""

    def drop(self, worker: str, reason: str) -> None:
        """Turn a worker away, or let go of one given up: tell it why if it can still hear."""

    async def close(self, reason: str) -> None:
        """Say goodbye to every worker and give back sockets, tasks and threads."""
