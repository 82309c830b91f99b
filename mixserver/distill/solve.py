r"""Coefficients: soft least squares under hard linear constraints.

.. math:: \min_c |A c - y|^2 + \mu^2 |D c|^2 \quad\text{with}\quad A_H c = y_H

D makes all columns of A equally long, so that mu has no unit. Exact constraints are met by the
null-space method (Golub and Van Loan, Matrix Computations, 4th ed., 6.2): it shows which
constraints say the same and which contradict each other, which LAPACK's dgglse does not. With a
tolerance the constraints become rows with a common multiplier, the least one for which they are met
well enough (Birks et al., npj Comput. Mater. 12, 110, 2026). Knows no potential and no files.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from mixserver.arrays import Scalars
from mixserver.distill.equations import Equations
from mixserver.errors import ConfigError

Block = NDArray[np.float64]

REDUNDANT: Final = 1e-5
"""Singular values of unit rows, relative to the largest, below which constraints are the same."""
CONTRADICTION: Final = 3e-3
"""In the constraints' own scales: how far apart constraints may be that are the same."""
_SINGULAR: Final = 1e-13
_POWERS: Final = 24
_HALVINGS: Final = 40
RIDGES: Final = tuple(10.0**power for power in range(-12, -1))
_AS_GOOD: Final = 1.01
"""A larger ridge is taken if its validation error is no more than this times the least."""


@dataclass(frozen=True, eq=False)
class Constraint:
    """Rows that must hold."""

    label: str
    """For people."""
    rows: Block
    """(m, p)."""
    target: Scalars
    """(m,)."""
    scale: float
    """What counts as a large residual, in the rows' own unit."""


@dataclass(frozen=True, eq=False)
class Solution:
    """Coefficients, and how they came about."""

    coefficients: Scalars
    """(p,)."""
    rank: int
    """How many independent constraints there are."""
    redundant: int
    """How many rows of constraints say what others say."""
    violation: float
    """The largest residual of a constraint, in its scale."""
    condition: float
    """Of the soft rows in the directions that are left free, columns scaled."""
    ridge: float
    """mu."""
    multiplier: float | None = None
    """With a tolerance: what constraints were multiplied by."""


def solve(
    soft: Equations,
    constraints: Sequence[Constraint] = (),
    *,
    ridge: float = 0.0,
    alpha: float | None = None,
) -> Solution:
    """Solve for the coefficients.

    Args:
        soft: what is to be met as well as possible.
        constraints: what must hold.
        ridge: mu; 0 for none.
        alpha: None for exact constraints; else the rms residual, in their scales, within which
            they must hold.

    Raises:
        ConfigError: constraints contradict each other, leave nothing free, or cannot be met within
            alpha; or the soft rows do not determine all coefficients and there is no ridge.
    """
    p = soft.columns
    matrix, target = soft.factor[:, :-1], soft.factor[:, -1]
    length = np.linalg.norm(matrix, axis=0)
    length[length == 0.0] = 1.0
    scaled = matrix / length
    hard, aims, labels = _stacked(constraints, length, p)
    if alpha is not None and len(hard):
        return _within(scaled, target, (hard, aims), length, ridge, alpha)
    start, free, rank = _independent(hard, aims, labels, p)
    found, condition = _least(scaled @ free, target - scaled @ start, free, start, ridge)
    left = hard @ found - aims
    return Solution(
        coefficients=found / length,
        rank=rank,
        redundant=len(hard) - rank,
        violation=float(np.abs(left).max(initial=0.0)),
        condition=condition,
        ridge=ridge,
    )


def solve_validated(
    train: Equations,
    validation: Equations,
    constraints: Sequence[Constraint] = (),
    *,
    alpha: float | None = None,
) -> Solution:
    """Solve with the ridge that serves rows best which were not fitted.

    Of ridges that are equally good the largest is taken: it has the smaller coefficients.

    Raises:
        ConfigError: as `solve`.
    """
    tried = [solve(train, constraints, ridge=ridge, alpha=alpha) for ridge in RIDGES]
    errors = [validation.residual(solution.coefficients) for solution in tried]
    best = min(errors)
    good = [
        solution
        for solution, error in zip(tried, errors, strict=True)
        if error <= _AS_GOOD**2 * best
    ]
    return good[-1]


def _stacked(
    constraints: Sequence[Constraint], length: Scalars, p: int
) -> tuple[Block, Scalars, list[str]]:
    """All rows in their scales and for scaled columns."""
    rows: list[Block] = [np.zeros((0, p))]
    aims: list[Scalars] = [np.zeros(0)]
    labels: list[str] = []
    for constraint in constraints:
        if not (np.isfinite(constraint.rows).all() and np.isfinite(constraint.target).all()):
            raise ConfigError(f"the constraint on {constraint.label} is not finite")
        rows.append(constraint.rows / constraint.scale / length)
        aims.append(constraint.target / constraint.scale)
        labels += [constraint.label] * len(constraint.target)
    return np.concatenate(rows), np.concatenate(aims), labels


