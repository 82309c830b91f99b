"""Linear equality constraints by the null-space method.

The solutions are one point plus the null space (Golub and Van Loan, Matrix Computations, 4th ed.,
6.2). LAPACK's dgglse requires independent rows; symmetry makes most constraints on a crystal
redundant, so here redundant ones are recognised and contradicting ones named. Each row is in the
scale of its constraint, so all thresholds are dimensionless.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from scipy.linalg import qr

from mixserver.core.arrays import Block, Indices, Scalars
from mixserver.core.errors import ConfigError

REDUNDANT: Final = 1e-5
"""Relative singular values of unit rows below which constraints are redundant."""
CONTRADICTION: Final = 3e-3
"""Allowed difference of redundant constraints, in their scales."""
_NOISE: Final = 1e-7
"""Rows shorter than this, relative to the longest, are zero by symmetry."""
_INVOLVED: Final = 1e-3
_NAMED: Final = 6


@dataclass(frozen=True, eq=False)
class Constraint:
    """Rows that must hold."""

    label: str
    """For messages."""
    rows: Block
    """(m, p)."""
    target: Scalars
    """(m,)."""
    scale: float
    """A large residual, in the unit of the rows."""

    def __post_init__(self) -> None:
        if self.rows.ndim != 2 or self.target.shape != self.rows.shape[:1]:
            raise ValueError(
                f"the constraint on {self.label} has rows of shape {self.rows.shape} and targets "
                f"of shape {self.target.shape}; expected (m, p) and (m,)"
            )
        if not 0.0 < self.scale < np.inf:
            raise ValueError(f"the constraint on {self.label} needs a scale above 0: {self.scale}")


@dataclass(frozen=True, eq=False)
class StackedConstraints:
    """All constraints in their scales, for scaled coefficients."""

    rows: Block
    """(m, p)."""
    aims: Scalars
    """(m,)."""
    labels: tuple[str, ...]
    """(m,) label of the constraint of each row."""

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True, eq=False)
class ConstraintSolution:
    """All coefficients that fulfil the constraints."""

    point: Scalars
    """(p,), the one of least norm."""
    free: Block
    """(p, p - rank) orthonormal basis of the null space."""

    @property
    def rank(self) -> int:
        """Number of independent constraints."""
        return len(self.point) - len(self.free.T)


def stack_constraints(constraints: Sequence[Constraint], length: Scalars) -> StackedConstraints:
    """All rows in their scales; each column is divided by its own length.

    Raises:
        ConfigError: one is not finite.
        ValueError: one has another number of coefficients.
    """
    rows: list[Block] = [np.zeros((0, len(length)))]
    aims: list[Scalars] = [np.zeros(0)]
    labels: list[str] = []
    for constraint in constraints:
        if constraint.rows.shape[1] != len(length):
            raise ValueError(
                f"the constraint on {constraint.label} is in {constraint.rows.shape[1]} "
                f"coefficients, the fit in {len(length)}"
            )
        if not (np.isfinite(constraint.rows).all() and np.isfinite(constraint.target).all()):
            raise ConfigError(
                f"the constraint on {constraint.label} is not finite: the label or the descriptors "
                "of the perfect crystal or of one of its strained cells are damaged; delete them "
                "to compute them again"
            )
        rows.append(constraint.rows / constraint.scale / length)
        aims.append(constraint.target / constraint.scale)
        labels += [constraint.label] * len(constraint.target)
    return StackedConstraints(np.concatenate(rows), np.concatenate(aims), tuple(labels))


def solve_constraints(hard: StackedConstraints) -> ConstraintSolution:
    """Find all coefficients that fulfil the constraints.

    Raises:
        ConfigError: they contradict each other, or leave nothing free.
    """
    p = hard.rows.shape[1]
    if not len(hard):
        return ConstraintSolution(np.zeros(p), np.eye(p))
    size = np.linalg.norm(hard.rows, axis=1)
    # rows that symmetry makes zero are noise, which must not be blown up to unit length
    alive = np.flatnonzero(size > _NOISE * size.max())
    unit, aim = hard.rows[alive] / size[alive, None], hard.aims[alive] / size[alive]
    left, values, right = np.linalg.svd(unit, full_matrices=True)
    rank = int((values > REDUNDANT * values.max(initial=0.0)).sum())
    point = np.zeros(p)
    for _ in range(2):  # the second pass removes rounding errors
        point += right[:rank].T @ ((left[:, :rank].T @ (aim - unit @ point)) / values[:rank])
    if rank >= p:
        raise ConfigError(
            f"{rank} independent constraints leave nothing of {p} coefficients to fit. Raise "
            "potential.twojmax or pair.functions, or set fewer constraints in [hard]"
        )
    off = np.abs(hard.rows @ point - hard.aims)
    if off.max() > CONTRADICTION:
        raise ConfigError(_contradiction(hard, alive, int(off.argmax()), float(off.max())))
    return ConstraintSolution(point, np.ascontiguousarray(right[rank:].T))


def _contradiction(hard: StackedConstraints, alive: Indices, worst: int, off: float) -> str:
    """The message: the worst constraint, and those it contradicts."""
    label = hard.labels[worst]
    remedy = (
        f"Either {hard.rows.shape[1]} coefficients cannot fulfil both (raise twojmax or "
        "pair.functions), or the labels disagree (is the expensive model in double precision?); "
        "hard.form = 'tolerance' finds a compromise"
    )
    if worst not in alive:
        return (
            f"the constraints contradict each other: no coefficient changes {label}, which is to "
            f"be {hard.aims[worst]:.3g} of its scale. {remedy}"
        )
    others = alive[alive != worst]
    size = np.linalg.norm(hard.rows[others], axis=1)
    unit, aim = hard.rows[others] / size[:, None], hard.aims[others] / size
    triangle, order = qr(unit.T, mode="r", pivoting=True)
    depth = np.abs(np.diag(triangle))
    some = order[: int((depth > REDUNDANT * depth.max(initial=0.0)).sum())]
    share = np.linalg.lstsq(unit[some].T, hard.rows[worst], rcond=None)[0]
    apart = abs(float(share @ aim[some]) - float(hard.aims[worst]))
    if apart <= CONTRADICTION:
        return (
            f"the constraints contradict each other: at the best compromise {label} is off by "
            f"{off:.3g} of its scale. {remedy}"
        )
    involved = some[np.abs(share) > _INVOLVED * np.abs(share).max(initial=0.0)]
    names = list(dict.fromkeys(hard.labels[others[row]] for row in sorted(involved)))
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return (
        f"the constraints contradict each other: where {', '.join(names[:_NAMED])}{more} hold, "
        f"{label} is off by {apart:.3g} of its scale. {remedy}"
    )
