"""The driver side of i-PI's protocol: one connection to i-PI as a state machine, without a socket.

Receive into `Driver.get_buffer`, carry out the events that `buffer_updated` returns, and call
`answer` when the forces are there. Supports the consolidated and the plain exchange, batches, and
shared memory, which it recognises by itself. Raises `ProtocolError` on bad input, nothing else.
"""

from __future__ import annotations

import re
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from mixserver.core.errors import MixserverError, ProtocolError
from mixserver.core.units import BOHR
from mixserver.wire import Bytes
from mixserver.wire.ipi import (
    EXIT,
    FLOAT,
    FORCEREADY,
    GETFORCE,
    HAVEDATA,
    HEADER,
    INIT,
    INT,
    MOST_ATOMS,
    MOST_SLOTS,
    NEEDINIT,
    POSDATA,
    READY,
    STATUS,
    Reader,
    Reply,
    Request,
    Send,
    read,
    read_floats,
    read_int,
    read_text,
)
from mixserver.wire.ipi_reply import (
    encode_extras,
    encode_replies,
    error_header,
    fill_replies,
    reply_size,
)

SEGMENTS: Final = ("pos", "h", "ih", "pot", "force", "vir")
"""The shared-memory segments of a connection, in the order in which i-PI names them."""

_SEGMENT_NAME: Final = re.compile(r"ipi_shm_[A-Za-z0-9_]{1,200}")
_MOST_PARAMETERS: Final = 1 << 20


@dataclass(frozen=True, slots=True, eq=False)
class RequestsReceived:
    """Event: evaluate these requests (one, or a batch), then call `Driver.answer`."""

    requests: tuple[Request, ...]


@dataclass(frozen=True, slots=True)
class AttachMemory:
    """Event: open these shared-memory segments, then call `Driver.attached`."""

    names: tuple[str, ...]
    """In the order of `SEGMENTS`."""


@dataclass(frozen=True, slots=True)
class ExitReceived:
    """Event: upstream sent EXIT."""

    busy: bool
    """During an evaluation: how i-PI drops a driver that exceeded its <timeout>."""


DriverEvent: TypeAlias = Send | RequestsReceived | AttachMemory | ExitReceived


