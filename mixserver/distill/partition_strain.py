r"""Ghost forces that change with strain: partition rows of strained crystals.

Ghost forces that vanish in the perfect crystal come back when it is strained, unless site energies
depend on strain alike too; dead loads take away the former only. What a strain :math:`\epsilon`
adds to the ghost forces of a region whose lambda moves along with the atoms is, to first order,

.. math::
    \epsilon \sum_j \lambda_j \frac{\partial}{\partial\epsilon}
    \frac{\partial (c_j - e_j)}{\partial r_i}

which is a difference of `partition`'s rows between opposite strains, and linear in the
coefficients. Knows neither models nor files.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mixserver.distill.design import WIDTHS, Design
from mixserver.distill.hard import VOIGT, names, strain
from mixserver.distill.labelled import Labelled
from mixserver.distill.partition import Ball, Division, around, balls, division, pulled
from mixserver.frame import Frame, Topology

Block = NDArray[np.float64]

_KINDS = 2
"""Of the six strains, for each region in turn."""


@dataclass(frozen=True, eq=False)
class Strained:
    """A strained crystal, and how its energy is divided."""

    crystal: Frame
    deformation: Block
    """(3, 3), of the cell's vectors (rows) from the right."""
    target: Division
    """The expensive model's."""
    columns: Division
    """The descriptors'."""


def one_hot_names() -> dict[str, tuple[str, str, int]]:
    """The hard set's strained cell, the kind and the sign, by the name of the one-hot structure."""
    return {f"partition-{kind}{sign:+d}": (name, kind, sign) for name, kind, sign in names()}


def with_strains(
    design: Design,
    crystal: Frame,
    labels: Mapping[str, Labelled],
    rows: Callable[[str], Block],
    *,
    size: float,
    by: float,
    reach: float,
    count: int,
    seed: int,
) -> None:
    """Add what regions feel beyond the perfect crystal's ghost forces when it is strained.

    Args:
        design: has the perfect crystal's ghost rows; is completed.
        crystal: one cell of the perfect crystal.
        labels: of the hard set's strained cells and of their one-hot structures.
        rows: (K, 1 + 3N + 6, p) descriptor rows by name.
        size: the strain of those cells.
        by: the strain that is to matter; ghost forces count as they change by it.
        reach: Å, how far site energies look.
        count: how many regions.
        seed: decides which.

    Raises:
        ValueError: there are no ghost rows to add to.
    """
    if design.ghosts is None:
        raise ValueError("strains come after the perfect crystal's ghost rows")
    regions = balls(crystal, count, np.random.default_rng([seed, 4]), widths=WIDTHS)
    wanted: dict[str, list[Ball]] = {kind: [] for kind in VOIGT}
    for number, region in enumerate(regions):
        for at in range(_KINDS):
            wanted[VOIGT[(_KINDS * number + at) % len(VOIGT)]].append(region)
    for kind, listed in wanted.items():
        if not listed:
            continue
        plus, minus = (
            _strained(labels, rows, f"partition-{kind}{sign:+d}", size) for sign in (1, -1)
        )
        for region in listed:
            ours = _forces(plus, plus.columns, crystal, region, reach)
            ours -= _forces(minus, minus.columns, crystal, region, reach)
            theirs = _forces(plus, plus.target, crystal, region, reach)
            theirs -= _forces(minus, minus.target, crystal, region, reach)
            scale = 0.5 * by / size
            design.ghosts.add(scale * ours, scale * theirs[:, 0])


def _strained(
    labels: Mapping[str, Labelled], rows: Callable[[str], Block], name: str, size: float
) -> Strained:
    cell, kind, sign = one_hot_names()[name]
    unit, labelled, matrix = labels[cell].structure, labels[name], rows(name)
    frame = Topology(unit.numbers).frame(unit.positions, unit.cell)
    basis, n = len(frame), len(labelled.structure)
    theirs = labelled.forces[:basis][..., None]
    ours = matrix[:basis, 1:-6].reshape(basis, n, 3, -1)
    keep = pulled(theirs, ours)
    return Strained(
        frame,
        strain(kind, sign * size),
        division(labelled.structure, basis, theirs, keep),
        division(labelled.structure, basis, ours, keep),
    )


def _forces(one: Strained, of: Division, crystal: Frame, region: Ball, reach: float) -> Block:
    """(3m, p) eV/Å on the atoms that a region pulls at; the same atoms for every strain.

    The region moves along with the cell, so each atom keeps its lambda.
    """
    back = np.linalg.inv(one.deformation)
    found = []
    for basis, at in around(crystal, np.asarray(region.centre), region.radius + reach):
        if len(at):
            shift = one.crystal.positions[basis] - crystal.positions[basis] @ one.deformation
            moved = at @ one.deformation + shift
            forces = of.forces(basis, moved, lambda sites: region(sites @ back))
            found.append(forces.reshape(-1, forces.shape[2]))
    return np.concatenate(found)
