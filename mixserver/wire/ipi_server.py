"""The server side of i-PI's protocol: one stock client as a state machine, without a socket.

Send `Client.greeting`, receive into `get_buffer`, carry out the events that `buffer_updated`
returns, and send `request` once the client is `ClientReady`. A request is POSDATA and GETFORCE in
one piece, as i-PI 3 sends it. Raises `ProtocolError` on bad input, nothing else.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass

import numpy as np

from mixserver.core.arrays import Matrix, Vectors
from mixserver.core.errors import ProtocolError
from mixserver.core.units import ANGSTROM, HARTREE, HARTREE_PER_BOHR
from mixserver.wire import Bytes
from mixserver.wire.ipi import (
    FLOAT,
    FORCEREADY,
    GETFORCE,
    HAVEDATA,
    HEADER,
    INIT,
    MOST_EXTRAS,
    NEEDINIT,
    POSDATA,
    READY,
    STATUS,
    Reader,
    Reply,
    Send,
    read,
    read_floats,
    read_int,
    read_text,
)


@dataclass(frozen=True, slots=True)
class ClientReady:
    """Event: the client waits for positions."""


@dataclass(frozen=True, slots=True, eq=False)
class ForcesReceived:
    """Event: the client has sent forces."""

    reply: Reply
    """Its virial is as received: all nine numbers, symmetric or not (see `ipi_virial`)."""


class Client(Reader):
    """One stock client (LAMMPS' fix ipi, ASE's SocketClient, i-pi-driver-py, ...).

    Args:
        late_init: send INIT with the next request and its parameters, as i-PI does; otherwise at
            once and without parameters.
    """

    def __init__(self, *, late_init: bool = False) -> None:
        self._atoms: int | None = None
        self._late_init = late_init
        self._held_request: Bytes | None = None
        self._needs_init = False
        self._answering = False
        super().__init__()

    @property
    def midway(self) -> bool:
        """Whether a message has arrived in part."""
        return self._answering or (self._wanted is not None and len(self._wanted) < HEADER)

    @property
    def needs_init(self) -> bool:
        """Whether it needs an INIT that has not been sent yet (`late_init`)."""
        return self._needs_init

    def greeting(self) -> bytes:
        """The bytes that open the conversation."""
        return STATUS

    def request(
        self, positions: Vectors, cell: Matrix, *, parameters: str = "", rid: int = 0
    ) -> Bytes:
        """The bytes that request the forces of one configuration.

        Args:
            positions: (n, 3) Å.
            cell: (3, 3) Å, rows are lattice vectors.
            parameters: of i-PI's <parameters>, for a client that needs an INIT first.
            rid: i-PI's id of the request, for the same.
        """
        if self._atoms is not None:
            raise ValueError("the client has not returned the last request")
        n = len(positions)
        data = np.empty(HEADER + 144 + 4 + 24 * n + HEADER, np.uint8).data
        columns = cell.T * ANGSTROM
        data[:12] = POSDATA
        data[12:156] = np.array([columns, np.linalg.inv(columns)]).tobytes()
        data[156:160] = n.to_bytes(4, "little")
        data[-HEADER:] = GETFORCE
        np.multiply(positions, ANGSTROM, out=np.frombuffer(data, FLOAT, 3 * n, 160).reshape(n, 3))
        self._atoms = n
        if not self._needs_init:
            return data
        self._held_request = data
        return _init(parameters, rid)

    def _parse(self) -> Generator[memoryview, None, None]:
        while True:
            yield from self._parse_status()
            self._events.append(ClientReady())
            if self._needs_init:
                yield from self._parse_initialised()
            yield from self._parse_forces()

    def _parse_status(self) -> Generator[memoryview, None, None]:
        word = bytes((yield from read(HEADER)))
        self._needs_init = word == NEEDINIT and self._late_init
        if word == NEEDINIT and not self._late_init:
            self._events.append(Send(_init("", 0)))
            word = bytes((yield from read(HEADER)))
        if word != READY and not self._needs_init:
            raise ProtocolError(
                f"expected READY or NEEDINIT from an i-PI client, got {word!r}"
                + (" (is it still computing for another server?)" if word == HAVEDATA else "")
            )

    def _parse_initialised(self) -> Generator[memoryview, None, None]:
        word = bytes((yield from read(HEADER)))
        if self._held_request is None:
            raise ProtocolError(f"an i-PI client sent a message without a request: {word!r}")
        if word != READY:
            raise ProtocolError(f"expected READY from an i-PI client after INIT, got {word!r}")
        self._events.append(Send(self._held_request))
        self._held_request, self._needs_init = None, False

    def _parse_forces(self) -> Generator[memoryview, None, None]:
        word = bytes((yield from read(HEADER)))
        if self._atoms is None:
            raise ProtocolError(f"an i-PI client sent a message without a request: {word!r}")
        if word != FORCEREADY:
            raise ProtocolError(f"expected FORCEREADY from an i-PI client, got {word!r}")
        self._answering = True
        energy = yield from read_floats((1,))
        n = yield from read_int(0, 1 << 30, "FORCEREADY's number of atoms")
        if n != self._atoms:
            raise ProtocolError(
                f"an i-PI client got {self._atoms} atoms, but returned forces on {n}: its "
                "structure must hold the same atoms as mix.toml's upstream.structure"
            )
        forces = yield from read_floats((n, 3))
        raw = yield from read_floats((3, 3))
        extras = yield from read_text(MOST_EXTRAS, "a client's extras")
        with np.errstate(over="ignore", invalid="ignore"):  # what is not finite is refused later
            np.multiply(forces, HARTREE_PER_BOHR, out=forces)
            virial = np.ascontiguousarray(raw.T) * HARTREE
        self._atoms, self._answering = None, False
        reply = Reply(float(energy[0]) * HARTREE, forces, virial, extras.replace("\0", ""))
        # Request its status at once, as i-PI does: some clients need INIT after every force.
        self._events += [ForcesReceived(reply), Send(STATUS)]


def ipi_virial(virial: Matrix) -> Matrix:
    """(3, 3) eV as i-PI's dynamics uses it: the upper triangle as sent is the lower one, too."""
    kept: Matrix = np.tril(virial) + np.tril(virial, -1).T  # ours is the transpose of the wire's
    return kept


def _init(parameters: str, rid: int) -> bytes:
    # One blank, which i-PI sends without <parameters>: some clients cannot read 0 bytes.
    text = (parameters or " ").encode("utf-8")
    number = rid.to_bytes(4, "little", signed=True)
    return INIT + number + len(text).to_bytes(4, "little") + text + STATUS
