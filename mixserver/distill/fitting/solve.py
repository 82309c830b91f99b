r"""Coefficients: soft least squares under hard linear constraints.

.. math:: \min_c |A c - y|^2 + \mu^2 |D c|^2 \quad\text{with}\quad A_H c = y_H

D makes all columns of A equally long, so that mu has no unit. Constraints hold exactly (`exact`) or
within a tolerance (`tolerance`). What they leave free is solved by the singular values of the soft
rows, filtered by sigma / (sigma^2 + mu^2) (Golub and Van Loan, Matrix Computations, 4th ed.,
6.1.5), so that all ridges cost one decomposition.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from mixserver.core.arrays import Block, Mask, Scalars
from mixserver.core.errors import ConfigError
from mixserver.distill.fitting.null_space import (
    Constraint,
    StackedConstraints,
    solve_constraints,
    stack_constraints,
)
from mixserver.distill.fitting.qr import QRAccumulator
from mixserver.distill.fitting.soft_constraints import least_multiplier, split_system

__all__ = ["RIDGES", "Constraint", "Solution", "solve", "solve_validated"]


_SINGULAR: Final = 1e-13
"""Relative singular values of the soft rows below this are rounding errors: an error without a
ridge, left out with one."""
RIDGES: Final = tuple(10.0**power for power in range(-12, -1))
_AS_GOOD: Final = 1.01
"""The largest ridge is taken whose validation error is within this factor of the least."""


@dataclass(frozen=True, eq=False)
class Solution:
    """Coefficients, with the properties of the solution."""

    coefficients: Scalars
    """(p,)."""
    rank: int
    """Number of independent constraints."""
    redundant: int
    """Number of redundant rows of constraints."""
    violation: float
    """The largest residual of a constraint, in its scale."""
    condition: float
    """Condition number of the scaled soft rows in the free directions."""
    ridge: float
    """mu."""
    multiplier: float | None = None
    """With a tolerance: the multiplier of the constraints; 0 if soft rows alone meet them."""
    rms: float = 0.0
    """Root of the mean square residual of the constraints' rows, in their scales."""


@dataclass(frozen=True, eq=False)
class _Scaled:
    """A fit with columns of equal length."""

    matrix: Block
    """(n, p)."""
    target: Scalars
    """(n,)."""
    length: Scalars
    """(p,) that each column had."""
    hard: StackedConstraints


def solve(
    soft: QRAccumulator,
    constraints: Sequence[Constraint] = (),
    *,
    ridge: float = 0.0,
    alpha: float | None = None,
) -> Solution:
    """Solve for the coefficients, with mu = `ridge`.

    Constraints hold exactly, or with `alpha` to that rms residual, in their scales.

    Raises:
        ConfigError: constraints contradict each other, leave nothing free, or cannot be met within
            alpha; or the soft rows do not determine all coefficients and there is no ridge.
    """
    return _solved(soft, constraints, (ridge,), alpha)[0]


def solve_validated(
    train: QRAccumulator,
    validation: QRAccumulator,
    constraints: Sequence[Constraint] = (),
    *,
    alpha: float | None = None,
) -> Solution:
    """Solve with the ridge that has the least validation error.

    Of ridges within a hundredth of that error the largest is taken, for smaller coefficients.
    (Rows of one structure are correlated, so a standard error from their number would be too
    small.)

    Raises:
        ConfigError: as `solve`, or there are no validation rows.
    """
    if not validation.rows:
        raise ConfigError(
            "no validation rows to choose the ridge: take more snapshots (soft.snapshots), "
            "or set fit.ridge to a number"
        )
    tried = _solved(train, constraints, RIDGES, alpha)
    errors = [
        float(np.sqrt(validation.residual(solution.coefficients) / validation.rows))
        for solution in tried
    ]
    return tried[max(at for at, error in enumerate(errors) if error <= _AS_GOOD * min(errors))]


def _solved(
    soft: QRAccumulator,
    constraints: Sequence[Constraint],
    ridges: Sequence[float],
    alpha: float | None,
) -> list[Solution]:
    """One solution for each ridge."""
    for ridge in ridges:
        if not 0.0 <= ridge < np.inf:
            raise ValueError(f"a ridge must be 0 or more, got {ridge}")
    if alpha is not None and not 0.0 < alpha < np.inf:
        raise ValueError(
            f"a tolerance must be above 0, got {alpha}; use None for exact constraints"
        )
    matrix, target = soft.factor[:, :-1], soft.factor[:, -1]
    length = np.linalg.norm(matrix, axis=0)
    length[length == 0.0] = 1.0
    fit = _Scaled(matrix / length, target, length, stack_constraints(constraints, length))
    if alpha is not None and len(fit.hard):
        return [_within(fit, ridge, alpha) for ridge in ridges]
    return _exactly(fit, ridges)


def _exactly(fit: _Scaled, ridges: Sequence[float]) -> list[Solution]:
    """Solutions with exact constraints."""
    solution = solve_constraints(fit.hard)
    basis, values, back = np.linalg.svd(fit.matrix @ solution.free, full_matrices=False)
    condition = _condition(values, solution.free)
    along = basis.T @ (fit.target - fit.matrix @ solution.point)
    kept = _significant(values)
    made: list[Solution] = []
    for ridge in ridges:
        if ridge == 0.0:
            _check_determined(condition, solution.free, back)
        # the point is orthogonal to the free directions: the ridge acts on the step alone
        step = back[kept].T @ (values * along / (values**2 + ridge**2))[kept]
        found = solution.point + solution.free @ step
        left = fit.hard.rows @ found - fit.hard.aims
        made.append(
            Solution(
                coefficients=found / fit.length,
                rank=solution.rank,
                redundant=len(fit.hard) - solution.rank,
                violation=float(np.abs(left).max(initial=0.0)),
                condition=condition,
                ridge=ridge,
                rms=_rms(left),
            )
        )
    return made


def _within(fit: _Scaled, ridge: float, alpha: float) -> Solution:
    """The solution with the least multiplier for which constraints hold within alpha."""
    system = split_system(fit.matrix, fit.target, fit.hard.rows, fit.hard.aims)
    values, back = np.linalg.svd(system.free)[1:]
    condition = _condition(values, system.unseen)
    if ridge:
        system = system.with_ridge(ridge, back[_significant(values)])
    else:
        _check_determined(condition, system.unseen, back)
    v, multiplier = least_multiplier(system, alpha)
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
    """Condition number; infinite if there are fewer singular values than directions."""
    if not free.shape[1]:
        return 1.0
    least = values[-1] if len(values) == free.shape[1] else 0.0
    return float(values[0] / least) if least > 0.0 else np.inf


def _significant(values: Scalars) -> Mask:
    """Mask of the singular values above rounding errors."""
    significant: Mask = values > _SINGULAR * values.max(initial=0.0)
    return significant


def _check_determined(condition: float, free: Block, back: Block) -> None:
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
        f"{blind}, the rows are zero (condition {condition:.1g}). Use more or hotter snapshots, "
        "fewer coefficients (twojmax, pair.functions), or a ridge (fit.ridge)"
    )
