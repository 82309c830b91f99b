"""Least squares from blocks of rows, kept as one triangular factor.

The factor T of the rows [A y] by Householder reflections, T^T T = [A y]^T [A y], determines all
squared residuals: |A c - y|^2 = |T (c, -1)|^2. T is R and Q^T y side by side, and its last entry
is the least residual norm. Blocks are folded in
one after the other (Golub and Van Loan, Matrix Computations, 4th ed., 6.5.4, adding rows), so
memory stays that of one block and T. Normal equations would square condition numbers of 1e8 and
more, which descriptors have.
"""

from __future__ import annotations

from typing import Self

import numpy as np
from scipy.linalg import qr

from mixserver.core.arrays import Block, Scalars
from mixserver.core.errors import ConfigError


class QRAccumulator:
    """Rows A c = y in p coefficients, for least squares."""

    def __init__(self, columns: int) -> None:
        if columns < 1:
            raise ValueError(f"equations need a coefficient, got {columns}")
        self.columns = columns
        self.rows = 0
        """Number of added rows."""
        self._factor = np.zeros((0, columns + 1))
        self._waiting: list[Block] = []
        """Rows not folded in yet; folding them one by one would cost p^3."""

    @property
    def factor(self) -> Block:
        """(<= p + 1, p + 1) upper triangular T; do not change it."""
        self._fold()
        return self._factor

    def add(
        self, matrix: Block, target: Scalars, weight: float | Scalars = 1.0, *, source: str = ""
    ) -> None:
        """Fold rows (m, p) and targets (m,) in, times a weight for all, or one for each row.

        The source of the rows is for the message of an error.

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

    def merge(self, other: QRAccumulator, weight: float = 1.0) -> None:
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
