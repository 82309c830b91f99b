"""Least squares from rows that come and go: what is kept of them is one triangular factor.

The factor T of the rows [A y] by Householder reflections, T^T T = [A y]^T [A y], holds everything
that any later question about the squared residuals needs: |A c - y|^2 = |T (c, -1)|^2. Blocks are
folded in one after the other (Golub and Van Loan, Matrix Computations, 4th ed., 6.5.4, adding
rows), so memory stays that of one block and T. Normal equations would square condition numbers
of 1e8 and more, which descriptors have.
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

    @property
    def factor(self) -> Block:
        """(<= p + 1, p + 1) upper triangular T; do not change it."""
        return self._factor

    def add(self, matrix: Block, target: Scalars, weight: float = 1.0) -> None:
        """Fold rows in.

        Args:
            matrix: (m, p).
            target: (m,).
            weight: both are multiplied by it.

        Raises:
            ConfigError: something is not finite.
            ValueError: the shapes do not fit.
        """
        if matrix.shape != (len(target), self.columns):
            raise ValueError(
                f"rows of shape {matrix.shape} and {len(target)} targets do not fit "
                f"{self.columns} coefficients"
            )
        block = np.column_stack([matrix, target])
        if not np.isfinite(block).all():
            row = int(np.flatnonzero(~np.isfinite(block).all(axis=1))[0])
            raise ConfigError(
                f"row {row} of {len(block)} of a fit is not finite (target {target[row]}): two "
                "atoms are too close in one of the structures, or its label is damaged"
            )
        self._fold(weight * block)
        self.rows += len(target)

    def merge(self, other: Equations, weight: float = 1.0) -> None:
        """Fold all rows of others in, multiplied by a weight."""
        if other.columns != self.columns:
            raise ValueError(f"equations in {other.columns} and {self.columns} coefficients")
        self._fold(weight * other.factor)
        self.rows += other.rows

    def scaled(self, weight: float) -> Self:
        """The same rows, multiplied by a weight."""
        new = type(self)(self.columns)
        new.merge(self, weight)
        return new

    def residual(self, coefficients: Scalars) -> float:
        """|A c - y|^2, the sum over all rows."""
        left = self._factor[:, :-1] @ coefficients - self._factor[:, -1]
        return float(left @ left)

    def _fold(self, block: Block) -> None:
        stacked = np.concatenate([self._factor, block])
        if not len(stacked):
            return
        (triangle,) = qr(stacked, mode="r", check_finite=False)
        self._factor = np.ascontiguousarray(triangle[: self.columns + 1])
