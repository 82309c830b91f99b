"""Reading and writing structure files, through ASE and i-PI's own reader."""

from __future__ import annotations

import contextlib
import io
import re
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from ase import Atoms

from mixserver.core.arrays import Matrix, Scalars, Vectors
from mixserver.core.errors import ConfigError
from mixserver.core.frame import Frame, Topology
from mixserver.core.ipi_import import import_ipi
from mixserver.core.labels import atomic_numbers_of
from mixserver.core.near_files import did_you_mean
from mixserver.core.units import BOHR
from mixserver.core.velocities import known_velocities

_IPI_CELL: Final = re.compile(r"CELL[(\[{](?:abcABC|H|GENH)[)\]}]:")
_IPI_TITLE: Final = re.compile(r"^TITLE.*\b\w+\{\w*\}")
_SAY_PBC: Final = {"extxyz", "traj", "json", "db", "bundletrajectory", "netcdftrajectory"}
"""Formats that store whether a system repeats."""
_LAMMPS_DATA: Final = re.compile(r"^\s*\d+\s+atoms\b.*^.*\bxlo\s+xhi", re.MULTILINE | re.DOTALL)
_LAMMPS_COMMANDS: Final = re.compile(
    r"^[ \t]*(?:units|atom_style|boundary|read_data|lattice|create_box|pair_style)[ \t]+\S",
    re.MULTILINE,
)


@dataclass(frozen=True, slots=True)
class LabelledStructure:
    """The content of a structure file, with the atoms' labels as written."""

    labels: tuple[str, ...]
    """(N,)"""
    positions: Vectors
    """(N, 3) Å."""
    cell: Matrix
    """(3, 3) Å, rows are lattice vectors; all 0 if the file has none."""
    pbc: tuple[bool, bool, bool]
    several: bool
    """True if more frames follow; this is the first."""
    velocities: Vectors | None = None
    """(N, 3) Å/fs; None if the file has none, only zeros, or in no known unit."""
    masses: Scalars | None = None
    """(N,) amu; None if the file has none."""
    left_out: tuple[str, ...] = ()
    """What of the file's velocities was not read, and why, for people."""


def read_structure(file: Path) -> tuple[Topology, Frame]:
    """The atoms of a file and their positions.

    Any format ASE reads, and i-PI's own xyz (see `read_atoms`). A file with ``pbc="F F F"`` is
    not periodic; one without flags is.

    Raises:
        ConfigError: no such file, no format that ASE reads, or a cell without a volume.
    """
    atoms = read_atoms(file)
    if abs(np.linalg.det(atoms.cell[:])) < 1e-6:
        raise ConfigError(f"structure {file} has no cell; i-PI always has one, so give it here too")
    frame = as_frame(atoms)
    return frame.topology, frame


def read_atoms(file: Path, *, units: str = "automatic", cell_units: str = "automatic") -> Atoms:
    """The first frame of a file, with or without a cell, as ASE atoms.

    Args:
        file: in any format ASE reads, or i-PI's xyz.
        units: as `read_labelled_structure`.
        cell_units: as `read_labelled_structure`.

    Returns:
        Positions and cell in Å; isotopes as their elements.

    Raises:
        ConfigError: as `read_labelled_structure`, or a label that is not an element.
    """
    found = read_labelled_structure(file, units=units, cell_units=cell_units)
    return Atoms(
        numbers=atomic_numbers_of(found.labels, {}, f"structure {file}"),
        positions=found.positions,
        cell=found.cell,
        pbc=found.pbc,
    )


def read_labelled_structure(
    file: Path, *, units: str = "automatic", cell_units: str = "automatic"
) -> LabelledStructure:
    """The first frame of a file, by the file alone.

    i-PI's own xyz has a comment like ``# CELL(abcABC): ... positions{angstrom} cell{angstrom}``,
    or CELL(H) or CELL(GENH); without units i-PI means bohr, and so do we. A PDB whose TITLE has
    such units is i-PI's too. Both are read by i-PI's own reader.

    Args:
        file: in any format ASE reads, or i-PI's xyz or PDB.
        units: of positions, as in i-PI's ``<file units='...'>``; only for i-PI's formats.
        cell_units: of the cell, as in ``<file cell_units='...'>``.

    Raises:
        ConfigError: no such file, no format that ASE reads, or a unit that i-PI does not know.
    """
    existing_file(file)
    _refuse_lammps_data(file)
    _refuse_lammps_input(file)
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


def existing_file(file: Path) -> Path:
    """The file, if it is one.

    Raises:
        ConfigError: it is a folder, or does not exist; with names that may have been meant.
    """
    if file.is_dir():
        raise ConfigError(f"structure {file} is a folder; name the file in it")
    if not file.is_file():
        raise ConfigError(f"structure {file} does not exist{_hint(file)}")
    return file


def _hint(file: Path) -> str:
    if not file.parent.is_dir():
        return f"; there is no folder {file.parent}"
    return did_you_mean(file, Path.is_file)


def stores_pbc(file: Path) -> bool:
    """Whether a file's format stores along which axes the system repeats."""
    from ase.io.formats import filetype  # noqa: PLC0415 - heavy

    return bool(filetype(str(file)) in _SAY_PBC)


