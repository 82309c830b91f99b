"""The reference: the atoms and positions that frozen lambda, zeros and dead loads come from.

i-PI sends neither elements nor units. Where its input is there and takes its atoms from the same
file as mix.toml, the file is read by i-PI, as its XML says. Where it takes them from another one,
both are compared. By the file alone goes what i-PI's input does not mention.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from mixserver.agreement import active_atoms, asks_us, systems_asked
from mixserver.arrays import Matrix, Numbers, Vectors
from mixserver.config import Case
from mixserver.errors import ConfigError
from mixserver.frame import Frame, Topology
from mixserver.geometry.spacing import gap, spacing
from mixserver.ipi_input import IpiInput, Source, read_input
from mixserver.ipi_start import Start, frames_in, read_start
from mixserver.labels import known_numbers, numbers_of
from mixserver.record.structures import Labelled, existing, read_labelled, says_pbc
from mixserver.units import ANGSTROM

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
    """By whom and how the file was read, in words."""


def read_reference(case: Case) -> tuple[Topology, Frame]:
    """The atoms of a case, and where its structure has them, as i-PI reads them.

    Returns:
        Elements and periodicity; positions (N, 3) and cell (3, 3, rows) in Å.

    Raises:
        ConfigError: as `find_reference`.
    """
    found = find_reference(case, input_of(case))
    return found.topology, found.frame


def input_of(case: Case) -> IpiInput | None:
    """The i-PI input in a case's folder; None if there is none, or if it asks other servers only.

    Raises:
        ConfigError: it cannot be read.
    """
    file = case.folder / case.config.ipi.input
    if not file.exists():
        return None
    ipi = read_input(file)
    return ipi if asks_us(case, ipi) else None


def find_reference(case: Case, ipi: IpiInput | None) -> Reference:
    """Read a case's structure as i-PI reads it, or compare it with what i-PI starts from.

    Args:
        case: the case.
        ipi: i-PI's input; None to go by the file alone.

    Raises:
        ConfigError: the file or i-PI's input cannot be read; it holds several frames; a label is no
            element; it has no cell; it says that it does not repeat; or i-PI starts from lengths
            of another unit.
    """
    file = existing(case.structure)
    if ipi is not None:
        named = _named(case, ipi, file)
        if named:
            return _as_ipi(case, ipi, *named[0])
    return _alone(case, ipi, file)


def needs_elements(case: Case) -> bool:
    """False where stock clients alone are asked, which know their atoms themselves."""
    config = case.config
    return config.region is not None or bool(config.local) or not config.workers.clients


def _named(case: Case, ipi: IpiInput, file: Path) -> list[tuple[int, Source]]:
    """The systems of i-PI that take positions from this file, and how: all in the same way.

    Raises:
        ConfigError: they read it in different ways.
    """
    found = [
        (at, source)
        for at, system in systems_asked(case, ipi)
        for source in system.sources
        if source.file.is_file() and source.file.samefile(file)
    ]
    ways = {(source.mode, source.units, source.cell_units) for _, source in found}
    if len(ways) > 1:
        told = " and ".join(f"mode='{m}' units='{u}' cell_units='{c}'" for m, u, c in sorted(ways))
        raise ConfigError(
            f"{ipi.file.name} reads {file.name} with {told}, so its atoms are in several places; "
            "give every system the same, or name another file as upstream.structure"
        )
    return found


def _as_ipi(case: Case, ipi: IpiInput, at: int, source: Source) -> Reference:
    if case.config.region is not None:
        _one_frame(source, frames_in(source.file, source.mode), ipi.systems[at].beads)
    alone = source.tag != "file" or len(ipi.systems[at].sources) == 1
    start = read_start(ipi.file, at, of=None if alone else source.file)
    labels, positions = start.labels, start.centroid
    active = active_atoms(case, ipi)
    if active and max(active) < len(labels):
        labels, positions = tuple(labels[i] for i in active), positions[list(active)]
    numbers = _numbers(case, labels, source.file)
    pbc = _ALL
    if source.mode == "ase":
        pbc = read_labelled(source.file).pbc if says_pbc(source.file) else _ALL
    how = f"read by i-PI as {ipi.file.name} says, <{source.tag} mode='{source.mode}'>"
    if active:
        how += " and <activelist>"
    return _reference(case, numbers, positions, start.cell, pbc, labels, how)


def _alone(case: Case, ipi: IpiInput | None, file: Path) -> Reference:
    found = read_labelled(file)
    if found.several and case.config.region is not None:
        raise ConfigError(
            f"structure {file} holds several frames, but lambda, zeros and dead loads come from "
            "one; write the frame that is meant into a file of its own"
        )
    numbers = _numbers(case, found.labels, file)
    cell = found.cell
    if abs(np.linalg.det(cell)) < 1e-6:
        cell = _without_cell(case, found, file)
    how = "read by itself"
    made = _reference(case, numbers, found.positions, cell, found.pbc, found.labels, how)
    if ipi is not None and case.config.region is not None:
        for at, system in systems_asked(case, ipi):
            where = ", ".join(source.file.name for source in system.sources) or ipi.file.name
            _same_unit(made, read_start(ipi.file, at), f"{ipi.file.name} ({where})", file)
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
        f"structure {source.file} holds {frames} frames ({theirs}), but lambda, zeros and dead "
        "loads come from one; write the frame that is meant into a file of its own and name it as "
        "upstream.structure"
    )


def _numbers(case: Case, labels: Sequence[str], file: Path) -> Numbers:
    named = case.config.upstream.labels
    if needs_elements(case):
        return numbers_of(labels, named, str(file))
    return known_numbers(labels, named)


def _without_cell(case: Case, found: Labelled, file: Path) -> Matrix:
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
    said: tuple[bool, bool, bool],
) -> tuple[bool, bool, bool]:
    """Along which axes the system repeats, as mix.toml says, or the file where it cannot matter.

    Raises:
        ConfigError: the file says that it does not repeat along an axis, and images are so near
            that the models would answer otherwise.
    """
    stated = case.config.upstream.periodic
    if stated is not None:
        return stated if isinstance(stated, tuple) else (stated, stated, stated)
    if all(said) or not needs_elements(case):
        return said
    free = (not said[0], not said[1], not said[2])
    away = gap(Topology(numbers).frame(positions, cell), free, _VACUUM)
    if away >= _VACUUM:
        return said
    flags = " ".join("T" if one else "F" for one in said)
    raise ConfigError(
        f'structure {case.structure} says pbc="{flags}", but its images are {away:.2f} Å apart, '
        "and i-PI's cell always repeats: set upstream.periodic = true in mix.toml for a system "
        "that repeats (ASE writes F where Atoms were made without pbc), or false for one that "
        "does not"
    )


def _same_unit(made: Reference, start: Start, theirs: str, file: Path) -> None:
    """Refuse two files of which one was read in bohr and the other in Å.

    Raises:
        ConfigError: the ratio of their lengths is that of the units.
    """
    if len(start.labels) != len(made.labels):
        return  # told elsewhere, by numbers of atoms
    frame = Topology(made.topology.numbers).frame(start.centroid, start.cell)
    mine, other = spacing(made.frame), spacing(frame)
    ratios = {"edges of the cell": _edges(made.frame.cell) / _edges(start.cell)}
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


def _edges(cell: Matrix) -> Vectors:
    edges: Vectors = np.linalg.norm(cell, axis=1)
    return edges
