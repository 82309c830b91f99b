"""What a worker found in a LAMMPS input: its lines, and the state after its set-up, as JSON.

LAMMPS itself executes the set-up (box, atoms, types, masses, velocities); the lines of the run are
recorded with their variables evaluated. Numbers are in LAMMPS's own units, which `units` names.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

import msgspec

from mixserver.core.errors import ProtocolError

Use: TypeAlias = Literal["executed", "potential", "recorded", "after_run"]
"""What became of a line: LAMMPS executed it; it belongs to the potential (executed too, unless the
potential is another); it was only recorded; it stands below the first run, and nobody looked."""


class InputLine(msgspec.Struct, frozen=True):
    """One command of an input."""

    file: str
    """Name of the file it is in: the input, or one that it includes."""
    number: int
    """Line in that file, from 1."""
    text: str
    """As written, with continued lines joined."""
    words: tuple[str, ...]
    """Its words, with variables evaluated where LAMMPS could."""
    use: Use
    atoms: tuple[int, ...] | None = None
    """Of a fix on some atoms only: their indices, from 0. None: all atoms, or no fix."""


class LammpsState(msgspec.Struct, frozen=True):
    """An input as LAMMPS understood it, just before its first run."""

    lines: tuple[InputLine, ...]
    units: str
    """LAMMPS's unit style: "metal", "real", ..."""
    periodic: tuple[bool, bool, bool]
    origin: tuple[float, float, float]
    """Lower corner of the box."""
    edges: tuple[float, float, float]
    """Lengths of the box along x, y and z."""
    tilts: tuple[float, float, float]
    """xy, xz, yz."""
    positions: tuple[tuple[float, float, float], ...]
    """(N, 3), in the order of atom ids."""
    velocities: tuple[tuple[float, float, float], ...]
    """(N, 3); all 0 if none were set."""
    types: tuple[int, ...]
    """(N,) from 1."""
    ids: tuple[int, ...]
    """(N,) LAMMPS's atom ids, ascending."""
    masses: tuple[float, ...]
    """Of atom types 1, 2, ...; 0 where none is set."""
    labels: tuple[str, ...]
    """Type labels of atom types 1, 2, ...; empty if there is no label map."""
    bonds: int
    """Bonds, angles and dihedrals together."""
    charged: bool
    """Whether some atom has a charge."""


def to_json(state: LammpsState) -> bytes:
    """The state as JSON; numbers keep all their digits."""
    return msgspec.json.encode(state)


def from_json(data: bytes) -> LammpsState:
    """The state that `to_json` wrote.

    Raises:
        ProtocolError: it is something else.
    """
    try:
        return msgspec.json.decode(data, type=LammpsState)
    except msgspec.MsgspecError as error:
        raise ProtocolError(f"this is not the state of a LAMMPS input: {error}") from error
