r"""Coefficients: soft least squares under hard linear constraints.

.. math:: \min_c |A c - y|^2 + \mu^2 |D c|^2 \quad\text{with}\quad A_H c = y_H

D makes all columns of A equally long, so that mu has no unit. Constraints hold exactly (`exact`) or
within a tolerance (`tolerance`). What they leave free is solved by the singular values of the soft
rows, filtered by sigma / (sigma^2 + mu^2) (Golub and Van Loan, Matrix Computations, 4th ed.,
6.1.5), so that all ridges cost one decomposition. Knows no potential and no files.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from mixserver.arrays import Mask, Scalars
from mixserver.distill.equations import Equations
from mixserver.distill.exact import Constraint, Stacked, meet, stack
from mixserver.distill.tolerance import search, turned
from mixserver.errors import ConfigError

__all__ = ["RIDGES", "Constraint", "Solution", "solve", "solve_validated"]

Block = NDArray[np.float64]

_SINGULAR: Final = 1e-13
"""Singular values of the soft rows, relative to the largest, that are rounding errors. Without a
ridge they are an error; with one, however small, coefficients do not go their way."""
RIDGES: Final = tuple(10.0**power for power in range(-12, -1))
_AS_GOOD: Final = 1.01
"""A larger ridge is taken if its validation error is no more than this times the least."""


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
    """With a tolerance: what constraints were multiplied by; 0 if they did not matter."""
    rms: float = 0.0
    """Root of the mean square residual of the constraints' rows, in their scales."""
    same: tuple[str, ...] = ()
    """Labels of the constraints with redundant rows."""
    scan: tuple[tuple[float, float], ...] = ()
    """If the ridge was chosen: each mu with the rms residual of the validation rows."""


