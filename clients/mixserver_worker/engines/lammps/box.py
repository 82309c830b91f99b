"""LAMMPS's simulation box for any cell: pure arithmetic, without LAMMPS.

LAMMPS needs a lower triangular cell with moderate tilts whose open axes are perpendicular to the
others. Every cell can be written like that with a rotation, integer combinations of its vectors
and, along open axes, a box that contains all atoms.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from mixserver.core.arrays import Matrix, Vectors
from mixserver.core.cell import complete_cell, inverse_cell, plane_spacings, standard_form

_MARGIN = 10.0
"""Å between the atoms and the walls of a new box along open axes."""
_NEAR_WALL = 1.0
"""Å. An atom this close to a wall requires a new box."""
_TILT = 0.5 + 1e-9
"""Largest tilt as a fraction of the edge along its axis; larger ones only add ghost atoms."""


@dataclass(frozen=True)
class Box:
    """A LAMMPS box and the transformation between it and the cell of the job."""

    cell: Matrix
    """(3, 3) Å, the cell of the job for which this box was made."""
    edges: Matrix
    """(3, 3) Å, rows are lower triangular with a positive diagonal."""
    low: Vectors
    """(3,) Å, lower corner."""
    rotation: Matrix | None
    """(3, 3), position in the box = position of the job @ rotation; None for the identity."""
    pbc: tuple[bool, bool, bool]

    @property
    def inverse(self) -> Matrix:
        """(3, 3) 1/Å."""
        return inverse_cell(self.edges)

    @property
    def volume(self) -> float:
        """The volume as LAMMPS computes it, Å³."""
        return float(self.edges[0, 0] * self.edges[1, 1] * self.edges[2, 2])

    @cached_property
    def narrowest(self) -> float:
        """Smallest distance between opposite faces, Å."""
        return float(plane_spacings(self.edges).min())

    def inward(self, vectors: Vectors) -> Vectors:
        """Rotate vectors of the job into the box; the same array if there is no rotation."""
        if self.rotation is None:
            return vectors
        rotated: Vectors = vectors @ self.rotation
        return rotated

    def outward(self, vectors: Vectors) -> Vectors:
        """Rotate vectors of the box back into the frame of the job."""
        if self.rotation is None:
            return vectors
        rotated: Vectors = vectors @ self.rotation.T
        return rotated

    def virial_outward(self, virial: Matrix) -> Matrix:
        """Rotate a virial of the box back into the frame of the job."""
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

    def shift_to_nearest(self, positions: Vectors, to: Vectors) -> Vectors:
        """(n, 3) Å, lattice vectors that take every atom to the image nearest to a position."""
        steps = np.rint((to - positions) @ self.inverse) * np.asarray(self.pbc)
        shift: Vectors = steps @ self.edges
        return shift

    def holds(self, positions: Vectors) -> bool:
        """Whether all atoms keep their distance from the walls along open axes."""
        open_axes = [axis for axis in range(3) if not self.pbc[axis]]
        if not open_axes or not len(positions):
            return True
        along = positions[:, open_axes] - self.low[open_axes]
        room = np.diag(self.edges)[open_axes] - _NEAR_WALL
        return bool((along.min(axis=0) > _NEAR_WALL).all() and (along.max(axis=0) < room).all())

    def region_command(self) -> str:
        """The command that defines this box as region mx_box."""
        (x, y, z), edges = self.low, self.edges
        high = self.low + np.diag(edges)
        return (
            f"region mx_box prism {x:.17g} {high[0]:.17g} {y:.17g} {high[1]:.17g} {z:.17g} "
            f"{high[2]:.17g} {edges[1, 0]:.17g} {edges[2, 0]:.17g} {edges[2, 1]:.17g} units box"
        )

    def change_commands(self) -> tuple[str, str]:
        """Commands that turn another box into this one, and then send atoms to their ranks."""
        high = self.low + np.diag(self.edges)
        extents = [
            f"{axis} final {self.low[k]:.17g} {high[k]:.17g}"
            for k, axis in enumerate(("x", "y", "z"))
        ]
        tilts = [
            f"{name} final {self.edges[row, column]:.17g}"
            for name, row, column in (("xy", 1, 0), ("xz", 2, 0), ("yz", 2, 1))
            if self.pbc[row] and self.pbc[column]
        ]
        return (
            f"change_box all {' '.join(extents + tilts)} units box",
            f"change_box all {extents[0]} units box",
        )


def box_for(positions: Vectors, cell: Matrix, pbc: tuple[bool, bool, bool]) -> Box:
    """Make the box for a cell and for the extent of the atoms along its open axes.

    Args:
        positions: (n, 3) Å.
        cell: (3, 3) Å, rows are lattice vectors; those of open axes are ignored.
        pbc: which axes are periodic.
    """
    full = complete_cell(cell, pbc)
    if np.linalg.det(full) < 0.0:  # the same lattice with the other handedness
        full[2] *= -1.0
    edges, rotation = standard_form(full)
    edges = _less_tilted(edges, pbc)
    low = np.zeros(3)
    open_axes = [axis for axis in range(3) if not pbc[axis]]
    if open_axes:
        inside = positions if rotation is None else positions @ rotation
        for axis in open_axes:
            low[axis] = inside[:, axis].min(initial=np.inf) - _MARGIN if len(inside) else 0.0
            high = inside[:, axis].max() + _MARGIN if len(inside) else 2 * _MARGIN
            edges[axis] = 0.0
            edges[axis, axis] = high - low[axis]
    return Box(np.array(cell), edges, low, rotation, pbc)


def _less_tilted(edges: Matrix, pbc: tuple[bool, bool, bool]) -> Matrix:
    """Subtract multiples of earlier edges from later ones; only periodic axes have tilts."""
    less = edges.copy()
    for row, column in ((1, 0), (2, 1), (2, 0)):
        if not (pbc[row] and pbc[column]):
            less[row, column] = 0.0  # only rounding: these axes are perpendicular
            continue
        tilt = less[row, column] / less[column, column]
        if abs(tilt) > _TILT:
            less[row] -= np.rint(tilt) * less[column]
    return less