def _refuse_lammps_data(file: Path) -> None:
    """Refuse a LAMMPS data file: ASE takes it for another format and finds no atoms.

    Raises:
        ConfigError: the file is one.
    """
    if not is_lammps_data(file):
        return
    raise ConfigError(
        f"structure {file} looks like a LAMMPS data file, which names neither its units nor, "
        "without type labels, its elements, and which i-PI cannot read. `mixserver new FOLDER "
        f"--structure {file.name} --units metal` makes a case of it, with a structure that both "
        "read. Or write one with your own units and elements: atoms = ase.io.read(FILE, "
        "format='lammps-data', units='metal', Z_of_type={1: 14}); ase.io.write('init.extxyz', "
        "atoms), for <file mode='ase'>"
    )


def _refuse_lammps_input(file: Path) -> None:
    """Refuse a LAMMPS input: it makes or reads atoms, but holds none.

    Raises:
        ConfigError: the file is one.
    """
    with file.open(encoding="utf-8", errors="replace") as lines:
        if len(_LAMMPS_COMMANDS.findall(lines.read(4096))) < 2:
            return
    raise ConfigError(
        f"structure {file} looks like a LAMMPS input, whose commands make the atoms or read them "
        "from a file. `mixserver new FOLDER --from-lammps "
        f"{file.name} --expensive MODEL` lets LAMMPS do that; or give the file of its read_data"
    )


def is_lammps_data(file: Path) -> bool:
    """Whether a file looks like one that LAMMPS reads with read_data."""
    with file.open(encoding="utf-8", errors="replace") as lines:
        return _LAMMPS_DATA.search(lines.read(4096)) is not None


def _why(error: Exception) -> str:
    """The reason why a reader failed, and what to do."""
    from ase.io.formats import UnknownFileTypeError  # noqa: PLC0415 - heavy

    if isinstance(error, UnknownFileTypeError):
        return f"ASE knows no format of such a name or content ({error}); write it as extxyz"
    if isinstance(error, KeyError):
        return f"{error} is not an element symbol or name that ASE knows there"
    return str(error) or type(error).__name__


def _read_ase(file: Path) -> LabelledStructure | None:
    from ase.io import iread  # noqa: PLC0415 - heavy

    frames = iread(file)
    try:
        atoms = next(frames, None)
    except KeyError:  # a label that is not an element
        plain = _read_plain_xyz(file)
        if plain is None:
            raise
        return plain
    if not isinstance(atoms, Atoms):
        return None
    several = next(frames, None) is not None
    if not atoms.pbc.any() and not stores_pbc(file):
        atoms.pbc = True
    velocities, left_out = known_velocities(file, atoms)
    return LabelledStructure(
        labels=tuple(atoms.symbols),
        positions=np.ascontiguousarray(atoms.positions, dtype=np.float64),
        cell=np.array(atoms.cell[:], dtype=np.float64),
        pbc=(bool(atoms.pbc[0]), bool(atoms.pbc[1]), bool(atoms.pbc[2])),
        several=several,
        velocities=velocities,
        masses=np.array(atoms.get_masses(), dtype=np.float64) if atoms.has("masses") else None,
        left_out=left_out,
    )


def _read_plain_xyz(file: Path) -> LabelledStructure | None:
    """An xyz with nothing in its comment, in Å as ASE has it, with any labels; or None."""
    lines = file.read_text(encoding="utf-8").splitlines()
    if file.suffix != ".xyz" or "Lattice=" in lines[1] or "Properties=" in lines[1]:
        return None
    count = int(lines[0])
    rows = [line.split() for line in lines[2 : 2 + count]]
    return LabelledStructure(
        labels=tuple(row[0] for row in rows),
        positions=np.array([row[1:4] for row in rows], dtype=np.float64),
        cell=np.zeros((3, 3)),
        pbc=(True, True, True),
        several=any(line.strip() for line in lines[2 + count :]),
    )


def _read_ipi(file: Path, units: str, cell_units: str) -> LabelledStructure | None:
    """i-PI's own xyz or PDB, which ASE would read without its cell or units; else None."""
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
    import_ipi()
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
    if np.trace(cell) < 0.0:  # i-PI found no cell in the comment
        raise ConfigError(
            f"structure {file}: i-PI finds no cell in its comment; it wants 'CELL(abcABC): ' and "
            "six numbers, with a blank after the colon"
        )
    return LabelledStructure(
        labels=labels,
        positions=np.array(one["atoms"].q, np.float64).reshape(-1, 3) * BOHR,
        cell=cell,
        pbc=(True, True, True),
        several=several,
    )


def write_frame(file: Path, frame: Frame) -> None:
    """Write one frame as extxyz, without regions."""
    from ase.io import write  # noqa: PLC0415 - heavy

    write(file, as_atoms(frame), format="extxyz")


def as_atoms(frame: Frame) -> Atoms:
    """The frame as ASE atoms."""
    return Atoms(
        numbers=frame.topology.numbers,
        positions=frame.positions,
        cell=frame.cell,
        pbc=frame.topology.pbc,
    )


def as_frame(atoms: Atoms) -> Frame:
    """The frame of ASE atoms, which must have a cell."""
    pbc = (bool(atoms.pbc[0]), bool(atoms.pbc[1]), bool(atoms.pbc[2]))
    topology = Topology(np.asarray(atoms.numbers, dtype=np.int32), pbc=pbc)
    positions = np.ascontiguousarray(atoms.positions, dtype=np.float64)
    return topology.frame(positions, np.array(atoms.cell[:], dtype=np.float64))
