r"""Deformation from a reference cell to the present cell: a rotation and a stretch.

.. math::
    h = h_\mathrm{ref}\, Q\, V,\qquad Q Q^T = 1,\quad V = V^T > 0

with lattice vectors as rows (polar decomposition). A row vector v of the reference becomes v Q in
the present cell, for any strain and any orientation of the cell.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from mixserver.core.arrays import Matrix, Scalars, Vectors
from mixserver.core.cell import inverse_cell


@dataclass(frozen=True, eq=False)
class Deformation:
    """Rotation and stretch of a cell with respect to a reference cell."""

    rotation: Matrix
    """(3, 3) Q, orthogonal; of determinant -1 where the two cells have opposite handedness."""
    stretch: Matrix
    """(3, 3) V, symmetric and positive definite, in the present orientation."""
    _spin: Matrix
    """(3, 3) inverse of tr(V) - V: solves w V + V w = x for the axial vectors of w and x."""

    @classmethod
    def between(cls, reference: Matrix, cell: Matrix) -> Deformation:
        """The deformation from one cell to another; the last few are cached.

        Args:
            reference: (3, 3) Å, rows are lattice vectors, with a volume.
            cell: (3, 3) Å, likewise.
        """
        return _between(reference.tobytes(), cell.tobytes())

    @cached_property
    def principal(self) -> Scalars:
        """(3,) principal stretches, ascending; 1 is no change."""
        return np.asarray(np.linalg.eigvalsh(self.stretch), dtype=np.float64)

    @property
    def mirrored(self) -> bool:
        """Whether one of the cells is left-handed and the other right-handed."""
        return bool(np.linalg.det(self.rotation) < 0.0)

    @property
    def angle(self) -> float:
        """Degrees of the rotation, 0 to 180; if mirrored, without the inversion."""
        proper = -self.rotation if self.mirrored else self.rotation
        # for small angles the sine is precise, and the cosine is not
        axial = 0.5 * (proper - proper.T)
        sine = math.sqrt(0.5 * float((axial**2).sum()))
        return math.degrees(math.atan2(sine, 0.5 * (float(np.trace(proper)) - 1.0)))

    def rotate(self, vectors: Vectors) -> Vectors:
        """Rotate vectors (n, 3) or (3,) of the reference with the cell."""
        found: Vectors = vectors @ self.rotation
        return found

    def virial(self, moments: Matrix) -> Matrix:
        r"""The virial of :math:`E = -\sum_i (f_i Q) \cdot u_i`, where u deforms with the cell.

        A strain e of the present cell rotates Q by an antisymmetric w such that the stretch stays
        symmetric: w V + V w = V e - e^T V. Then

        .. math::
            W = \mathrm{sym}(M) + B V - V B

        where B is the antisymmetric solution of B V + V B = (M - M^T) / 2. W is symmetric, because
        the energy does not change when everything is rotated.

        Args:
            moments: (3, 3) eV, M = sum_i u_i (x) f_i Q.

        Returns:
            (3, 3) eV, -dE/dstrain for every strain, not only symmetric ones.
        """
        a = self._spin @ (
            moments[1, 2] - moments[2, 1],
            moments[2, 0] - moments[0, 2],
            moments[0, 1] - moments[1, 0],
        )
        x, y, z = (0.5 * a).tolist()
        spun = np.array([[0.0, z, -y], [-z, 0.0, x], [y, -x, 0.0]]) @ self.stretch
        half = 0.5 * moments + spun  # -V B is the transpose of B V
        virial: Matrix = half + half.T
        return virial


@functools.lru_cache(maxsize=256)
def _between(reference: bytes, cell: bytes) -> Deformation:
    if reference == cell:  # exactly the identity, free of rounding
        return Deformation(np.eye(3), np.eye(3), 0.5 * np.eye(3))
    now = np.frombuffer(cell, np.float64).reshape(3, 3)
    back_to_reference = inverse_cell(np.frombuffer(reference, np.float64).reshape(3, 3))
    left, stretches, right = np.linalg.svd(back_to_reference @ now)
    back = right.T
    return Deformation(
        left @ right, back * stretches @ right, back / (stretches.sum() - stretches) @ right
    )
