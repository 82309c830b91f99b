"""The hard set: a perfect crystal and its small strains, and the constraints they make.

A cheap potential that is to meet the expensive one without a misfit must have its lattice
constants and elastic constants, whatever that costs elsewhere (Birks et al., npj Comput. Mater. 12,
110, 2026, pin energies of strained cells). Here the constraints are the stress of the perfect
crystal and the first differences of stresses and forces between opposite strains: linear in the
coefficients, and fewer than energies for the same accuracy. Knows neither models nor files.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

import numpy as np
from numpy.typing import NDArray

from mixserver.arrays import Matrix
from mixserver.distill.labelled import Structure
from mixserver.distill.solve import Constraint
from mixserver.frame import Frame
from mixserver.units import GIGAPASCAL

Block = NDArray[np.float64]

VOIGT: Final = ("xx", "yy", "zz", "yz", "xz", "xy")
PERFECT: Final = "hard-perfect"


def strain(kind: str, size: float) -> Matrix:
    """The symmetric deformation I + e for one of the six kinds; shears have e_ij = size / 2."""
    i, j = ("xyz".index(letter) for letter in kind)
    e = np.zeros((3, 3))
    e[i, j] += size / 2.0
    e[j, i] += size / 2.0
    matrix: Matrix = np.eye(3) + e
    return matrix


def strained(crystal: Frame, kind: str, size: float) -> Frame:
    """The crystal deformed, every atom with its cell."""
    deformation = strain(kind, size)
    return crystal.topology.frame(crystal.positions @ deformation, crystal.cell @ deformation)


def names() -> Iterator[tuple[str, str, int]]:
    """Name, kind of strain and its sign, of each strained cell."""
    for kind in VOIGT:
        for sign in (1, -1):
            yield f"hard-{kind}{sign:+d}", kind, sign


def as_structure(name: str, frame: Frame) -> Structure:
    """A cell of the hard set, undivided."""
    return Structure(
        name=name,
        kind="hard",
        numbers=frame.topology.numbers,
        positions=frame.positions,
        cell=frame.cell,
        group=np.zeros(len(frame), dtype=np.int32),
    )


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
    """What the coefficients must fulfil.

    Args:
        rows: (1 + 3N + 6, p) for the perfect cell and its strains, by their names.
        labels: (1 + 3N + 6,) the expensive model's answers, likewise.
        size: strain of one step.
        volume: Å³ of the perfect cell.
        energy: pin the energy of the perfect crystal.
        lattice: pin its stress.
        elastic: pin the elastic constants.

    Returns:
        Constraints with scales such that 1 is a change as large as the thing itself: 1 eV per
        cell, 100 GPa.
    """
    made: list[Constraint] = []
    perfect, target = rows[PERFECT], labels[PERFECT]
    modulus = volume * 100.0 * GIGAPASCAL  # eV per unit strain
    if energy:
        made.append(Constraint("energy", perfect[:1], target[:1], 1.0))
    if lattice:
        made.append(Constraint("stress", perfect[-6:], target[-6:], 1e-2 * modulus))
        if _matters(perfect[1:-6]):
            made.append(Constraint("forces", perfect[1:-6], target[1:-6], 0.1))
    if elastic:
        step = 2.0 * size
        for kind in VOIGT:
            plus, minus = f"hard-{kind}+1", f"hard-{kind}-1"
            slope = (rows[plus] - rows[minus]) / step
            aim = (labels[plus] - labels[minus]) / step
            made.append(Constraint(f"elastic {kind}", slope[-6:], aim[-6:], modulus))
            if _matters(slope[1:-6]):
                made.append(Constraint(f"internal {kind}", slope[1:-6], aim[1:-6], 10.0))
    return made


def _matters(block: Block) -> bool:
    """Whether symmetry leaves anything of these rows."""
    return bool(np.abs(block).max(initial=0.0) > 1e-7)
