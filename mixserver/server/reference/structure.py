"""The reference structure: atoms and positions for a fixed lambda, energy offsets and dead loads.

i-PI sends neither elements nor units. Where its input is there and takes its atoms from the same
file as mix.toml, i-PI's reader reads the file as its XML specifies. Where it takes them from
another file, both are compared. A file that i-PI's input does not mention is read by itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from mixserver.config import Case
from mixserver.core.arrays import Matrix, Numbers, Vectors
from mixserver.core.cell import has_volume
from mixserver.core.errors import ConfigError
from mixserver.core.frame import Frame, Topology
from mixserver.core.labels import atomic_numbers_of, known_atomic_numbers
from mixserver.core.structures import (
    LabelledStructure,
    existing_file,
    read_labelled_structure,
    stores_pbc,
)
from mixserver.core.units import ANGSTROM
from mixserver.geometry import image_distance, spacing
from mixserver.ipi.consistency import active_atoms, systems_served, uses_this_server
from mixserver.ipi.input import IpiInput, Source, read_input
from mixserver.ipi.start import InitialState, count_frames, read_initial_state

_ALL: Final = (True, True, True)
_VACUUM: Final = 12.0
"""Å: images farther apart than this have no bond between them in any model."""
_NEAR: Final = 0.04
"""Relative: a ratio of lengths this near to that of the units is taken for a unit forgotten."""
_BOX: Final = 20.0
"""Å around atoms whose file has no cell, where no cell is needed."""


@dataclass(frozen=True, slots=True)
class Reference:
    """The reference, and how it came to be read."""

    topology: Topology
    frame: Frame
    labels: tuple[str, ...]
    """(N,) as the file has them."""
    how: str
    """How the file was read, for messages."""


def read_reference(case: Case) -> tuple[Topology, Frame]:
    """The atoms of a case, and where its structure has them, as i-PI reads them.

    Returns:
        Elements and periodicity; positions (N, 3) and cell (3, 3, rows) in Å.

    Raises:
        ConfigError: as `find_reference`.
    """
    found = find_reference(case, find_ipi_input(case))
    return found.topology, found.frame


def find_ipi_input(case: Case) -> IpiInput | None:
    """The i-PI input in a case's folder; None if there is none, or if it uses other servers only.

    Raises:
        ConfigError: it cannot be read.
    """
    file = case.folder / case.config.ipi.input
    if not file.exists():
        return None
    ipi = read_input(file)
    return ipi if uses_this_server(case, ipi) else None


def find_reference(case: Case, ipi: IpiInput | None) -> Reference:
    """Read a case's structure as i-PI reads it, or compare it with what i-PI starts from.

    Without i-PI's input the file alone is used.

    Raises:
        ConfigError: the file or i-PI's input cannot be read; it holds several frames; a label
            is not an element; it has no cell; it is marked as not periodic; or i-PI starts from
            lengths of another unit.
    """
    file = existing_file(case.structure)
    if ipi is not None:
        named = _named(case, ipi, file)
        if named:
            return _as_ipi(case, ipi, *named[0])
    return _alone(case, ipi, file)


def needs_elements(case: Case) -> bool:
    """False if there are only stock clients, which know their atoms themselves."""
    config = case.config
    return config.region is not None or bool(config.local) or not config.workers.clients


def _named(case: Case, ipi: IpiInput, file: Path) -> list[tuple[int, Source]]:
    """The systems of i-PI that take positions from this file, and how: all in the same way.

    Raises:
        ConfigError: they read it in different ways.
    """
    found = [
        (at, source)
        for at, system in systems_served(case, ipi)
        for source in system.sources
        if source.file.is_file() and source.file.samefile(file)
    ]
    ways = {(source.mode, source.units, source.cell_units) for _, source in found}
    if len(ways) > 1:
        ways_read = " and ".join(
            f"mode='{m}' units='{u}' cell_units='{c}'" for m, u, c in sorted(ways)
        )
        raise ConfigError(
            f"{ipi.file.name} reads {file.name} with {ways_read}, so its atoms are in several "
            "places; give every system the same, or name another file as upstream.structure"
        )
    return found


def _as_ipi(case: Case, ipi: IpiInput, at: int, source: Source) -> Reference:
    if case.config.region is not None:
        _one_frame(source, count_frames(source.file, source.mode), ipi.systems[at].beads)
    alone = source.tag != "file" or len(ipi.systems[at].sources) == 1
    start = read_initial_state(ipi.file, at, of=None if alone else source.file)
    labels, positions = start.labels, start.centroid
    active = active_atoms(case, ipi)
    if active and max(active) < len(labels):
        labels, positions = tuple(labels[i] for i in active), positions[list(active)]
    numbers = _numbers(case, labels, source.file)
    pbc = _ALL
    if source.mode == "ase":
        pbc = read_labelled_structure(source.file).pbc if stores_pbc(source.file) else _ALL
    how = f"read by i-PI as {ipi.file.name} specifies, <{source.tag} mode='{source.mode}'>"
    if active:
        how += " and <activelist>"
    return _reference(case, numbers, positions, start.cell, pbc, labels, how)


def _alone(case: Case, ipi: IpiInput | None, file: Path) -> Reference:
    found = read_labelled_structure(file)
    if found.several and case.config.region is not None:
        raise ConfigError(
            f"structure {file} holds several frames, but lambda, energy offsets and dead loads "
            "come from one; write the frame that is meant into a file of its own"
        )
    numbers = _numbers(case, found.labels, file)
    cell = found.cell
    if not has_volume(cell):
        cell = _without_cell(case, found, file)
    how = "read by itself"
    made = _reference(case, numbers, found.positions, cell, found.pbc, found.labels, how)
    if ipi is not None and case.config.region is not None:
        for at, system in systems_served(case, ipi):
            where = ", ".join(source.file.name for source in system.sources) or ipi.file.name
            _same_unit(made, read_initial_state(ipi.file, at), f"{ipi.file.name} ({where})", file)
    return made


def _one_frame(source: Source, frames: int, beads: int) -> None:
    """Refuse a path as reference.

    Raises:
        ConfigError: the file has more than one frame.
    """
    if frames <= 1:
        return
    theirs = (
        f"i-PI would average them into {beads} bead{'s' if beads > 1 else ''}"
        if beads < frames
        else "i-PI takes them as beads or images"
    )
    raise ConfigError(
        f"structure {source.file} holds {frames} frames ({theirs}), but lambda, energy offsets "
        "and dead loads come from one; write the frame that is meant into a file of its own and "
        "name it as upstream.structure"
    )


def _numbers(case: Case, labels: Sequence[str], file: Path) -> Numbers:
    named = case.config.upstream.labels
    if needs_elements(case):
        return atomic_numbers_of(labels, named, str(file))
    return known_atomic_numbers(labels, named)


def _without_cell(case: Case, found: LabelledStructure, file: Path) -> Matrix:
    """A box for atoms that need none.

    Raises:
        ConfigError: they need one.
    """
    if case.config.region is not None:
        raise ConfigError(f"structure {file} has no cell; i-PI always has one, so give it here too")
    widths = np.ptp(found.positions, axis=0) + _BOX
    return np.diag(widths).astype(np.float64)


def _reference(
    case: Case,
    numbers: Numbers,
    positions: Vectors,
    cell: Matrix,
    pbc: tuple[bool, bool, bool],
    labels: tuple[str, ...],
    how: str,
) -> Reference:
    topology = Topology(numbers, pbc=_periodic(case, numbers, positions, cell, pbc))
    return Reference(topology, topology.frame(positions, cell), labels, how)


def _periodic(
    case: Case,
    numbers: Numbers,
    positions: Vectors,
    cell: Matrix,
    stored: tuple[bool, bool, bool],
) -> tuple[bool, bool, bool]:
    """Along which axes the system repeats, by mix.toml, or by the file if it cannot matter.

    Raises:
        ConfigError: the file is marked as not periodic along an axis, and images are so close
            that the results would differ.
    """
    stated = case.config.upstream.periodic
    if stated is not None:
        return stated if isinstance(stated, tuple) else (stated, stated, stated)
    if all(stored) or not needs_elements(case):
        return stored
    free = (not stored[0], not stored[1], not stored[2])
    away = image_distance(Topology(numbers).frame(positions, cell), free, _VACUUM)
    if away >= _VACUUM:
        return stored
    flags = " ".join("T" if one else "F" for one in stored)
    raise ConfigError(
        f'structure {case.structure} has pbc="{flags}", but its images are {away:.2f} Å apart, '
        "and i-PI's cell always repeats: set upstream.periodic = true in mix.toml for a system "
        "that repeats (ASE writes F where Atoms were made without pbc), or false for one that "
        "does not"
    )


def _same_unit(made: Reference, start: InitialState, theirs: str, file: Path) -> None:
    """Refuse two files of which one was read in bohr and the other in Å.

    Raises:
        ConfigError: the ratio of their lengths is that of the units.
    """
    if len(start.labels) != len(made.labels):
        return  # reported elsewhere, by the number of atoms
    frame = Topology(made.topology.numbers).frame(start.centroid, start.cell)
    mine, other = spacing(made.frame), spacing(frame)
    cells = (made.frame.cell, start.cell)
    ratios = {"edges of the cell": np.divide(*(np.linalg.norm(c, axis=1) for c in cells))}
    if mine is not None and other is not None:
        ratios["distances between neighbours"] = np.array([mine.typical / other.typical])
    for what, ratio in ratios.items():
        if min(np.abs(ratio / unit - 1.0).max() for unit in (ANGSTROM, 1.0 / ANGSTROM)) < _NEAR:
            raise ConfigError(
                f"the {what} in structure {file} are {ratio.mean():.4f} times those that i-PI "
                f"starts from ({theirs}): the ratio of Å and bohr, so one of the two is read in "
                "the wrong unit (i-PI takes bohr where no unit is given). Write "
                "positions{angstrom} cell{angstrom} into the comment of i-PI's file, or units= "
                "and cell_units= into its <file>, or name one file in both places"
            )
