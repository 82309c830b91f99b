"""What both directions of i-PI's socket protocol share: headers, values, and what i-PI survives.

`ipi_driver` speaks it as the one who is asked for forces, `ipi_server` as the one who asks; these
two are the only places where i-PI's units and its cell in columns become Å, eV and rows. Knows no
sockets. See README.md for the ladder, the tables and the signs.
"""

from __future__ import annotations

import json
import math
from collections.abc import Generator
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

import msgspec
import numpy as np
from numpy.typing import NDArray

from mixserver.arrays import Matrix, Vectors
from mixserver.errors import (
    BadInput,
    EvaluationError,
    MixserverError,
    NoWorkerError,
    ProtocolError,
    UpstreamError,
    WorkerFault,
)

Bytes: TypeAlias = bytes | bytearray | memoryview

HEADER: Final = 12
"""Bytes of a header: upper-case ASCII, padded with spaces."""
FLOAT: Final = np.dtype("<f8")
INT: Final = np.dtype("<i4")
MOST_ATOMS: Final = 1 << 24
MOST_SLOTS: Final = 4096
MOST_EXTRAS: Final = 1 << 24
"""Bytes of extras that are let through either way; i-PI spends 50 ms per MB on them."""
_AHEAD: Final = 1 << 16
"""Bytes that are read at once: a request for 2500 atoms."""


def header(word: str) -> bytes:
    """Pad a word to a header."""
    return word.ljust(HEADER).encode("ascii")


STATUS: Final = header("STATUS")
INIT: Final = header("INIT")
POSDATA: Final = header("POSDATA")
GETFORCE: Final = header("GETFORCE")
EXIT: Final = header("EXIT")
NEEDINIT: Final = header("NEEDINIT")
READY: Final = header("READY")
HAVEDATA: Final = header("HAVEDATA")
FORCEREADY: Final = header("FORCEREADY")


@dataclass(frozen=True, slots=True, eq=False)
class Request:
    """One configuration upstream wants evaluated."""

    positions: Vectors = field(repr=False)
    """(n, 3) Å, unwrapped."""
    cell: Matrix
    """(3, 3) Å, rows are lattice vectors."""
    bead: int | None = None
    """What i-PI calls the request (its rid), if it said so for this very request."""
    parameters: str = ""
    """What INIT said: i-PI's <parameters>, e.g. "a : 1 , b : 2"."""
    slot: int = 0
    """Place within a batch."""
    rid: int = 0
    """What the last INIT of this connection called a request; of this one only if `bead` is it."""


@dataclass(frozen=True, slots=True, eq=False)
class Reply:
    """The answer to a `Request`."""

    energy: float
    """eV."""
    forces: Vectors = field(repr=False)
    """(n, 3) eV/Å."""
    virial: Matrix
    """(3, 3) eV, -dE/dstrain = sum_i r_i (x) f_i, positive where the system pushes outward. Goes
    out as it is: i-PI reads one triangle, but keeps all nine numbers of a committee's."""
    extras: str = ""
    """Text for i-PI's extras: a JSON object, or anything that is no JSON."""


@dataclass(frozen=True, slots=True, eq=False)
class Say:
    """Event: send this now."""

    data: Bytes


class Reader:
    """Feeds a parser that is written as a generator of the buffers it wants filled.

    The bytes may come cut in any way. The rest of a large array is received straight into its own
    memory; all else into a buffer, so that a small message needs one call of the system.
    """

    def __init__(self) -> None:
        self._events: list[Any] = []
        self._parser = self._parse()
        self._wanted: memoryview | None = next(self._parser)
        self._ahead = memoryview(bytearray(_AHEAD))

    def _parse(self) -> Generator[memoryview, None, None]:
        raise NotImplementedError

    def want(self) -> memoryview:
        """Give the buffer that the next bytes belong into; never empty.

        Raises:
            ProtocolError: the stream broke the protocol before; the connection is dead.
        """
        wanted = self._place()
        return wanted if len(wanted) >= _AHEAD else self._ahead

    def filled(self, n: int) -> list[Any]:
        """Take in that the first `n` bytes of what `want` gave are there.

        Returns:
            The events these bytes completed, in order.

        Raises:
            ProtocolError: the bytes are none of i-PI's protocol.
        """
        wanted = self._place()
        if len(wanted) < _AHEAD:
            return self.feed(self._ahead[:n])
        self._advance(wanted, n)
        return self._taken()

    def feed(self, data: Bytes) -> list[Any]:
        """Copy `data` in; as `filled`, for bytes that already lie elsewhere."""
        rest = memoryview(data)
        while rest:
            wanted = self._place()
            n = min(len(wanted), len(rest))
            wanted[:n] = rest[:n]
            self._advance(wanted, n)
            rest = rest[n:]
        return self._taken()

    def _place(self) -> memoryview:
        """What the parser wants filled."""
        if self._wanted is None:
            raise ProtocolError("nothing more can be read: the stream broke i-PI's protocol")
        return self._wanted

    def _advance(self, wanted: memoryview, n: int) -> None:
        """Go on behind the first `n` bytes of what the parser wanted filled."""
        self._wanted = None  # unless the parser finds nothing wrong
        self._wanted = wanted[n:] if n < len(wanted) else next(self._parser)

    def _taken(self) -> list[Any]:
        events, self._events = self._events, []
        return events


