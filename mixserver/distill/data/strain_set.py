"""The strain set: a perfect crystal, its small strains, and the constraints that they give a fit.

A cheap potential must have the expensive model's lattice and elastic constants to be mixed without
a misfit (Birks et al., npj Comput. Mater. 12, 110, 2026, constrain
energies of strained cells). Here the constraints are the stress of the perfect crystal and the
first differences of stresses and forces between opposite strains: linear in the coefficients, and
fewer than energies for the same accuracy.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

import numpy as np

from mixserver.core.arrays import Block
from mixserver.core.frame import Frame
from mixserver.core.strain import VOIGT, strained, unit_strain
from mixserver.core.units import GIGAPASCAL
from mixserver.distill.fitting.solve import Constraint

PERFECT: Final = "hard-perfect"


def strained_cell(crystal: Frame, kind: str, size: float) -> Frame:
    """The crystal under one of the six kinds of strain, every atom moved with its cell."""
    return strained(crystal, size * unit_strain(kind))


def names() -> Iterator[tuple[str, str, int]]:
    """Name, kind of strain and sign of each strained cell."""
    for kind in VOIGT:
        for sign in (1, -1):
            yield f"hard-{kind}{sign:+d}", kind, sign


def constraints(
    rows: Mapping[str, Block],
    labels: Mapping[str, Block],
    *,
    size: float,
    volume: float,
    energy: bool = True,
    lattice: bool = True,
    elastic: bool = True,
) -> list[Constraint]:
    """The linear constraints on the coefficients.

    Takes the rows (1 + 3N + 6, p) and labels (1 + 3N + 6,) of the perfect cell (volume in Å³) and
    of its strains, by their names. The scales make 1 a change as large as the quantity itself: 1 eV
    per cell, 100 GPa.
    """
    found: list[Constraint] = []
    perfect, target = rows[PERFECT], labels[PERFECT]
    modulus = volume * 100.0 * GIGAPASCAL  # eV per unit strain
    if energy:
        found.append(Constraint("energy", perfect[:1], target[:1], 1.0))
    if lattice:
        found.append(Constraint("stress", perfect[-6:], target[-6:], 1e-2 * modulus))
        if _is_nonzero(perfect[1:-6]):
            found.append(Constraint("forces", perfect[1:-6], target[1:-6], 0.1))
    if elastic:
        step = 2.0 * size
        for kind in VOIGT:
            plus, minus = f"hard-{kind}+1", f"hard-{kind}-1"
            slope = (rows[plus] - rows[minus]) / step
            aim = (labels[plus] - labels[minus]) / step
            found.append(Constraint(f"elastic {kind}", slope[-6:], aim[-6:], modulus))
            if _is_nonzero(slope[1:-6]):
                found.append(Constraint(f"internal {kind}", slope[1:-6], aim[1:-6], 10.0))
    return found


def _is_nonzero(block: Block) -> bool:
    """Whether symmetry makes these rows other than zero."""
    return bool(np.abs(block).max(initial=0.0) > 1e-7)
