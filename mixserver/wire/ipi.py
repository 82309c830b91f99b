"""What both sides of i-PI's socket protocol share: headers, values, and the incremental reader.

`ipi_driver` is the side that evaluates forces, `ipi_server` the side that requests them; only these
two and `ipi_reply` convert between i-PI's units and cells in columns and Å, eV and rows.
docs/reference/wire.md has the sequence of messages, the byte tables and the signs.
"""

from __future__ import annotations

import mmap
from collections.abc import Generator
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from mixserver.core.arrays import Matrix, Vectors
from mixserver.core.errors import ProtocolError
from mixserver.wire import Bytes

HEADER: Final = 12
"""Bytes of a header: upper-case ASCII, padded with spaces."""
FLOAT: Final = np.dtype("<f8")
INT: Final = np.dtype("<i4")
MOST_ATOMS: Final = 1 << 24
MOST_SLOTS: Final = 4096
MOST_EXTRAS: Final = 1 << 24
"""Largest extras in bytes, either way; i-PI spends 50 ms per MB on them."""
_AHEAD: Final = 1 << 16
"""Bytes that are received at once: a request for 2500 atoms."""


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
    """One configuration to evaluate, as i-PI requests it."""

    positions: Vectors = field(repr=False)
    """(n, 3) Å, unwrapped."""
    cell: Matrix
    """(3, 3) Å, rows are lattice vectors."""
    bead: int | None = None
    """i-PI's id of the request (rid), if INIT announced it for this very request."""
    parameters: str = ""
    """i-PI's <parameters> as in INIT, e.g. "a : 1 , b : 2"."""
    slot: int = 0
    """Place within a batch."""
    rid: int = 0
    """The id in the connection's last INIT; it belongs to this request only if `bead` is set."""


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
    """Text for i-PI's extras: a JSON object, or text that is not JSON."""


@dataclass(frozen=True, slots=True, eq=False)
class Send:
    """Event: send this now."""

    data: Bytes


class Reader:
    """Feeds a parser, which is written as a generator of the buffers that it needs filled.

    Bytes may arrive in pieces of any size. The rest of a large array is received straight into its
    own memory; all else into a buffer, so that a small message needs one system call. The methods
    are those of `asyncio.BufferedProtocol`.
    """

    def __init__(self) -> None:
        self._events: list[Any] = []
        self._parser = self._parse()
        self._wanted: memoryview | None = next(self._parser)
        # pages of its own: untouched while the peer is silent, and given back with the connection
        self._ahead = memoryview(mmap.mmap(-1, _AHEAD))

    def _parse(self) -> Generator[memoryview, None, None]:
        raise NotImplementedError

    def get_buffer(self) -> memoryview:
        """The buffer into which the next bytes must be received; never empty.

        Raises:
            ProtocolError: the stream broke the protocol before; the connection is dead.
        """
        wanted = self._unfilled()
        return wanted if len(wanted) >= _AHEAD else self._ahead

    def buffer_updated(self, n: int) -> list[Any]:
        """The first `n` bytes of the buffer have been received.

        Returns:
            The events these bytes completed, in order.

        Raises:
            ProtocolError: the bytes violate i-PI's protocol.
        """
        wanted = self._unfilled()
        if len(wanted) < _AHEAD:
            return self.feed(self._ahead[:n])
        self._advance(wanted, n)
        return self._take_events()

    def feed(self, data: Bytes) -> list[Any]:
        """Like `buffer_updated`, for bytes that are elsewhere already."""
        rest = memoryview(data)
        while rest:
            wanted = self._unfilled()
            n = min(len(wanted), len(rest))
            wanted[:n] = rest[:n]
            self._advance(wanted, n)
            rest = rest[n:]
        return self._take_events()

    def _unfilled(self) -> memoryview:
        """The part of the parser's buffer that is still to fill."""
        if self._wanted is None:
            raise ProtocolError("nothing more can be read after a violation of i-PI's protocol")
        return self._wanted

    def _advance(self, wanted: memoryview, n: int) -> None:
        """Go on after the first `n` bytes of it."""
        self._wanted = None  # unless the parser finds nothing wrong
        self._wanted = wanted[n:] if n < len(wanted) else next(self._parser)

    def _take_events(self) -> list[Any]:
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
