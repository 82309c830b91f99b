"""Structures in and out of files, through ASE: the one place that imports its readers."""

from __future__ import annotations

import difflib
import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import numpy as np
from ase import Atoms
from ase.geometry import cell_to_cellpar, cellpar_to_cell
from ase.io import read, write
from ase.io.formats import filetype

from mixserver.arrays import Matrix, Scalars
from mixserver.errors import ConfigError
from mixserver.frame import Frame, Topology
from mixserver.region.region import Region
from mixserver.units import BOHR

_IPI_CELL: Final = re.compile(r"CELL[(\[{](abcABC|H|GENH)[)\]}]:([-+.\dEe\s]*)")
_IPI_UNIT: Final = re.compile(r"\b(\w+)\{(\w*)\}")
_LENGTHS: Final = {
    "": BOHR,
    "automatic": BOHR,
    "atomic_unit": BOHR,
    "angstrom": 1.0,
    "ase": 1.0,
    "nanometer": 10.0,
    "picometer": 0.01,
}
"""Å per unit, by i-PI's names."""
_SAY_PBC: Final = {"extxyz", "traj", "json", "db", "bundletrajectory", "netcdftrajectory"}
"""Formats that say whether a system repeats. Others are of systems that do, or do not say."""


def read_structure(file: Path) -> tuple[Topology, Frame]:
    """The atoms a file names, and where it has them.

    Any format ASE reads, and i-PI's own xyz (see `read_atoms`). A file that says ``pbc="F F F"``
    is taken at its word; one that does not say is periodic.

    Raises:
        ConfigError: no such file, nothing ASE understands, or a cell without a volume.
    """
    atoms = read_atoms(file)
    if abs(np.linalg.det(atoms.cell[:])) < 1e-6:
        raise ConfigError(f"structure {file} has no cell; i-PI always has one, so give it here too")
    pbc = (bool(atoms.pbc[0]), bool(atoms.pbc[1]), bool(atoms.pbc[2]))
    topology = Topology(np.asarray(atoms.numbers, dtype=np.int32), pbc=pbc)
    positions = np.ascontiguousarray(atoms.positions, dtype=np.float64)
    frame = topology.frame(positions, np.array(atoms.cell[:], dtype=np.float64))
    return topology, frame


def read_atoms(file: Path, *, units: str = "automatic", cell_units: str = "automatic") -> Atoms:
    """What a file holds, with or without a cell.

    i-PI's own xyz has a comment like ``# CELL(abcABC): ... positions{angstrom} cell{angstrom}``,
    or CELL(H) or CELL(GENH); without units i-PI means bohr, and so do we.

    Args:
        file: in any format ASE reads, or i-PI's xyz.
        units: of positions, as i-PI's ``<file units='...'>`` says; only for i-PI's xyz.
        cell_units: of the cell, as ``<file cell_units='...'>`` says.

    Returns:
        Positions and cell in Å.

    Raises:
        ConfigError: no such file, nothing ASE understands, or a unit that i-PI does not know.
    """
    if file.is_dir():
        raise ConfigError(f"structure {file} is a folder; name the file in it")
    if not file.is_file():
        raise ConfigError(f"structure {file} does not exist{_near(file)}")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            atoms = _read_ipi_xyz(file, units, cell_units) or _read_ase(file)
    except ConfigError:
        raise
    except Exception as error:  # ASE's readers raise anything
        raise ConfigError(f"structure {file} cannot be read: {error}") from error
    if not isinstance(atoms, Atoms) or len(atoms) == 0:
        raise ConfigError(f"structure {file} holds no atoms")
    return atoms


def _near(file: Path) -> str:
    """Files that may have been meant."""
    if not file.parent.is_dir():
        return f"; there is no folder {file.parent}"
    names = sorted(entry.name for entry in file.parent.iterdir() if entry.is_file())
    near = difflib.get_close_matches(file.name, names, n=2)
    return f"; did you mean {' or '.join(near)}?" if near else ""


def _read_ase(file: Path) -> object:
    atoms = read(file)
    if isinstance(atoms, Atoms) and not atoms.pbc.any() and filetype(str(file)) not in _SAY_PBC:
        atoms.pbc = True
    return atoms


def _read_ipi_xyz(file: Path, units: str, cell_units: str) -> Atoms | None:
    """i-PI's own xyz flavour, which ASE would read without its cell; None if it is none."""
    if file.suffix != ".xyz":
        return None
    lines = file.read_text(encoding="utf-8").splitlines()
    comment = lines[1] if len(lines) > 1 else ""
    found = _IPI_CELL.search(comment)
    if found is None:
        return None
    said = _IPI_UNIT.findall(comment)
    unit = _length(next((unit for what, unit in said if what.lower() != "cell"), units), file)
    cell_unit = _length(next((unit for what, unit in said if what == "cell"), cell_units), file)
    count = int(lines[0])
    rows = [row.split() for row in lines[2 : 2 + count]]
    if len(rows) != count:
        raise ConfigError(f"structure {file} announces {count} atoms but has {len(rows)}")
    positions = np.array([[float(x) for x in row[1:4]] for row in rows])
    cell, turn = _ipi_cell(found[1], np.array(found[2].split(), dtype=np.float64), file)
    return Atoms(
        symbols=[row[0] for row in rows],
        positions=positions @ turn * unit,
        cell=cell * cell_unit,
        pbc=True,
    )


def _ipi_cell(kind: str, numbers: Scalars, file: Path) -> tuple[Matrix, Matrix]:
    """(3, 3) rows of a cell in the file's unit, and what turns positions as i-PI turns them."""
    wanted = 6 if kind == "abcABC" else 9
    if len(numbers) < wanted:
        raise ConfigError(
            f"structure {file}: CELL({kind}) needs {wanted} numbers, got {len(numbers)}"
        )
    if kind == "abcABC":
        return np.asarray(cellpar_to_cell(numbers[:6]), dtype=np.float64), np.eye(3)
    matrix = numbers[:9].reshape(3, 3)
    if kind == "H":  # lattice vectors are columns
        return np.ascontiguousarray(matrix.T), np.eye(3)
    # GENH has them as rows, in any orientation: i-PI turns the system until a lies along x
    turned: Matrix = np.asarray(cellpar_to_cell(cell_to_cellpar(matrix)), dtype=np.float64)
    return turned, np.linalg.inv(matrix).astype(np.float64) @ turned


def _length(unit: str, file: Path) -> float:
    """Å per unit of length."""
    scale = _LENGTHS.get(unit)
    if scale is None:
        known = ", ".join(name for name in _LENGTHS if name)
        raise ConfigError(f"structure {file}: {unit!r} is not a unit known here: {known}")
    return scale


def with_region(frame: Frame, region: Region, shell: Scalars | None = None) -> Atoms:
    """The frame as ASE atoms with lambda (and the shell, if given) per atom, for OVITO."""
    atoms = _as_atoms(frame)
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
    write(file, _as_atoms(frame), format="extxyz")


def append_region(
    file: Path, frame: Frame, region: Region, scalars: Mapping[str, float] | None = None
) -> None:
    """Append one frame of lambda to an extxyz file, with scalars beside its cell."""
    atoms = with_region(frame, region)
    atoms.info.update(scalars or {})
    write(file, atoms, format="extxyz", append=True)


def _as_atoms(frame: Frame) -> Atoms:
    return Atoms(
        numbers=frame.topology.numbers,
        positions=frame.positions,
        cell=frame.cell,
        pbc=frame.topology.pbc,
    )
