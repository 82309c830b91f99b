r"""Constraints fulfilled within a tolerance; within it the soft rows decide.

.. math:: \min_c |A c - y|^2 + \lambda^2 |A_H c - y_H|^2

with the least multiplier for which the rms residual of the constraints is at most alpha, found as
Birks et al. do (npj Comput. Mater. 12, 110, 2026): powers of ten, then halvings of log lambda.

A large multiplier would drown the soft rows in rounding errors of the hard ones if both were
solved as one system (Golub and Van Loan, Matrix Computations, 4th ed., 6.1.3). So the coefficients
are rotated to directions that the constraints see and those they do not see. The soft rows alone
determine the latter from the former; the rest is, in the residuals v of the constraints,

.. math:: \min_v |M v - g|^2 + \lambda^2 |v|^2, \qquad
    v_k = \frac{\sigma_k g_k}{\sigma_k^2 + \lambda^2}

by the singular values of M: stable for any multiplier, and |v| falls strictly.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from mixserver.core.arrays import Block, Scalars
from mixserver.core.errors import ConfigError

_UNSEEN: Final = 1e-7
"""Singular values of the constraints, relative to the largest, that are noise of symmetry."""
_DECADES: Final = 20
_HALVINGS: Final = 20


@dataclass(frozen=True, eq=False)
class SplitSystem:
    """Soft rows in the directions that constraints see (r of them) and those they do not (q).

    With c = seen @ ((v + pull) / stretch) + unseen @ z, residuals of the constraints are v and
    `miss`.
    """

    unseen: Block
    """(p, q) orthonormal."""
    seen: Block
    """(p, r) orthonormal."""
    stretch: Scalars
    """(r,) singular values of the constraints."""
    pull: Scalars
    """(r,) rotated targets of the constraints."""
    miss: float
    """Norm of the residuals that do not depend on coefficients."""
    rows: int
    """m, of the constraints."""
    factor: Block
    """(q + r, q + r + 1) triangular factor of the soft rows in both, and targets."""

    @property
    def free(self) -> Block:
        """The soft rows (q, q) of the unseen directions."""
        q = self.unseen.shape[1]
        return self.factor[:q, :q]

    def at(self, left: Scalars) -> Scalars:
        """Coefficients (p,) with residuals v (r,) of the constraints, the soft rows best met."""
        q = self.unseen.shape[1]
        u = (left + self.pull) / self.stretch
        z = np.linalg.lstsq(self.free, self.factor[:q, -1] - self.factor[:q, q:-1] @ u, rcond=0.0)
        return self.seen @ u + self.unseen @ z[0]

    def with_ridge(self, ridge: float, kept: Block) -> SplitSystem:
        """The same with a ridge: a row of that length for each direction.

        Coefficients along unseen directions other than `kept` (k, q; orthonormal), which soft rows
        determine, are 0.
        """
        q = self.unseen.shape[1]
        rows = np.column_stack([self.factor[:, :q] @ kept.T, self.factor[:, q:]])
        some = rows.shape[1] - 1
        added = np.concatenate([rows, ridge * np.eye(some, some + 1)])
        return replace(self, unseen=self.unseen @ kept.T, factor=_triangle(added))


def split_system(matrix: Block, target: Scalars, hard: Block, aims: Scalars) -> SplitSystem:
    """Rotate soft rows (n, p) to the directions that the constraints `hard` (m, p), m > 0, see."""
    left, values, right = np.linalg.svd(hard, full_matrices=True)
    rank = int((values > _UNSEEN * values.max(initial=0.0)).sum())
    pull = left.T @ aims
    seen, unseen = right[:rank].T, right[rank:].T
    return SplitSystem(
        unseen,
        seen,
        values[:rank],
        pull[:rank],
        float(np.linalg.norm(pull[rank:])),
        len(aims),
        _triangle(np.column_stack([matrix @ unseen, matrix @ seen, target])),
    )


def least_multiplier(system: SplitSystem, alpha: float) -> tuple[Scalars, float]:
    """The residuals of constraints with the least multiplier for an rms residual of alpha.

    Returns:
        (r,) v, and the multiplier; 0 if the soft rows alone meet it.

    Raises:
        ConfigError: no coefficients meet it.
    """
    q = system.unseen.shape[1]
    m = system.factor[q:, q:-1] / system.stretch
    g = system.factor[q:, -1] - m @ system.pull
    basis, values, back = np.linalg.svd(m)
    along = basis.T @ g
    kept = values > np.finfo(float).eps * values.max(initial=0.0)

    def residuals(multiplier: float) -> Scalars:
        v = np.zeros(len(values))
        # where the soft rows do not determine v, it is 0
        v[kept] = values[kept] * along[kept] / (values[kept] ** 2 + multiplier**2)
        return v

    def met(multiplier: float) -> bool:
        square = float(np.sum(residuals(multiplier) ** 2)) + system.miss**2
        return square <= system.rows * alpha**2

    if met(0.0):
        return back.T @ residuals(0.0), 0.0
    middle = np.floor(np.log10(values.max(initial=1.0)))
    powers = np.arange(middle - _DECADES, middle + _DECADES + 1.0)
    power = next((float(n) for n in powers if met(10.0**n)), None)
    if power is None:
        raise ConfigError(
            f"the constraints cannot be met within hard.alpha = {alpha:g}: "
            f"{system.miss / np.sqrt(system.rows):.2g} is the least that these coefficients allow. "
            "Raise alpha, potential.twojmax or pair.functions"
        )
    low, high = power - 1.0, power
    for _ in range(_HALVINGS):
        half = 0.5 * (low + high)
        low, high = (low, half) if met(10.0**half) else (half, high)
    return back.T @ residuals(10.0**high), 10.0**high


def _triangle(rows: Block) -> Block:
    """The triangular factor (n, n + 1) of rows (m, n + 1), without what no coefficients change."""
    triangle = np.linalg.qr(rows, mode="r")
    n = rows.shape[1] - 1
    factor = np.zeros((n, n + 1))
    factor[: len(triangle)] = triangle[:n]
    return factor
