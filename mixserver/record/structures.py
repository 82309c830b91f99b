"""Structures in and out of files, through ASE: the one place that imports its readers."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.io import read, write

from mixserver.arrays import Scalars
from mixserver.errors import ConfigError
from mixserver.frame import Frame, Topology
from mixserver.region.region import Region
from mixserver.units import BOHR

_IPI_CELL = "CELL(abcABC):"


def read_structure(file: Path) -> tuple[Topology, Frame]:
    """The atoms a file names, and where it has them.

    Any format ASE reads, and i-PI's own xyz (a ``# CELL(abcABC): ...`` comment line with
    ``positions{angstrom} cell{angstrom}``; without units i-PI means bohr).

    Raises:
        ConfigError: no such file, nothing ASE understands, or a cell without a volume.
    """
    if not file.is_file():
        raise ConfigError(f"structure {file} does not exist")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            atoms = _read_ipi_xyz(file) or read(file)
    except Exception as error:  # ASE's readers raise anything
        raise ConfigError(f"structure {file} cannot be read: {error}") from error
    if not isinstance(atoms, Atoms) or len(atoms) == 0:
        raise ConfigError(f"structure {file} holds no atoms")
    if abs(np.linalg.det(atoms.cell[:])) < 1e-6:
        raise ConfigError(f"structure {file} has no cell; i-PI always has one, so give it here too")
    pbc = tuple(bool(p) for p in atoms.pbc) if atoms.pbc.any() else (True, True, True)
    topology = Topology(np.asarray(atoms.numbers, dtype=np.int32), pbc=(pbc[0], pbc[1], pbc[2]))
    positions = np.ascontiguousarray(atoms.positions, dtype=np.float64)
    frame = topology.frame(positions, np.array(atoms.cell[:], dtype=np.float64))
    return topology, frame


def _read_ipi_xyz(file: Path) -> Atoms | None:
    """i-PI's own xyz flavour, which ASE would read without its cell; None if it is none."""
    if file.suffix != ".xyz":
        return None
    lines = file.read_text(encoding="utf-8").splitlines()
    comment = lines[1] if len(lines) > 1 else ""
    if _IPI_CELL not in comment:
        return None
    words = comment.split(_IPI_CELL)[1].split()
    cell_unit = 1.0 if "cell{angstrom}" in comment else BOHR
    unit = 1.0 if "positions{angstrom}" in comment else BOHR
    cellpar = [float(word) for word in words[:6]]
    cellpar[:3] = [length * cell_unit for length in cellpar[:3]]
    count = int(lines[0])
    rows = [row.split() for row in lines[2 : 2 + count]]
    return Atoms(
        symbols=[row[0] for row in rows],
        positions=np.array([[float(x) for x in row[1:4]] for row in rows]) * unit,
        cell=cellpar,
        pbc=True,
    )


def with_region(frame: Frame, region: Region, shell: Scalars | None = None) -> Atoms:
    """The frame as ASE atoms with lambda (and the shell, if given) per atom, for OVITO."""
    atoms = Atoms(
        numbers=frame.topology.numbers,
        positions=frame.positions,
        cell=frame.cell,
        pbc=frame.topology.pbc,
    )
    atoms.info["evaluation"] = frame.number
    atoms.info["bead"] = frame.bead
    atoms.set_array("lambda", region.expensive)
    seed = np.zeros(len(frame), dtype=int)
    seed[region.seeds] = 1
    atoms.set_array("seed", seed)
    if shell is not None:
        atoms.set_array("shell", shell.astype(int))
    return atoms


def write_frame(file: Path, frame: Frame) -> None:
    """Write one frame as extxyz, without regions."""
    atoms = Atoms(
        numbers=frame.topology.numbers,
        positions=frame.positions,
        cell=frame.cell,
        pbc=frame.topology.pbc,
    )
    write(file, atoms, format="extxyz")


def append_region(file: Path, frame: Frame, region: Region) -> None:
    """Append one frame of lambda to an extxyz file."""
    write(file, with_region(frame, region), format="extxyz", append=True)
