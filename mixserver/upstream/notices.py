"""What a link tells the session, as values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from mixserver.wire.ipi import Request


@dataclass(frozen=True, slots=True)
class Contact:
    """Connected."""


@dataclass(frozen=True, slots=True, eq=False)
class Wanted:
    """Forces are wanted; answer with `Link.reply` or `Link.refuse` and the same serial."""

    serial: int
    requests: tuple[Request, ...]


@dataclass(frozen=True, slots=True)
class Lost:
    """The connection is gone; nobody waits for this request any more."""

    serial: int
    impatient: bool = False
    """Whether i-PI dropped us in mid-evaluation, as it does after its <timeout>."""


@dataclass(frozen=True, slots=True)
class Ended:
    """The thread is done: i-PI said EXIT, we were told to stop, or `error` is a bug."""

    exited: bool
    error: BaseException | None = None


Notice: TypeAlias = Contact | Wanted | Lost | Ended
