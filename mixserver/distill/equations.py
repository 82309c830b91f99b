"""Least squares from rows that come and go: what is kept of them is one triangular factor.

The factor T of the rows [A y] by Householder reflections, T^T T = [A y]^T [A y], holds everything
that any later question about the squared residuals needs: |A c - y|^2 = |T (c, -1)|^2. T is R and
Q^T y side by side, and its last entry is the norm of what no c can explain. Blocks are folded in
one after the other (Golub and Van Loan, Matrix Computations, 4th ed., 6.5.4, adding rows), so
memory stays that of one block and T. Normal equations would square condition numbers of 1e8 and
more, which descriptors have.
"""

from __future__ import annotations

from typing import Self

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import qr

from mixserver.arrays import Scalars
from mixserver.errors import ConfigError

Block = NDArray[np.float64]


class Equations:
    """Rows A c = y in p coefficients, to be met in the sense of least squares.

    Args:
        columns: p.
    """

    def __init__(self, columns: int) -> None:
        if columns < 1:
            raise ValueError(f"equations need a coefficient, got {columns}")
        self.columns = columns
        self.rows = 0
        """How many rows were added."""
        self._factor = np.zeros((0, columns + 1))
        self._waiting: list[Block] = []
        """Rows that are not folded in yet: one by one they would cost p^2 each time p."""

    @property
    def factor(self) -> Block:
        """(<= p + 1, p + 1) upper triangular T; do not change it."""
        self._fold()
        return self._factor

    def add(
        self, matrix: Block, target: Scalars, weight: float | Scalars = 1.0, *, source: str = ""
    ) -> None:
        """Fold rows in.

        Args:
            matrix: (m, p).
            target: (m,).
            weight: both are multiplied by it; one number, or (m,) one per row.
            source: where the rows come from, for the error.

        Raises:
            ConfigError: something is not finite.
            ValueError: the shapes do not fit.
        """
        if target.ndim != 1 or matrix.shape != (len(target), self.columns):
            raise ValueError(
                f"rows of shape {matrix.shape} and targets of shape {target.shape} do not fit "
                f"{self.columns} coefficients"
            )
        factor = np.asarray(weight, dtype=np.float64)
        if factor.shape not in {(), target.shape} or not np.isfinite(factor).all():
            raise ValueError(f"{len(target)} rows need finite weights, one or as many: {weight}")
        block = np.column_stack([matrix, target])
        finite = np.isfinite(block).all(axis=1)
        if not finite.all():
            row = int(np.flatnonzero(~finite)[0])
            raise ConfigError(
                f"row {row} of {len(block)} of {source or 'a fit'} is not finite (target "
                f"{target[row]}): two atoms are too close in one of the structures, or its label "
                "is damaged"
            )
        self._wait(factor[..., None] * block)
        self.rows += len(target)

    def merge(self, other: Equations, weight: float = 1.0) -> None:
        """Fold all rows of others in, multiplied by a weight."""
        if other.columns != self.columns:
            raise ValueError(f"equations in {other.columns} and {self.columns} coefficients")
        if not np.isfinite(weight):
            raise ValueError(f"rows need a finite weight, got {weight}")
        self._wait(weight * other.factor)
        self.rows += other.rows

    def scaled(self, weight: float) -> Self:
        """The same rows, multiplied by a weight."""
        new = type(self)(self.columns)
        new.merge(self, weight)
        return new

    def residual(self, coefficients: Scalars) -> float:
        """|A c - y|^2, the sum over all rows."""
        factor = self.factor
        left = factor[:, :-1] @ coefficients - factor[:, -1]
        return float(left @ left)

    def _wait(self, block: Block) -> None:
        self._waiting.append(block)
        if sum(map(len, self._waiting)) > self.columns:
            self._fold()

    def _fold(self) -> None:
        if self._waiting:
            stacked = np.concatenate([self._factor, *self._waiting])
            if len(stacked):
                (triangle,) = qr(stacked, mode="r", check_finite=False, overwrite_a=True)
                self._factor = np.ascontiguousarray(triangle[: self.columns + 1])
            self._waiting = []