def read(n: int) -> Generator[memoryview, None, bytearray]:
    """Within a parser: read `n` bytes."""
    buffer = bytearray(n)
    if n:
        yield memoryview(buffer)
    return buffer


def read_int(low: int, high: int, name: str) -> Generator[memoryview, None, int]:
    """Within a parser: read an int32 that must lie in [low, high]."""
    value = int.from_bytes((yield from read(4)), "little", signed=True)
    if not low <= value <= high:
        raise ProtocolError(f"{name} must be {low} to {high}, got {value}: not i-PI's protocol")
    return value


def read_text(most: int, name: str) -> Generator[memoryview, None, str]:
    """Within a parser: read an int32 length and as many bytes of UTF-8."""
    raw = yield from read((yield from read_int(0, most, f"length of {name}")))
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ProtocolError(f"{name} must be UTF-8: {error}") from error


def read_floats(shape: tuple[int, ...]) -> Generator[memoryview, None, NDArray[np.float64]]:
    """Within a parser: read float64 of a shape, straight into the array."""
    try:
        array = np.empty(shape, FLOAT)
    except MemoryError as error:
        raise ProtocolError(f"{shape} numbers are announced, more than fit into memory") from error
    if array.size:
        yield array.reshape(-1).view(np.uint8).data
    return array


def check_reply(reply: Reply, atoms: int) -> Reply:
    """Refuse a reply that would kill i-PI's polling thread (it then hangs) or poison a trajectory.

    i-PI parses extras with Python's ``json.loads``. Text that is no JSON is harmless (it becomes
    ``{"raw": text}``), so are "" and blanks. What parses must be an object without a key "raw".

    Args:
        reply: the reply, as it is about to be sent.
        atoms: how many were asked for.

    Returns:
        The same reply.

    Raises:
        EvaluationError: a wrong shape, a number that is not finite, extras i-PI cannot take.
    """
    if reply.forces.shape != (atoms, 3):
        raise EvaluationError(
            f"forces for i-PI must be ({atoms}, 3), as many as it asked for; got "
            f"{reply.forces.shape}"
        )
    if reply.virial.shape != (3, 3):
        raise EvaluationError(f"the virial for i-PI must be (3, 3), got {reply.virial.shape}")
    if not math.isfinite(reply.energy):
        raise EvaluationError(f"the energy for i-PI is not finite: {reply.energy}")
    if not np.isfinite(reply.forces).all():
        atom = int(np.flatnonzero(~np.isfinite(reply.forces).all(axis=1))[0])
        raise EvaluationError(f"forces for i-PI are not finite (atom {atom})")
    if not np.isfinite(reply.virial).all():
        raise EvaluationError(f"the virial for i-PI is not finite: {reply.virial.tolist()}")
    _check_extras(reply.extras)
    return reply


def _check_extras(text: str) -> None:
    if not text or text.isspace():
        return
    try:
        size = len(text.encode("utf-8"))
    except UnicodeEncodeError as error:
        raise EvaluationError(f"extras for i-PI cannot be written as UTF-8: {error}") from error
    if size > MOST_EXTRAS:
        raise EvaluationError(f"extras for i-PI have {size} bytes; {MOST_EXTRAS} are let through")
    try:
        value = msgspec.json.decode(text)
    except (msgspec.MsgspecError, RecursionError):  # stricter than what i-PI uses, and quicker
        try:
            value = json.loads(text)
        except (ValueError, RecursionError):
            return
    if not isinstance(value, dict):
        raise EvaluationError(
            f"extras for i-PI must be a JSON object or no JSON at all, got {text[:60]!r}, which "
            "would stop i-PI's polling thread"
        )
    if "raw" in value:
        raise EvaluationError('extras for i-PI must not have the key "raw", which is i-PI\'s own')


_WORDS: Final[tuple[tuple[type[MixserverError], str], ...]] = (
    (NoWorkerError, "NOWORKER"),
    (BadInput, "BADINPUT"),
    (WorkerFault, "WORKER"),
    (EvaluationError, "EVALUATE"),
    (UpstreamError, "UPSTREAM"),
    (MixserverError, "MIXSERVR"),
)


def error_header(error: MixserverError) -> bytes:
    """Say in 12 bytes what went wrong: i-PI prints a header it does not know, and asks again."""
    return header("ERR:" + next(word for kind, word in _WORDS if isinstance(error, kind)))