def _independent(
    hard: Block, aims: Scalars, labels: Sequence[str], p: int
) -> tuple[Scalars, Block, int]:
    """A point that meets all constraints, and directions (p, p - rank) that leave them alone."""
    if not len(hard):
        return np.zeros(p), np.eye(p), 0
    size = np.linalg.norm(hard, axis=1)
    # rows that symmetry makes zero are noise, which must not be blown up to unit length
    alive = size > 1e-7 * size.max(initial=0.0)
    unit, aim = hard[alive] / size[alive, None], aims[alive] / size[alive]
    left, values, right = np.linalg.svd(unit, full_matrices=True)
    rank = int((values > REDUNDANT * values.max(initial=0.0)).sum())
    start: Scalars = right[:rank].T @ ((left[:, :rank].T @ aim) / values[:rank])
    off = np.abs(hard @ start - aims)
    if len(off) and off.max() > CONTRADICTION:
        worst = int(off.argmax())
        others = sorted(set(labels) - {labels[worst]})
        raise ConfigError(
            f"the constraints contradict each other: {labels[worst]} is missed by "
            f"{off[worst]:.3g} of its scale when the others hold ({', '.join(others)}). Either "
            f"{p} coefficients cannot do both (raise twojmax or pair.functions), or the labels "
            "disagree (is the expensive model in double precision?); hard.form = 'tolerance' finds "
            "a compromise"
        )
    if rank >= p:
        raise ConfigError(
            f"{rank} independent constraints leave nothing of {p} coefficients to fit with. Raise "
            "potential.twojmax or pair.functions, or ask for fewer constraints in [hard]"
        )
    return start, np.ascontiguousarray(right[rank:].T), rank


def _least(
    matrix: Block, target: Scalars, free: Block, start: Scalars, ridge: float
) -> tuple[Scalars, float]:
    """The scaled coefficients with least residual in the free directions, and the condition."""
    values = np.linalg.svd(matrix, compute_uv=False)
    least = values[-1] if len(values) == free.shape[1] else 0.0
    condition = float(values[0] / least) if least > 0.0 else np.inf
    if ridge == 0.0 and condition > 1.0 / _SINGULAR:
        raise ConfigError(
            "the structures do not determine all coefficients: in some direction of "
            f"{free.shape[1]} the rows are zero (condition {condition:.1g}). Give more or hotter "
            "snapshots, fewer coefficients (twojmax, pair.functions), or a ridge"
        )
    stacked = np.concatenate([matrix, ridge * free])
    aim = np.concatenate([target, -ridge * start])
    step = np.linalg.lstsq(stacked, aim, rcond=None)[0]
    found: Scalars = start + free @ step
    return found, condition


def _within(
    matrix: Block,
    target: Scalars,
    hard: tuple[Block, Scalars],
    length: Scalars,
    ridge: float,
    alpha: float,
) -> Solution:
    """The least multiplier with which constraints hold within alpha: by powers, then halvings."""
    rows, aims = hard
    p = matrix.shape[1]

    def at(multiplier: float) -> tuple[Scalars, float, float]:
        stacked = np.concatenate([matrix, multiplier * rows])
        aim = np.concatenate([target, multiplier * aims])
        found, condition = _least(stacked, aim, np.eye(p), np.zeros(p), ridge)
        return found, float(np.sqrt(np.mean((rows @ found - aims) ** 2))), condition

    power = next((n for n in range(-4, _POWERS) if at(10.0**n)[1] <= alpha), None)
    if power is None:
        best = min(at(10.0**n)[1] for n in range(-4, _POWERS))
        raise ConfigError(
            f"the constraints cannot be met within hard.alpha = {alpha:g}: {best:.2g} is the least "
            "that these coefficients allow. Raise alpha, potential.twojmax or pair.functions"
        )
    low, high = power - 1.0, float(power)
    for _ in range(_HALVINGS):
        middle = 0.5 * (low + high)
        low, high = (low, middle) if at(10.0**middle)[1] <= alpha else (middle, high)
        if high - low < 1e-3:
            break
    found, _, condition = at(10.0**high)
    return Solution(
        coefficients=found / length,
        rank=int(np.linalg.matrix_rank(rows)),
        redundant=0,
        violation=float(np.abs(rows @ found - aims).max(initial=0.0)),
        condition=condition,
        ridge=ridge,
        multiplier=10.0**high,
    )
