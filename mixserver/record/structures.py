"""Structures in and out of files, through ASE: the one place that imports its readers."""

from __future__ import annotations

import contextlib
import difflib
import io
import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from ase import Atoms
from ase.io import iread, write
from ase.io.formats import UnknownFileTypeError, filetype

from mixserver.arrays import Matrix, Scalars, Vectors
from mixserver.errors import ConfigError
from mixserver.frame import Frame, Topology
from mixserver.labels import numbers_of
from mixserver.region.region import Region
from mixserver.units import BOHR

_IPI_CELL: Final = re.compile(r"CELL[(\[{](?:abcABC|H|GENH)[)\]}]:")
_IPI_TITLE: Final = re.compile(r"^TITLE.*\b\w+\{\w*\}")
_SAY_PBC: Final = {"extxyz", "traj", "json", "db", "bundletrajectory", "netcdftrajectory"}
"""Formats that say whether a system repeats. Others are of systems that do, or do not say."""
_LAMMPS_DATA: Final = re.compile(r"^\s*\d+\s+atoms\b.*^.*\bxlo\s+xhi", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True, slots=True)
class Labelled:
    """What a structure file holds, with its atoms' labels as they stand there."""

    labels: tuple[str, ...]
    """(N,)"""
    positions: Vectors
    """(N, 3) Å."""
    cell: Matrix
    """(3, 3) Å, rows are lattice vectors; all 0 if the file has none."""
    pbc: tuple[bool, bool, bool]
    several: bool
    """True if more frames follow; this is the first."""


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
    """What the first frame of a file holds, with or without a cell, as ASE atoms.

    Args:
        file: in any format ASE reads, or i-PI's xyz.
        units: as `read_labelled`.
        cell_units: as `read_labelled`.

    Returns:
        Positions and cell in Å; isotopes as their elements.

    Raises:
        ConfigError: as `read_labelled`, or a label that is no element.
    """
    found = read_labelled(file, units=units, cell_units=cell_units)
    return Atoms(
        numbers=numbers_of(found.labels, {}, f"structure {file}"),
        positions=found.positions,
        cell=found.cell,
        pbc=found.pbc,
    )


def read_labelled(
    file: Path, *, units: str = "automatic", cell_units: str = "automatic"
) -> Labelled:
    """The first frame of a file, by the file alone.

    i-PI's own xyz has a comment like ``# CELL(abcABC): ... positions{angstrom} cell{angstrom}``,
    or CELL(H) or CELL(GENH); without units i-PI means bohr, and so do we. A PDB whose TITLE has
    such units is i-PI's too. Both are read by i-PI's own reader.

    Args:
        file: in any format ASE reads, or i-PI's xyz or PDB.
        units: of positions, as i-PI's ``<file units='...'>`` says; only for i-PI's formats.
        cell_units: of the cell, as ``<file cell_units='...'>`` says.

    Raises:
        ConfigError: no such file, nothing ASE understands, or a unit that i-PI does not know.
    """
    existing(file)
    _refuse_lammps_data(file)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = _read_ipi(file, units, cell_units) or _read_ase(file)
    except ConfigError:
        raise
    except Exception as error:  # readers raise anything
        raise ConfigError(f"structure {file} cannot be read: {_why(error)}") from error
    if found is None or len(found.labels) == 0:
        raise ConfigError(f"structure {file} holds no atoms")
    return found


def existing(file: Path) -> Path:
    """The file, if it is one.

    Raises:
        ConfigError: it is a folder, or does not exist; with names that may have been meant.
    """
    if file.is_dir():
        raise ConfigError(f"structure {file} is a folder; name the file in it")
    if not file.is_file():
        raise ConfigError(f"structure {file} does not exist{_near(file)}")
    return file


def _near(file: Path) -> str:
    """Files that may have been meant."""
    if not file.parent.is_dir():
        return f"; there is no folder {file.parent}"
    names = sorted(entry.name for entry in file.parent.iterdir() if entry.is_file())
    near = difflib.get_close_matches(file.name, names, n=2)
    return f"; did you mean {' or '.join(near)}?" if near else ""


def says_pbc(file: Path) -> bool:
    """Whether a file's format has flags that say along which axes the system repeats."""
    return bool(filetype(str(file)) in _SAY_PBC)


