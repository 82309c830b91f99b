"""Constraints: linear equations that coefficients must fulfil, and the points that fulfil them all.

They are met by the null-space method (Golub and Van Loan, Matrix Computations, 4th ed., 6.2): one
point, and the directions that leave all constraints alone. Unlike LAPACK's dgglse, which wants
independent rows and cannot say whether they are, it shows which constraints say the same and which
contradict each other. Symmetry makes most constraints on a crystal redundant. Every row is in the
scale of its constraint, so what is decided here has no unit. Knows nothing of what is fitted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import qr

from mixserver.arrays import Indices, Scalars
from mixserver.errors import ConfigError

Block = NDArray[np.float64]

REDUNDANT: Final = 1e-5
"""Singular values of unit rows, relative to the largest, below which constraints are the same."""
CONTRADICTION: Final = 3e-3
"""In the constraints' own scales: how far apart constraints may be that are the same."""
_NOISE: Final = 1e-7
"""Rows so much shorter than the longest are zero by symmetry."""
_INVOLVED: Final = 1e-3
_NAMED: Final = 6


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

    def __post_init__(self) -> None:
        if self.rows.ndim != 2 or self.target.shape != self.rows.shape[:1]:
            raise ValueError(
                f"the constraint on {self.label} has rows of shape {self.rows.shape} and targets "
                f"of shape {self.target.shape}; expected (m, p) and (m,)"
            )
        if not 0.0 < self.scale < np.inf:
            raise ValueError(f"the constraint on {self.label} needs a scale above 0: {self.scale}")


@dataclass(frozen=True, eq=False)
class Stacked:
    """All constraints in their scales, for scaled coefficients."""

    rows: Block
    """(m, p)."""
    aims: Scalars
    """(m,)."""
    labels: tuple[str, ...]
    """(m,) whose row it is."""

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True, eq=False)
class Meeting:
    """Where all constraints hold."""

    point: Scalars
    """(p,), the shortest such."""
    free: Block
    """(p, p - rank) orthonormal directions that leave all constraints alone."""
    redundant: tuple[str, ...]
    """Labels of the rows that say what others say, each once."""

    @property
    def rank(self) -> int:
        """How many independent constraints there are."""
        return len(self.point) - len(self.free.T)


def stack(constraints: Sequence[Constraint], length: Scalars) -> Stacked:
    """All rows in their scales.

    Args:
        constraints: perhaps none.
        length: (p,) each column is divided by its own.

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
                "of the perfect crystal or of one of its strained cells are damaged; delete them, "
                "and they are made again"
            )
        rows.append(constraint.rows / constraint.scale / length)
        aims.append(constraint.target / constraint.scale)
        labels += [constraint.label] * len(constraint.target)
    return Stacked(np.concatenate(rows), np.concatenate(aims), tuple(labels))


def meet(hard: Stacked) -> Meeting:
    """Find where all constraints hold.

    Raises:
        ConfigError: they contradict each other, or leave nothing free.
    """
    p = hard.rows.shape[1]
    if not len(hard):
        return Meeting(np.zeros(p), np.eye(p), ())
    size = np.linalg.norm(hard.rows, axis=1)
    # rows that symmetry makes zero are noise, which must not be blown up to unit length
    alive = np.flatnonzero(size > _NOISE * size.max())
    unit, aim = hard.rows[alive] / size[alive, None], hard.aims[alive] / size[alive]
    left, values, right = np.linalg.svd(unit, full_matrices=True)
    rank = int((values > REDUNDANT * values.max(initial=0.0)).sum())
    point = np.zeros(p)
    for _ in range(2):  # the second time it takes rounding errors away
        point += right[:rank].T @ ((left[:, :rank].T @ (aim - unit @ point)) / values[:rank])
    if rank >= p:
        raise ConfigError(
            f"{rank} independent constraints leave nothing of {p} coefficients to fit with. Raise "
            "potential.twojmax or pair.functions, or ask for fewer constraints in [hard]"
        )
    off = np.abs(hard.rows @ point - hard.aims)
    if off.max() > CONTRADICTION:
        raise ConfigError(_contradiction(hard, alive, int(off.argmax()), float(off.max())))
    order = qr(unit.T, mode="r", pivoting=True)[1]
    kept = set(alive[order[:rank]].tolist())
    redundant = [label for row, label in enumerate(hard.labels) if row not in kept]
    return Meeting(point, np.ascontiguousarray(right[rank:].T), tuple(dict.fromkeys(redundant)))


def _contradiction(hard: Stacked, alive: Indices, worst: int, off: float) -> str:
    """Which other rows say of the worst what it denies, and how far apart they are."""
    label = hard.labels[worst]
    cure = (
        f"Either {hard.rows.shape[1]} coefficients cannot do both (raise twojmax or "
        "pair.functions), or the labels disagree (is the expensive model in double precision?); "
        "hard.form = 'tolerance' finds a compromise"
    )
    if worst not in alive:
        return (
            f"the constraints contradict each other: no coefficient changes {label}, which is to "
            f"be {hard.aims[worst]:.3g} of its scale. {cure}"
        )
    others = alive[alive != worst]
    size = np.linalg.norm(hard.rows[others], axis=1)
    unit, aim = hard.rows[others] / size[:, None], hard.aims[others] / size
    triangle, order = qr(unit.T, mode="r", pivoting=True)
    depth = np.abs(np.diag(triangle))
    some = order[: int((depth > REDUNDANT * depth.max(initial=0.0)).sum())]
    share = np.linalg.lstsq(unit[some].T, hard.rows[worst], rcond=None)[0]
    apart = abs(float(share @ aim[some]) - float(hard.aims[worst]))
    if apart <= CONTRADICTION:  # its like are off as well: nothing is gained by naming them
        return (
            f"the constraints contradict each other: at the best compromise {label} is off by "
            f"{off:.3g} of its scale. {cure}"
        )
    involved = some[np.abs(share) > _INVOLVED * np.abs(share).max(initial=0.0)]
    names = list(dict.fromkeys(hard.labels[others[row]] for row in sorted(involved)))
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return (
        f"the constraints contradict each other: where {', '.join(names[:_NAMED])}{more} hold, "
        f"{label} is off by {apart:.3g} of its scale. {cure}"
    )
