"""Events that listeners report about their workers, and the `Listener` protocol.

A listener accepts connections of workers: `zmq_listener` those of mixserver's own, `ipi_listener`
those of stock i-PI clients. The scheduler decides what follows from an event. The frequent ones are
msgspec structs, which cost a tenth of a frozen dataclass to make.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, TypeAlias

import msgspec

from mixserver.wire.worker import Blame, Evaluate, ModelCard, Result, Role


@dataclass(frozen=True, slots=True)
class WorkerJoined:
    """A worker asks to join; the scheduler accepts or rejects it."""

    worker: str
    """Unique; the listener addresses the worker by it."""
    role: Role
    card: ModelCard
    process: str = ""
    """"HOST:PID@START": distinguishes a worker that lost its connection from another of its name,
    also where each container's first process has the same id. "" if unknown."""
    job: int | None = None
    """The job it still holds, if it has joined before; its result or failure follows."""


class WorkerAlive(msgspec.Struct, frozen=True):
    """A sign of life."""

    worker: str


class ResultReceived(msgspec.Struct, frozen=True):
    """A result arrived. Its arrays fit each other; it is not validated against its job yet."""

    worker: str
    result: Result


@dataclass(frozen=True, slots=True)
class FailureReceived:
    """A worker could not evaluate a job."""

    worker: str
    job: int
    blame: Blame
    message: str
    result: Result | None = None
    """A result that hardly can be right: it counts if no other worker contradicts it."""


@dataclass(frozen=True, slots=True)
class WorkerLeft:
    """A worker said goodbye, disconnected, or broke the protocol."""

    worker: str
    reason: str
    orderly: bool = False
    """True if it left of its own accord: its job is then not suspected of breaking it."""
    unsent: bool = False
    """True if its latest job could not be sent: that job is then not suspected either."""


WorkerEvent: TypeAlias = WorkerJoined | WorkerAlive | ResultReceived | FailureReceived | WorkerLeft


class Listener(Protocol):
    """Accepts workers at an address. Runs on the event loop and never blocks it."""

    @property
    def address(self) -> str:
        """Address to which workers connect, once `open` has returned."""

    async def open(self, report: Callable[[Listener, WorkerEvent], None]) -> None:
        """Bind the address, and from now on call `report` with every event (on the event loop).

        Raises:
            ConfigError: the address is malformed or in use.
        """

    def welcome(self, worker: str) -> None:
        """Tell a worker that it is accepted; it replaces another of its name."""

    def send(self, worker: str, job: Evaluate) -> None:
        """Send a job to a worker. If it is gone, report `WorkerLeft` (unsent); do not raise."""

    def drop(self, worker: str, reason: str) -> None:
        """Disconnect a rejected or dropped worker, with the reason if it still listens."""

    async def close(self, reason: str) -> None:
        """Say goodbye to every worker and release sockets, tasks and threads."""