@dataclass(frozen=True, eq=False)
class _Scaled:
    """A fit with columns of equal length."""

    matrix: Block
    """(n, p)."""
    target: Scalars
    """(n,)."""
    length: Scalars
    """(p,) that each column had."""
    hard: Stacked


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
        constraints: what must hold; none for the unconstrained fit.
        ridge: mu; 0 for none.
        alpha: None for exact constraints; else the rms residual, in their scales, within which
            they must hold.

    Raises:
        ConfigError: constraints contradict each other, leave nothing free, or cannot be met within
            alpha; or the soft rows do not determine all coefficients and there is no ridge.
    """
    return _solved(soft, constraints, (ridge,), alpha)[0]


def solve_validated(
    train: Equations,
    validation: Equations,
    constraints: Sequence[Constraint] = (),
    *,
    alpha: float | None = None,
) -> Solution:
    """Solve with the ridge that serves rows best which were not fitted.

    Of ridges that are equally good, within a hundredth of the error, the largest is taken: it has
    the smaller coefficients. (Rows of one structure are not independent of each other, so a
    standard error from their number would promise too much.)

    Raises:
        ConfigError: as `solve`, or there is nothing to validate with.
    """
    if not validation.rows:
        raise ConfigError(
            "there are no rows to choose the ridge by; take more snapshots (soft.snapshots), or "
            "give fit.ridge a number"
        )
    tried = _solved(train, constraints, RIDGES, alpha)
    errors = [
        float(np.sqrt(validation.residual(solution.coefficients) / validation.rows))
        for solution in tried
    ]
    best = max(at for at, error in enumerate(errors) if error <= _AS_GOOD * min(errors))
    return replace(tried[best], scan=tuple(zip(RIDGES, errors, strict=True)))


def _solved(
    soft: Equations,
    constraints: Sequence[Constraint],
    ridges: Sequence[float],
    alpha: float | None,
) -> list[Solution]:
    """One solution for each ridge."""
    for ridge in ridges:
        if not 0.0 <= ridge < np.inf:
            raise ValueError(f"a ridge must be 0 or more, got {ridge}")
    if alpha is not None and not 0.0 < alpha < np.inf:
        raise ValueError(f"a tolerance must be above 0, got {alpha}; None is for exact constraints")
    matrix, target = soft.factor[:, :-1], soft.factor[:, -1]
    length = np.linalg.norm(matrix, axis=0)
    length[length == 0.0] = 1.0
    fit = _Scaled(matrix / length, target, length, stack(constraints, length))
    if alpha is not None and len(fit.hard):
        return [_within(fit, ridge, alpha) for ridge in ridges]
    return _exactly(fit, ridges)


def _exactly(fit: _Scaled, ridges: Sequence[float]) -> list[Solution]:
    """Solutions in the directions that constraints leave free."""
    meeting = meet(fit.hard)
    basis, values, back = np.linalg.svd(fit.matrix @ meeting.free, full_matrices=False)
    condition = _condition(values, meeting.free)
    along = basis.T @ (fit.target - fit.matrix @ meeting.point)
    told = _tell(values)
    made: list[Solution] = []
    for ridge in ridges:
        if ridge == 0.0:
            _must_tell(condition, meeting.free, back)
        # the point is at right angles to the free directions: the ridge acts on the step alone
        step = back[told].T @ (values * along / (values**2 + ridge**2))[told]
        found = meeting.point + meeting.free @ step
        left = fit.hard.rows @ found - fit.hard.aims
        made.append(
            Solution(
                coefficients=found / fit.length,
                rank=meeting.rank,
                redundant=len(fit.hard) - meeting.rank,
                violation=float(np.abs(left).max(initial=0.0)),
                condition=condition,
                ridge=ridge,
                rms=_rms(left),
                same=meeting.redundant,
            )
        )
    return made


def _within(fit: _Scaled, ridge: float, alpha: float) -> Solution:
    """The solution with the least multiplier for which constraints hold within alpha."""
    system = turned(fit.matrix, fit.target, fit.hard.rows, fit.hard.aims)
    values, back = np.linalg.svd(system.free)[1:]
    condition = _condition(values, system.unseen)
    if ridge:
        system = system.ridged(ridge, back[_tell(values)])
    else:
        _must_tell(condition, system.unseen, back)
    v, multiplier = search(system, alpha)
    found = system.at(v)
    left = fit.hard.rows @ found - fit.hard.aims
    rank = len(system.stretch)
    return Solution(
        coefficients=found / fit.length,
        rank=rank,
        redundant=len(fit.hard) - rank,
        violation=float(np.abs(left).max()),
        condition=condition,
        ridge=ridge,
        multiplier=multiplier,
        rms=_rms(left),
    )


def _rms(left: Scalars) -> float:
    return float(np.sqrt(np.mean(left**2))) if len(left) else 0.0


def _condition(values: Scalars, free: Block) -> float:
    """Largest over smallest singular value; fewer than there are directions means infinite."""
    if not free.shape[1]:
        return 1.0
    least = values[-1] if len(values) == free.shape[1] else 0.0
    return float(values[0] / least) if least > 0.0 else np.inf


def _tell(values: Scalars) -> Mask:
    """Which singular values are more than rounding errors."""
    told: Mask = values > _SINGULAR * values.max(initial=0.0)
    return told


def _must_tell(condition: float, free: Block, back: Block) -> None:
    """Without a ridge the soft rows must determine every free direction."""
    if condition <= 1.0 / _SINGULAR:
        return
    blind = ""
    if len(back) == free.shape[1]:
        direction = np.abs(free @ back[-1])
        most = np.argsort(direction)[::-1][:4]
        most = most[direction[most] > 0.1 * direction.max()]
        blind = f", mostly of coefficients {', '.join(str(at) for at in sorted(most))}"
    raise ConfigError(
        f"the structures do not determine all coefficients: in some direction of {free.shape[1]}"
        f"{blind}, the rows are zero (condition {condition:.1g}). Give more or hotter snapshots, "
        "fewer coefficients (twojmax, pair.functions), or a ridge (fit.ridge)"
    )
