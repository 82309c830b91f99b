"""The box LAMMPS wants for the cell that was asked for. Pure arithmetic; knows no LAMMPS.

LAMMPS takes lower-triangular cells with moderate tilts, whose free axes are at right angles to
the others. Any cell can be written so: a rotation, integer combinations of its vectors, and along
free axes a box that the atoms do not leave.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from clients.engines.neighbours import completed
from mixserver.arrays import Matrix, Vectors

_MARGIN = 10.0
"""Å between the atoms and the wall of a new box along free axes."""
_NEAR_WALL = 1.0
"""Å from the wall at which the box is made anew."""
_TILT = 0.5 + 1e-9
"""Largest tilt, as a fraction of the edge it is measured by; more only costs ghost atoms."""


@dataclass(frozen=True)
class Box:
    """A LAMMPS box and how to get there from the frame of the job and back."""

    cell: Matrix
    """(3, 3) Å, the cell of the job this box was made for."""
    edges: Matrix
    """(3, 3) Å, rows are lower triangular with a positive diagonal."""
    low: Vectors
    """(3,) Å, lower corner."""
    rotation: Matrix | None
    """(3, 3), position in the box = position of the job @ rotation; None if they are the same."""
    pbc: tuple[bool, bool, bool]

    @cached_property
    def inverse(self) -> Matrix:
        """(3, 3) 1/Å."""
        inverse: Matrix = np.linalg.inv(self.edges).astype(np.float64)
        return inverse

    @property
    def volume(self) -> float:
        """Å³, as LAMMPS computes it."""
        return float(self.edges[0, 0] * self.edges[1, 1] * self.edges[2, 2])

    @cached_property
    def shortest(self) -> float:
        """Å, smallest distance between opposite faces."""
        return float(1.0 / np.linalg.norm(self.inverse, axis=0).max())

    def inward(self, vectors: Vectors) -> Vectors:
        """Turn from the frame of the job into that of the box (the same array if they agree)."""
        if self.rotation is None:
            return vectors
        turned: Vectors = vectors @ self.rotation
        return turned

    def outward(self, vectors: Vectors) -> Vectors:
        """Turn back."""
        if self.rotation is None:
            return vectors
        turned: Vectors = vectors @ self.rotation.T
        return turned

    def virial_outward(self, virial: Matrix) -> Matrix:
        """Turn a tensor back."""
        if self.rotation is None:
            return virial
        turned: Matrix = self.rotation @ virial @ self.rotation.T
        return 0.5 * (turned + turned.T)

    def wrapped(self, positions: Vectors) -> Vectors:
        """Move by lattice vectors into the box: fractions in [0, 1) along periodic axes."""
        fraction = (positions - self.low) @ self.inverse
        fraction = np.floor(fraction) * np.asarray(self.pbc)
        moved: Vectors = positions - fraction @ self.edges
        return moved

    def nearest(self, positions: Vectors, to: Vectors) -> Vectors:
        """Lattice vectors to add so that every atom comes next to where it was, (n, 3) Å."""
        steps = np.rint((to - positions) @ self.inverse) * np.asarray(self.pbc)
        shift: Vectors = steps @ self.edges
        return shift

    def holds(self, positions: Vectors) -> bool:
        """Whether no atom comes near a wall along free axes."""
        free = [axis for axis in range(3) if not self.pbc[axis]]
        if not free or not len(positions):
            return True
        along = positions[:, free] - self.low[free]  # free edges are along x, y or z
        room = np.diag(self.edges)[free] - _NEAR_WALL
        return bool((along.min(axis=0) > _NEAR_WALL).all() and (along.max(axis=0) < room).all())


def box_for(positions: Vectors, cell: Matrix, pbc: tuple[bool, bool, bool]) -> Box:
    """Make the box for a cell, and for where the atoms are along its free axes.

    Args:
        positions: (n, 3) Å.
        cell: (3, 3) Å, rows are lattice vectors; those of free axes are ignored.
        pbc: which axes are periodic.
    """
    full = completed(cell, pbc)
    if np.linalg.det(full) < 0.0:  # the same lattice with the other handedness
        full[2] *= -1.0
    edges, rotation = _triangular(full)
    edges = _less_tilted(edges, pbc)
    low = np.zeros(3)
    free = [axis for axis in range(3) if not pbc[axis]]
    if free:
        inside = positions if rotation is None else positions @ rotation
        for axis in free:
            low[axis] = inside[:, axis].min(initial=np.inf) - _MARGIN if len(inside) else 0.0
            high = inside[:, axis].max() + _MARGIN if len(inside) else 2 * _MARGIN
            edges[axis] = 0.0
            edges[axis, axis] = high - low[axis]
    return Box(np.array(cell), edges, low, rotation, pbc)


def _triangular(full: Matrix) -> tuple[Matrix, Matrix | None]:
    """Rows @ rotation = lower triangular with a positive diagonal."""
    if (np.triu(full, 1) == 0.0).all() and (np.diag(full) > 0.0).all():
        return full.copy(), None
    q, r = np.linalg.qr(full.T)
    signs = np.where(np.diag(r) < 0.0, -1.0, 1.0)
    edges = np.tril((r * signs[:, None]).T)
    return edges, q * signs


def _less_tilted(edges: Matrix, pbc: tuple[bool, bool, bool]) -> Matrix:
    """Subtract whole earlier edges from later ones; tilts between periodic axes only."""
    less = edges.copy()
    for row, column in ((1, 0), (2, 1), (2, 0)):
        if not (pbc[row] and pbc[column]):
            less[row, column] = 0.0  # rounding; these are at right angles
            continue
        tilt = less[row, column] / less[column, column]
        if abs(tilt) > _TILT:
            less[row] -= np.rint(tilt) * less[column]
    return less
