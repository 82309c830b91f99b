"""The start of a case: any structure in i-PI's orientation, written with all its digits."""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from ase.data import atomic_masses, chemical_symbols

from mixserver.core.arrays import Matrix, Scalars, Vectors
from mixserver.core.cell import has_volume, plane_spacings, standard_form
from mixserver.core.errors import ConfigError
from mixserver.core.frame import Frame, Topology
from mixserver.core.labels import atomic_numbers_of
from mixserver.core.structures import read_labelled_structure
from mixserver.core.units import ANGSTROM, BOLTZMANN
from mixserver.geometry import spacing

_ATOMIC_TIME: Final = 0.02418884326586
"""fs per atomic unit of time."""
_KINETIC: Final = 103.642697
"""eV per amu Å²/fs² (CODATA 2018)."""
_SAME_MASS: Final = 1e-3
"""Relative difference below which a mass counts as the element's."""
_CROWDED: Final = 0.5
"""Å; closer atoms, or a typical distance this small, mean another unit than Å."""
_SELECTIVE: Final = re.compile(r"^\s*[Ss]elective", re.MULTILINE)
"""In a POSCAR."""
_SPARSE: Final = 8.0
"""Å; a larger typical distance between neighbours means another unit than Å."""


@dataclass(frozen=True)
class Start:
    """Atoms, cell, and what else a run begins with."""

    frame: Frame
    """The cell is in standard form: a along x, b in the xy plane."""
    source: str
    """Where it comes from, for people."""
    notes: tuple[str, ...] = ()
    """What was changed or assumed."""
    velocities: Vectors | None = None
    """(N, 3) Å/fs."""
    masses: Scalars | None = None
    """(N,) amu; None where all are their element's."""
    ids: tuple[int, ...] | None = None
    """LAMMPS's atom ids, in the order of the atoms."""

    @property
    def symbols(self) -> list[str]:
        """Elements, in the order in which they first appear."""
        return [chemical_symbols[z] for z in dict.fromkeys(self.frame.topology.numbers.tolist())]


def read_start(file: Path) -> Start:
    """A structure in any format of ASE or i-PI (not LAMMPS's), turned as i-PI needs it.

    Raises:
        ConfigError: it cannot be read, has no cell, or its lengths cannot be Å.
    """
    found = read_labelled_structure(file)
    if not has_volume(found.cell):
        raise ConfigError(
            f"structure {file} has no cell; i-PI always has one, and periodic images in it. Write "
            'it as extxyz with Lattice="..." (ASE: atoms.center(vacuum=10), atoms.write(...))'
        )
    numbers = atomic_numbers_of(found.labels, {}, f"structure {file}")
    notes: list[str] = []
    if found.several:
        notes.append(f"{file.name} has several frames; the first is used")
    if _SELECTIVE.search("\n".join(_first_lines(file, 9))):
        notes.append(
            "its selective dynamics is not carried over: hold atoms with <fixatoms> in <motion>"
        )
    cell, positions = found.cell, found.positions
    if np.linalg.det(cell) < 0.0:
        cell = cell * np.array([[1.0], [1.0], [-1.0]])
        notes.append("its cell is left-handed: c was replaced by -c, which is the same lattice")
    cell, rotation = standard_form(cell)
    if rotation is not None:
        positions = positions @ rotation
        notes.append(
            "cell and atoms were turned: a along x and b in the xy plane, as i-PI needs it"
        )
    velocities, masses = found.velocities, found.masses
    if velocities is not None and rotation is not None:
        velocities = np.ascontiguousarray(velocities @ rotation)
    if masses is not None and not unusual_masses(numbers.tolist(), masses):
        masses = None
    if masses is not None:
        notes.append("masses are the file's, where they differ from the element's (column masses)")
    notes.extend(found.left_out)
    frame = Topology(numbers, pbc=found.pbc).frame(np.ascontiguousarray(positions), cell)
    start = Start(frame, file.name, tuple(notes), velocities, masses)
    check_lengths(start)
    return start


