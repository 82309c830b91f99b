"""What defines a mixed potential energy besides the two models: energy offsets and dead loads.

It is determined once and written down, so that a restarted run goes on with the same potential.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Annotated, Final, TypeAlias

import msgspec
import numpy as np
from ase.data import atomic_numbers, chemical_symbols

from mixserver.core.arrays import Indices, Scalars
from mixserver.core.atomic_write import write_atomically
from mixserver.core.errors import ConfigError
from mixserver.core.frame import Frame, Topology
from mixserver.mixing.dead_loads import DeadLoads
from mixserver.mixing.energy_offsets import EnergyOffset

VERSION: Final = 2
"""2: dead loads store the cell in whose orientation they are given."""
_Row: TypeAlias = tuple[float, float, float]
Atom: TypeAlias = Annotated[int, msgspec.Meta(ge=0, lt=1 << 31)]


class _Written(msgspec.Struct, frozen=True):
    """What tells how a file is to be read."""

    version: int = VERSION
    loads: object = None


class Loads(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Dead loads; see `DeadLoads`."""

    atoms: list[Atom]
    forces: list[tuple[float, float, float]]
    places: list[tuple[float, float, float]]
    cell: tuple[_Row, _Row, _Row]


class EnergyReference(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """All of it, as plain numbers and lists."""

    version: int = VERSION
    atoms: int
    settings: str
    """Digest of what else defines the potential: models, elements, [region] and [mixing]."""
    structure: str
    """Digest of the positions and the cell it was determined at."""
    zeros: dict[str, EnergyOffset]
    """Per element."""
    loads: Loads | None = None

    def aligned(self, topology: Topology) -> Scalars:
        """(N,) eV, the zero of each atom's element.

        Raises:
            ConfigError: an element has none.
        """
        found = np.full(len(topology), np.nan)
        for symbol, zero in self.zeros.items():
            found[topology.numbers == atomic_numbers[symbol]] = zero.value
        if not np.isfinite(found).all():
            missing = chemical_symbols[int(topology.numbers[np.flatnonzero(np.isnan(found))[0]])]
            raise ConfigError(
                f"the zero of energy of {missing} is not known; give it in mixing.zeros, or run "
                "mixserver align"
            )
        return found

    @property
    def dead_loads(self) -> DeadLoads | None:
        """The loads as arrays.

        Raises:
            ConfigError: they make none.
        """
        if self.loads is None:
            return None
        return DeadLoads(
            np.array(self.loads.atoms, dtype=np.intp),
            np.array(self.loads.forces, dtype=np.float64).reshape(-1, 3),  # none: (0,)
            np.array(self.loads.places, dtype=np.float64).reshape(-1, 3),
            np.array(self.loads.cell, dtype=np.float64),
        )

    def write(self, file: Path) -> None:
        """Write it down, all of it or nothing.

        A link is replaced, not followed: a run's folder links to the files of its case.

        Raises:
            OSError: the file cannot be written.
        """
        write_atomically(file, msgspec.json.format(msgspec.json.encode(self), indent=0) + b"\n")


def read_energy_reference(file: Path, topology: Topology) -> EnergyReference:
    """Read what `EnergyReference.write` wrote.

    Raises:
        ConfigError: it cannot be read, is something else, or of other atoms.
    """
    cure = f"delete {file}, and it is determined again at the structure's positions"
    try:
        text = file.read_bytes()
        written = msgspec.json.decode(text, type=_Written)
        if written.version == 1 and written.loads is not None:
            raise ConfigError(
                f"{file} has version 1, expected {VERSION}: its dead loads do not say which cell "
                f"they belong to, so they could not turn with it; {cure}"
            )
        if written.version not in (1, VERSION):
            raise ConfigError(f"{file} has version {written.version}, expected {VERSION}; {cure}")
        state = msgspec.json.decode(text, type=EnergyReference)
    except OSError as error:
        raise ConfigError(f"{file} cannot be read: {error.strerror}") from error
    except msgspec.MsgspecError as error:
        raise ConfigError(f"{file} is no state of a mixed energy: {error}; {cure}") from error
    count = len(topology)
    if state.atoms != count:
        raise ConfigError(f"{file} is of {state.atoms} atoms, the structure has {count}; {cure}")
    try:
        loads = state.dead_loads
    except ConfigError as error:
        raise ConfigError(f"{file}: {error}; {cure}") from error
    if loads is not None and not _ascending(loads.atoms, count):
        raise ConfigError(
            f"{file}: dead loads must be on some of the {count} atoms, ascending, one each; {cure}"
        )
    unknown = [symbol for symbol in state.zeros if symbol not in atomic_numbers]
    if unknown:
        raise ConfigError(f"{file}: {unknown[0]!r} is no element symbol; {cure}")
    return state


def _ascending(atoms: Indices, count: int) -> bool:
    """Whether atoms are among `count`, each once, in their order."""
    steps = np.diff(atoms, prepend=-1, append=count)
    return bool((steps > 0).all())


def stored_loads(loads: DeadLoads) -> Loads:
    """Dead loads as plain numbers."""
    forces, places = loads.forces.tolist(), loads.places.tolist()
    a, b, c = loads.cell.tolist()
    return Loads(
        loads.atoms.tolist(),
        [(*f,) for f in forces],
        [(*p,) for p in places],
        ((*a,), (*b,), (*c,)),
    )


def structure_digest(frame: Frame) -> str:
    """Digest of positions and cell, to 1e-6 Å."""
    rounded = np.round(np.vstack((frame.positions, frame.cell)), 6) + 0.0
    return hashlib.sha256(rounded.tobytes()).hexdigest()[:32]


def settings_digest(*parts: object) -> str:
    """Digest of settings, as values that msgspec can write."""
    return hashlib.sha256(msgspec.json.encode(parts, order="deterministic")).hexdigest()[:32]
