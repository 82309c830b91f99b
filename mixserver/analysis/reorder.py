"""Reordering of a case's structure to the atom order of i-PI."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mixserver.config import AtomSeeds, Case, Config, CriterionSeeds
from mixserver.core.arrays import Indices
from mixserver.core.errors import ConfigError
from mixserver.core.frame import Frame, Topology
from mixserver.core.labels import atomic_numbers_of
from mixserver.core.structures import read_labelled_structure, write_frame
from mixserver.geometry.placement import compare
from mixserver.geometry.sites import assignment, typical_spacing
from mixserver.ipi.consistency import systems_served
from mixserver.ipi.start import read_initial_state
from mixserver.server.reference.structure import find_ipi_input, read_reference

_ON_SITE = 0.5
"""Spacings; an atom of i-PI farther from every site of its element is on no site."""
_MOST_AWAY = 0.1
"""Of all atoms; if more are on no site, these are two different structures."""


@dataclass(frozen=True)
class Reordered:
    """A structure in another order."""

    frame: Frame
    """Positions and cell of the structure, atoms in i-PI's order."""
    order: Indices
    """(N,) for each atom its index in the structure."""
    moved: int
    """Number of atoms whose index changed."""
    largest: float
    """Å, the largest distance of an atom of i-PI from its site."""
    indices: dict[str, tuple[int, ...]]
    """Atom indices of mix.toml, by key, in the new order."""


def reorder_case(case: Case, like: Path | None = None) -> Reordered:
    """Order a case's structure as the atoms of a file, or else those of i-PI's input, are.

    Raises:
        ConfigError: a file cannot be read, or the two are not one structure.
    """
    _, reference = read_reference(case)
    order, largest = reordered(reference, _theirs(case, like))
    topology = Topology(reference.topology.numbers[order], reference.topology.pbc)
    return Reordered(
        frame=topology.frame(reference.positions[order], reference.cell),
        order=order,
        moved=int(np.count_nonzero(order != np.arange(len(order)))),
        largest=largest,
        indices=_renumbered(case.config, order),
    )


def reordered(reference: Frame, theirs: Frame) -> tuple[Indices, float]:
    """For each atom of a frame, which atom of a reference it is; and Å, the largest distance.

    Raises:
        ConfigError: they are not one structure.
    """
    if len(reference) != len(theirs):
        raise ConfigError(
            f"i-PI starts from {len(theirs)} atoms, the structure has {len(reference)}: they "
            "cannot be put in one order"
        )
    shift = compare(reference, theirs).shift @ theirs.inverse
    try:
        order, distance = assignment(
            reference, theirs.fractional - shift, theirs.topology.numbers, theirs.cell
        )
    except ValueError as error:
        raise ConfigError(f"i-PI's atoms are not those of the structure: {error}") from error
    away = np.count_nonzero(distance > _ON_SITE * typical_spacing(reference))
    if away > _MOST_AWAY * len(distance):
        raise ConfigError(
            f"{away} of i-PI's {len(distance)} atoms are on no site of the structure, whatever "
            "their order: it is another structure, cell or unit"
        )
    return order, float(distance.max())


def write(found: Reordered, file: Path) -> None:
    """Write the structure as extxyz.

    Raises:
        ConfigError: the file cannot be written.
    """
    try:
        write_frame(file, found.frame)
    except OSError as error:
        raise ConfigError(f"{file} cannot be written: {error.strerror}") from error


def as_text(found: Reordered, file: Path) -> str:
    """The result, and what to set in mix.toml."""
    lines = [
        f"{file}: {found.moved} of {len(found.order)} atoms have another number; i-PI's atoms are "
        f"at most {found.largest:.4f} Å from their sites.",
        f"Now set in mix.toml: upstream.structure = {file.name!r}".replace("'", '"'),
    ]
    lines += [f"  {key} = {list(indices)}" for key, indices in found.indices.items()]
    return "\n".join(lines)


def _renumbered(config: Config, order: Indices) -> dict[str, tuple[int, ...]]:
    now = np.argsort(order)
    seeds = config.region.seeds if config.region is not None else None
    match seeds:
        case AtomSeeds(indices=indices):
            key = "region.seeds.indices"
        case CriterionSeeds(initial=tuple() as indices):
            key = "region.seeds.initial"
        case _:
            return {}
    wrong = [i for i in indices if not 0 <= i < len(now)]
    if wrong:
        raise ConfigError(f"{key} names atom {wrong[0]}, but the structure has {len(now)} atoms")
    return {key: tuple(sorted(int(now[i]) for i in indices))}


def _theirs(case: Case, like: Path | None) -> Frame:
    """The atoms of a file, or else those that i-PI starts from."""
    if like is not None:
        found = read_labelled_structure(like)
        labels, file, positions, cell = found.labels, str(like), found.positions, found.cell
    else:
        ipi = find_ipi_input(case)
        systems = [] if ipi is None else systems_served(case, ipi)
        if ipi is None or not systems:
            raise ConfigError(
                f"{case.folder / case.config.ipi.input} has no <system> that asks this case's "
                "server; name a file with the atoms in i-PI's order: --like FILE"
            )
        start = read_initial_state(ipi.file, systems[0][0])
        labels, file, positions, cell = start.labels, ipi.file.name, start.centroid, start.cell
    numbers = atomic_numbers_of(labels, case.config.upstream.labels, file)
    return Topology(numbers).frame(positions, cell)