def _first_lines(file: Path, n: int) -> list[str]:
    with file.open(encoding="utf-8", errors="replace") as lines:
        return list(itertools.islice(lines, n))


def check_lengths(start: Start) -> None:
    """Refuse lengths that cannot be Å.

    Raises:
        ConfigError: atoms are too close or too far apart.
    """
    near = spacing(start.frame)
    if near is None:
        return
    if near.nearest < _CROWDED or near.typical > _SPARSE:
        i, j = near.pair
        raise ConfigError(
            f"{start.source}: neighbours are typically {near.typical:.3g} Å apart, and atoms {i} "
            f"and {j} (from 0) {near.nearest:.3g} Å; expected were lengths in Å. Is it in bohr or "
            "nm, are two atoms in one place, or is the cell another one?"
        )


def narrowest(frame: Frame) -> float:
    """Å, the smallest distance between opposite faces along periodic axes; inf if none is."""
    spacings = plane_spacings(frame.cell)
    along = [h for h, repeats in zip(spacings, frame.topology.pbc, strict=True) if repeats]
    return float(min(along, default=np.inf))


def unusual_masses(numbers: Sequence[int], masses: Scalars) -> bool:
    """Whether some mass is not its element's."""
    usual = atomic_masses[np.asarray(numbers)]
    return bool((np.abs(masses - usual) > _SAME_MASS * usual).any())


def kinetic_temperature(start: Start) -> float:
    """K, of all velocities, as i-PI counts it with the centre of mass free; 0 without any."""
    if start.velocities is None:
        return 0.0
    usual = atomic_masses[start.frame.topology.numbers]
    masses = usual if start.masses is None else start.masses
    twice = float((masses[:, None] * start.velocities**2).sum()) * _KINETIC
    return twice / (3 * len(start.frame)) / BOLTZMANN


def write_start(start: Start, folder: Path) -> None:
    """Write init.extxyz and, with velocities, velocities.xyz."""
    frame = start.frame
    lattice = " ".join(f"{value:.17g}" for value in frame.cell.ravel())
    flags = " ".join("T" if repeats else "F" for repeats in frame.topology.pbc)
    columns = "species:S:1:pos:R:3" + (":masses:R:1" if start.masses is not None else "")
    rows = [str(len(frame)), f'Lattice="{lattice}" Properties={columns} pbc="{flags}"']
    names = [chemical_symbols[z] for z in frame.topology.numbers]
    for at, (name, place) in enumerate(zip(names, frame.positions.tolist(), strict=True)):
        row = f"{name:<2} " + " ".join(f"{value:.17g}" for value in place)
        rows.append(row if start.masses is None else f"{row} {start.masses[at]:.10g}")
    (folder / "init.extxyz").write_text("\n".join(rows) + "\n", encoding="utf-8")
    if start.velocities is not None:
        _write_velocities(names, frame.cell, start.velocities, folder / "velocities.xyz")


def _write_velocities(names: Sequence[str], cell: Matrix, velocities: Vectors, file: Path) -> None:
    """In atomic units: i-PI knows no Å/fs."""
    scaled = velocities * ANGSTROM * _ATOMIC_TIME
    a, b, c = np.linalg.norm(cell, axis=1)
    angles = [
        np.degrees(np.arccos(cell[i] @ cell[j] / np.linalg.norm(cell[i]) / np.linalg.norm(cell[j])))
        for i, j in ((1, 2), (0, 2), (0, 1))
    ]
    box = " ".join(f"{value:.9f}" for value in (a, b, c, *angles))
    rows = [
        str(len(names)),
        f"# CELL(abcABC): {box} velocities{{atomic_unit}} cell{{angstrom}}",
        *(
            f"{name:<2} " + " ".join(f"{value:.17g}" for value in row)
            for name, row in zip(names, scaled.tolist(), strict=True)
        ),
    ]
    file.write_text("\n".join(rows) + "\n", encoding="utf-8")
