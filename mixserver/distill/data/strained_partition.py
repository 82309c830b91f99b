r"""Change of ghost forces with strain: rows of least squares from strained crystals.

Ghost forces that vanish in the perfect crystal return when it is strained, unless the site energies
of both models depend on strain alike; dead loads cancel only the former. To first order a strain
:math:`\epsilon` adds, to the ghost forces of a region whose lambda moves with the atoms,

.. math::
    \epsilon \sum_j \lambda_j \frac{\partial}{\partial\epsilon}
    \frac{\partial (c_j - e_j)}{\partial r_i}

which is a difference of the rows of `energy_partition` between opposite strains, and linear in the
coefficients.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from mixserver.core.arrays import Block, Matrix, Scalars
from mixserver.core.frame import Frame
from mixserver.core.strain import VOIGT, unit_strain
from mixserver.distill.data.energy_partition import (
    SiteGradients,
    SphericalRegion,
    atoms_around,
    random_regions,
    site_gradients_of,
)
from mixserver.distill.data.labels import LabelledStructure
from mixserver.distill.data.strain_set import names

_KINDS = 2
"""Of the six strains, used for each region in turn."""


def one_hot_names() -> dict[str, tuple[str, str, int]]:
    """The strained cell, the kind and the sign, by the name of the one-hot structure."""
    return {f"partition-{kind}{sign:+d}": (name, kind, sign) for name, kind, sign in names()}


def strained_ghost_rows(
    crystal: Frame,
    labels: Callable[[str], LabelledStructure],
    rows: Callable[[str], Block],
    *,
    size: float,
    by: float,
    reach: float,
    count: int,
    seed: int,
) -> Iterator[tuple[Block, Scalars]]:
    """The changes of random regions' ghost forces under a strain `by`.

    The crystals are strained by `size`. Labels are of these cells and of their one-hot structures,
    by name; so are the descriptor rows (K, 1 + 3N + 6, p).

    Yields:
        Rows (3m, p) and targets (3m,), eV/Å.
    """
    regions = random_regions(crystal, count, np.random.default_rng([seed, 4]))
    for number, kind in enumerate(VOIGT):
        listed = [r for at, r in enumerate(regions) if (number - _KINDS * at) % len(VOIGT) < _KINDS]
        if not listed:
            continue
        plus, minus = (
            _strained_crystal(labels, rows, f"partition-{kind}{sign:+d}", size) for sign in (1, -1)
        )
        for region in listed:
            cheap, expensive = (
                (0.5 * by / size)
                * (
                    _forces(plus, plus.gradients[model], crystal, region, reach)
                    - _forces(minus, minus.gradients[model], crystal, region, reach)
                )
                for model in ("cheap", "expensive")
            )
            yield cheap, expensive[:, 0]


@dataclass(frozen=True, eq=False)
class _StrainedCrystal:
    """A strained crystal and the gradients of its site energies."""

    crystal: Frame
    deformation: Matrix
    """(3, 3), multiplies the cell's vectors (rows) from the right."""
    gradients: dict[str, SiteGradients]
    """Those of the cheap model per descriptor."""


def _strained_crystal(
    labels: Callable[[str], LabelledStructure], rows: Callable[[str], Block], name: str, size: float
) -> _StrainedCrystal:
    cell, kind, sign = one_hot_names()[name]
    frame = labels(cell).structure.frame
    expensive, cheap = site_gradients_of(labels(name), rows(name), len(frame))
    deformation: Matrix = np.eye(3) + sign * size * unit_strain(kind)
    return _StrainedCrystal(frame, deformation, {"expensive": expensive, "cheap": cheap})


def _forces(
    strained: _StrainedCrystal,
    gradients: SiteGradients,
    crystal: Frame,
    region: SphericalRegion,
    reach: float,
) -> Block:
    """Forces (3m, p) eV/Å on the atoms within reach of a region; the same atoms for every strain.

    The region moves with the cell, so each atom keeps its lambda.
    """
    inverse = np.linalg.inv(strained.deformation)
    found = []
    for basis, at in atoms_around(crystal, np.asarray(region.centre), region.radius + reach):
        if len(at):
            rest = crystal.positions[basis] @ strained.deformation
            moved = at @ strained.deformation + (strained.crystal.positions[basis] - rest)
            forces = gradients.forces(basis, moved, lambda sites: region(sites @ inverse))
            found.append(forces.reshape(-1, forces.shape[2]))
    return np.concatenate(found)