def _refuse_lammps_data(file: Path) -> None:
    """ASE takes such files for something else, and finds no atoms.

    Raises:
        ConfigError: it is one.
    """
    with file.open(encoding="utf-8", errors="replace") as lines:
        if not _LAMMPS_DATA.search(lines.read(4096)):
            return
    raise ConfigError(
        f"structure {file} looks like a LAMMPS data file, which says neither its units nor, "
        "without type labels, its elements, and which i-PI cannot read. Write what both read, "
        "with your own units and elements: atoms = ase.io.read(FILE, format='lammps-data', "
        "units='metal', Z_of_type={1: 14}); ase.io.write('init.extxyz', atoms), for "
        "<file mode='ase'>"
    )


def _why(error: Exception) -> str:
    """What a reader could not do, in words, and what to do."""
    if isinstance(error, UnknownFileTypeError):
        return f"ASE knows no format of such a name or content ({error}); write it as extxyz"
    if isinstance(error, KeyError):
        return f"{error} is no element symbol or name that ASE knows there"
    return str(error) or type(error).__name__


def _read_ase(file: Path) -> Labelled | None:
    frames = iread(file)
    try:
        atoms = next(frames, None)
    except KeyError:  # a label that is no element
        plain = _read_plain_xyz(file)
        if plain is None:
            raise
        return plain
    if not isinstance(atoms, Atoms):
        return None
    several = next(frames, None) is not None
    if not atoms.pbc.any() and not says_pbc(file):
        atoms.pbc = True
    return Labelled(
        labels=tuple(atoms.symbols),
        positions=np.ascontiguousarray(atoms.positions, dtype=np.float64),
        cell=np.array(atoms.cell[:], dtype=np.float64),
        pbc=(bool(atoms.pbc[0]), bool(atoms.pbc[1]), bool(atoms.pbc[2])),
        several=several,
    )


def _read_plain_xyz(file: Path) -> Labelled | None:
    """An xyz with nothing in its comment, in Å as ASE has it, with any labels; or None."""
    lines = file.read_text(encoding="utf-8").splitlines()
    if file.suffix != ".xyz" or "Lattice=" in lines[1] or "Properties=" in lines[1]:
        return None
    count = int(lines[0])
    rows = [line.split() for line in lines[2 : 2 + count]]
    return Labelled(
        labels=tuple(row[0] for row in rows),
        positions=np.array([row[1:4] for row in rows], dtype=np.float64),
        cell=np.zeros((3, 3)),
        pbc=(True, True, True),
        several=any(line.strip() for line in lines[2 + count :]),
    )


def _read_ipi(file: Path, units: str, cell_units: str) -> Labelled | None:
    """i-PI's own xyz or PDB, which ASE would read without its cell or units; None if it is none."""
    if file.suffix not in {".xyz", ".pdb"}:
        return None
    with file.open(encoding="utf-8") as lines:
        first, second = lines.readline(), lines.readline()
    if file.suffix == ".xyz" and _IPI_CELL.search(second):
        mode = "xyz"
    elif file.suffix == ".pdb" and _IPI_TITLE.match(first):
        mode = "pdb"
    else:
        return None
    from ipi.utils.io import iter_file_raw, read_file  # noqa: PLC0415 - heavy

    with contextlib.redirect_stdout(io.StringIO()), file.open(encoding="utf-8") as handle:
        try:
            one = read_file(mode, handle, "length", units, cell_units)
        except TypeError as error:
            if "unit" not in str(error):
                raise
            known = "angstrom, nanometer, picometer, atomic_unit (bohr), and others of i-PI's"
            raise ConfigError(
                f"structure {file}: {str(error).split()[0]!r} is not a unit known here: {known}"
            ) from error
        several = next(iter_file_raw(mode, handle), None) is not None
    labels = tuple(str(label) for label in one["atoms"].names)
    if "" in labels:
        raise ConfigError(
            f"structure {file} announces {len(labels)} atoms but has {labels.index('')}"
        )
    cell = np.ascontiguousarray(np.array(one["cell"].h, np.float64).T * BOHR)
    if np.trace(cell) < 0.0:  # i-PI's sign of a comment in which it found none
        raise ConfigError(
            f"structure {file}: i-PI finds no cell in its comment; it wants 'CELL(abcABC): ' and "
            "six numbers, with a blank after the colon"
        )
    return Labelled(
        labels=labels,
        positions=np.array(one["atoms"].q, np.float64).reshape(-1, 3) * BOHR,
        cell=cell,
        pbc=(True, True, True),
        several=several,
    )


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