class Driver(Reader):
    """One connection to i-PI.

    Args:
        announce_beads: ask for an INIT before every request, so that `Request.bead` is known.
    """

    def __init__(self, *, announce_beads: bool = False) -> None:
        self._announce = announce_beads
        self._initialised = False
        self._bead: int | None = None
        self._rid = 0
        self._parameters = ""
        self._slots = 1
        self._plain = False
        self._shared: tuple[NDArray[np.float64], ...] | None = None
        self._atoms = 0
        self._busy = False
        self._asked_status = False
        self._asked_forces = False
        self._reply: Bytes | None = None
        super().__init__()

    @property
    def busy(self) -> bool:
        """Whether a request has no reply yet."""
        return self._busy

    def answer(self, replies: Sequence[Reply]) -> list[DriverEvent]:
        """Encode the replies to the last `RequestsReceived`, one per request.

        `check_reply` must have passed each of them.
        """
        if not self._busy or self._reply is not None or len(replies) != self._slots:
            raise ValueError(f"expected {self._slots} replies to one open request")
        self._reply = self._encode(replies)
        if self._asked_forces:
            return self._send(self._reply)
        return self._say_status() if self._asked_status else []

    def refuse(self, error: MixserverError) -> Bytes:
        """The bytes to send before disconnecting because the evaluation failed; may be empty.

        On a 12-byte header in place of FORCEREADY i-PI prints the header, drops the connection and
        repeats the request. In the consolidated exchange without batches it reads a whole reply
        first, hence the padding. In the plain exchange it tolerates only a closed connection
        before HAVEDATA.
        """
        if not self._asked_forces or self._asked_status:
            return b""
        word = error_header(error)
        if self._slots > 1 or self._shared is not None:
            return word
        return word.ljust(reply_size(self._atoms), b"\0")

    def attached(self, buffers: Sequence[memoryview]) -> list[DriverEvent]:
        """Use the segments that an `AttachMemory` named.

        Raises:
            ProtocolError: a segment is too small for the batch and the atoms.
        """
        batch, n = self._slots, self._atoms
        shapes = ((batch, n, 3), (batch, 3, 3), (batch, 3, 3), (batch,), (batch, n, 3))
        views = []
        for kind, buffer, shape in zip(SEGMENTS, buffers, (*shapes, (batch, 3, 3)), strict=True):
            count = int(np.prod(shape))
            if len(buffer) < 8 * count:
                raise ProtocolError(
                    f"shared-memory segment {kind!r} must hold {shape} float64, {8 * count} "
                    f"bytes, but has {len(buffer)}"
                )
            views.append(np.frombuffer(buffer, FLOAT, count).reshape(shape))
        self._shared = tuple(views)
        return [self._requests(self._shared[0], self._shared[1])]

    def detach(self) -> None:
        """Release shared memory, so that it can be closed. The connection is over."""
        self._shared = None

    def _parse(self) -> Generator[memoryview, None, None]:
        while True:
            word = bytes((yield from read(HEADER)))
            if word == STATUS:
                self._asked_status = self._busy
                if not self._busy or self._reply is not None:
                    self._events += self._say_status()
            elif word == INIT:
                yield from self._parse_init()
            elif word == POSDATA:
                if self._busy:
                    raise ProtocolError("POSDATA came before the last one was answered")
                self._busy, self._asked_status, self._asked_forces = True, False, False
                yield from self._parse_positions()
            elif word == GETFORCE:
                if not self._busy or self._asked_forces:
                    raise ProtocolError("GETFORCE came without POSDATA")
                self._asked_forces = True
                if self._reply is not None:
                    self._events += self._send(self._reply)
            elif word == EXIT:
                self._events.append(ExitReceived(self._busy))
            else:
                raise ProtocolError(
                    f"expected a header of i-PI's protocol, got {word!r}: is it really i-PI (or "
                    "ASE's SocketIOCalculator) that listens there?"
                )

    def _parse_init(self) -> Generator[memoryview, None, None]:
        if self._busy:
            raise ProtocolError("INIT came before the last POSDATA was answered")
        self._rid = yield from read_int(-(1 << 31), (1 << 31) - 1, "INIT's rid")
        text = yield from read_text(_MOST_PARAMETERS, "INIT's parameters")
        self._parameters = text.strip(" \0")
        self._slots = 1
        for token in self._parameters.split(","):
            key, found, value = token.partition(":")
            if found and key.strip() == "batch_size":
                self._slots = _batch_size(value)
        if self._shared is not None and self._slots != len(self._shared[0]):
            raise ProtocolError(
                f"INIT's batch_size is {self._slots}, but shared memory was made for "
                f"{len(self._shared[0])}"
            )
        # In a batch the rid belongs to the first request only.
        self._bead = self._rid if self._announce and self._slots == 1 else None
        self._initialised = True

    def _parse_positions(self) -> Generator[memoryview, None, None]:
        if self._shared is not None:
            atoms = yield from read_int(1, MOST_ATOMS, "POSDATA's number of atoms")
            if atoms != self._atoms:
                raise ProtocolError(
                    f"POSDATA has {atoms} atoms, but shared memory was made for {self._atoms}"
                )
            self._events.append(self._requests(self._shared[0], self._shared[1]))
            return
        # Only the name that follows reveals shared memory: 16 bytes suffice, and every
        # transport sends as many here.
        start = b"" if self._plain else (yield from read(16))
        if start[8:] == b"ipi_shm_":
            yield from self._parse_segments(start)
            return
        self._plain = True
        batch = self._slots
        start = start + (yield from read(144 * batch + 4 - len(start)))
        if batch == 1:
            cells, count = start[:144], start[144:]
        else:
            count, cells = start[:4], start[4:]
        atoms = int.from_bytes(count, "little", signed=True)
        if not 1 <= atoms * batch <= MOST_ATOMS:
            raise ProtocolError(
                f"POSDATA has {atoms} atoms in {batch} slots; expected 1 to {MOST_ATOMS} in all"
            )
        self._atoms = atoms
        positions = yield from read_floats((batch, atoms, 3))
        self._events.append(
            self._requests(positions, np.frombuffer(cells, FLOAT).reshape(batch, 2, 3, 3)[:, 0])
        )

    def _parse_segments(self, start: bytearray | bytes) -> Generator[memoryview, None, None]:
        atoms, length = np.frombuffer(start[:8], INT).tolist()
        if not 1 <= atoms * self._slots <= MOST_ATOMS or not 8 < length < 256:
            raise ProtocolError(
                f"POSDATA names shared memory for {atoms} atoms, which is implausible"
            )
        self._atoms = atoms
        first = (start[8:] + (yield from read(length - 8))).decode("latin-1")
        names = (first, *(yield from _read_names(SEGMENTS[1:])))
        if bad := [name for name in names if not _SEGMENT_NAME.fullmatch(name)]:
            raise ProtocolError(f"{bad} are not names that i-PI gives to shared memory")
        self._events.append(AttachMemory(names))

    def _requests(
        self, positions: NDArray[np.float64], cells: NDArray[np.float64]
    ) -> RequestsReceived:
        # One pass converts; in place where the array is ours, into a copy where it is shared.
        ours = self._shared is None
        converted = np.multiply(positions, BOHR, out=positions if ours else None)
        rows = np.ascontiguousarray(cells.transpose(0, 2, 1)) * BOHR
        return RequestsReceived(
            tuple(
                Request(converted[slot], rows[slot], self._bead, self._parameters, slot, self._rid)
                for slot in range(self._slots)
            )
        )

    def _say_status(self) -> list[DriverEvent]:
        if self._busy:
            return [Send(HAVEDATA)]
        return [Send(READY if self._initialised else NEEDINIT)]

    def _send(self, data: Bytes) -> list[DriverEvent]:
        self._reply, self._busy = None, False
        if self._announce:
            self._initialised, self._bead = False, None
        return [Send(data)]

    def _encode(self, replies: Sequence[Reply]) -> Bytes:
        if self._shared is None:
            return encode_replies(replies, self._atoms)
        _, _, _, pot, force, vir = self._shared
        fill_replies(replies, pot, force, vir)
        return FORCEREADY + encode_extras(replies)


def _read_names(kinds: Sequence[str]) -> Generator[memoryview, None, list[str]]:
    names: list[str] = []
    for kind in kinds:
        names += [(yield from read_text(256, f"name of shared memory {kind!r}"))]
    return names


def _batch_size(text: str) -> int:
    text = text.strip()
    size = int(text) if text.isascii() and text.isdigit() and len(text) < 9 else 0
    if not 1 <= size <= MOST_SLOTS:
        raise ProtocolError(f"INIT's batch_size must be 1 to {MOST_SLOTS}, got {text!r}")
    return size
