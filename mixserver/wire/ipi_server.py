"""i-PI's protocol as the one who asks: one stock client as a state machine, without a socket.

Send what `Client.greeting` gives, fill what `want` shows, carry out the events of `filled`, and
`ask` once the client is `Free`. A request goes out as POSDATA and GETFORCE in one piece, as i-PI 3
does. Whatever arrives, `ProtocolError` is the only thing raised.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from mixserver.arrays import Matrix, Vectors
from mixserver.errors import ProtocolError
from mixserver.units import ANGSTROM, HARTREE, HARTREE_PER_BOHR
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
    Bytes,
    Reader,
    Reply,
    Say,
    read,
    read_floats,
    read_int,
    read_text,
)


@dataclass(frozen=True, slots=True)
class Free:
    """Event: the client waits for positions."""


@dataclass(frozen=True, slots=True, eq=False)
class Forces:
    """Event: the client answered."""

    reply: Reply
    """Its virial is as it came: all nine numbers, symmetric or not (`ipi_virial`)."""


Event: TypeAlias = Say | Free | Forces


class Client(Reader):
    """One stock client (LAMMPS' fix ipi, ASE's SocketClient, i-pi-driver-py, ...).

    Args:
        late_init: answer NEEDINIT with the next request, whose parameters INIT then carries, as
            i-PI does; otherwise at once, with none.
    """

    def __init__(self, *, late_init: bool = False) -> None:
        self._asked: int | None = None
        self._late_init = late_init
        self._question: Bytes | None = None
        self._needs_init = False
        self._answering = False
        super().__init__()

    @property
    def midway(self) -> bool:
        """Whether part of a message has come, and the rest has not."""
        return self._answering or (self._wanted is not None and len(self._wanted) < HEADER)

    @property
    def needs_init(self) -> bool:
        """Whether it asked for INIT and has not got it yet (`late_init`)."""
        return self._needs_init

    def greeting(self) -> bytes:
        """Give the bytes that open the conversation."""
        return STATUS

    def ask(self, positions: Vectors, cell: Matrix, *, parameters: str = "", rid: int = 0) -> Bytes:
        """Give the bytes that ask for the forces of one configuration.

        Args:
            positions: (n, 3) Å.
            cell: (3, 3) Å, rows are lattice vectors.
            parameters: of i-PI's <parameters>, for a client that needs an INIT first.
            rid: i-PI's name of the request, for the same.
        """
        if self._asked is not None:
            raise ValueError("the client has not answered the last question")
        n = len(positions)
        data = np.empty(HEADER + 144 + 4 + 24 * n + HEADER, np.uint8).data
        columns = cell.T * ANGSTROM
        data[:12] = POSDATA
        data[12:156] = np.array([columns, np.linalg.inv(columns)]).tobytes()
        data[156:160] = n.to_bytes(4, "little")
        data[-HEADER:] = GETFORCE
        np.multiply(positions, ANGSTROM, out=np.frombuffer(data, FLOAT, 3 * n, 160).reshape(n, 3))
        self._asked = n
        if not self._needs_init:
            return data
        self._question = data
        return _init(parameters, rid)

    def _parse(self) -> Generator[memoryview, None, None]:
        while True:
            yield from self._parse_status()
            self._events.append(Free())
            if self._needs_init:
                yield from self._parse_initialised()
            yield from self._parse_forces()

    def _parse_status(self) -> Generator[memoryview, None, None]:
        word = bytes((yield from read(HEADER)))
        self._needs_init = word == NEEDINIT and self._late_init
        if word == NEEDINIT and not self._late_init:
            self._events.append(Say(_init("", 0)))
            word = bytes((yield from read(HEADER)))
        if word != READY and not self._needs_init:
            raise ProtocolError(
                f"expected READY or NEEDINIT from an i-PI client, got {word!r}"
                + (" (is it still computing for another server?)" if word == HAVEDATA else "")
            )

    def _parse_initialised(self) -> Generator[memoryview, None, None]:
        word = bytes((yield from read(HEADER)))
        if self._question is None:
            raise ProtocolError(f"an i-PI client spoke without being asked: {word!r}")
        if word != READY:
            raise ProtocolError(f"expected READY from an i-PI client after INIT, got {word!r}")
        self._events.append(Say(self._question))
        self._question, self._needs_init = None, False

    def _parse_forces(self) -> Generator[memoryview, None, None]:
        word = bytes((yield from read(HEADER)))
        if self._asked is None:
            raise ProtocolError(f"an i-PI client spoke without being asked: {word!r}")
        if word != FORCEREADY:
            raise ProtocolError(f"expected FORCEREADY from an i-PI client, got {word!r}")
        self._answering = True
        energy = yield from read_floats((1,))
        n = yield from read_int(0, 1 << 30, "FORCEREADY's number of atoms")
        if n != self._asked:
            raise ProtocolError(
                f"asked an i-PI client for {self._asked} atoms, but it answered for {n}: its "
                "structure must hold the same atoms as mix.toml's upstream.structure"
            )
        forces = yield from read_floats((n, 3))
        raw = yield from read_floats((3, 3))
        extras = yield from read_text(MOST_EXTRAS, "a client's extras")
        np.multiply(forces, HARTREE_PER_BOHR, out=forces)
        virial = np.ascontiguousarray(raw.T) * HARTREE
        self._asked, self._answering = None, False
        reply = Reply(float(energy[0]) * HARTREE, forces, virial, extras.replace("\0", ""))
        # Asked for its status at once, as i-PI does: some clients want INIT after every force.
        self._events += [Forces(reply), Say(STATUS)]


def ipi_virial(virial: Matrix) -> Matrix:
    """(3, 3) eV as i-PI's dynamics has it: the upper triangle as sent counts for the lower, too."""
    kept: Matrix = np.tril(virial) + np.tril(virial, -1).T  # ours is the transpose of the wire's
    return kept


def _init(parameters: str, rid: int) -> bytes:
    # One blank, as i-PI sends without <parameters>: some clients cannot read 0 bytes.
    text = (parameters or " ").encode("utf-8")
    number = rid.to_bytes(4, "little", signed=True)
    return INIT + number + len(text).to_bytes(4, "little") + text + STATUS
