"""What a connection reports to the session, as values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from mixserver.wire.ipi import Request


@dataclass(frozen=True, slots=True)
class Connected:
    """Connected to i-PI."""

    absent: bool = False
    """Whether it did not listen before: it has been started, or started again."""


@dataclass(frozen=True, slots=True, eq=False)
class ForcesRequested:
    """Answer with `IpiConnection.reply` or `IpiConnection.fail` and the same serial."""

    serial: int
    requests: tuple[Request, ...]


@dataclass(frozen=True, slots=True)
class Disconnected:
    """The connection was lost while this request was being evaluated."""

    serial: int
    impatient: bool = False
    """Whether i-PI dropped us in mid-evaluation, as it does after its <timeout>."""


@dataclass(frozen=True, slots=True)
class ThreadEnded:
    """The connection's thread ended: i-PI sent EXIT, `close` was called, or `error` is a bug."""

    exited: bool
    error: BaseException | None = None


SessionEvent: TypeAlias = Connected | ForcesRequested | Disconnected | ThreadEnded
