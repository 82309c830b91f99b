"""Neighbour lists with a skin, made in compiled code, for atoms in any cell."""

from __future__ import annotations

from functools import partial
from itertools import pairwise
from typing import Final, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from mixserver.core.arrays import Indices, Matrix, Vectors
from mixserver.core.cell import complete_cell, inverse_cell
from mixserver_worker.engines.lammps.compiled.team import Team, shares
from mixserver_worker.engines.neighbours import with_images, wrap

_FINE: Final = 3.0
"""Bins in one reach."""
_MOST_BINS: Final = 200.0
"""Along an axis: bins are wider where atoms are far apart."""


class Candidates(NamedTuple):
    """Atoms with their images, and the pairs that may be within the cutoff."""

    points: Vectors
    """(m, 3) Å; the first n are the atoms."""
    origin: Indices
    """(m,) atom of each point."""
    start: NDArray[np.int64]
    """(n + 1,)"""
    neighbour: NDArray[np.int32]
    """(p,) points near atom i are those from start[i] to start[i + 1]."""


class VerletList:
    """Candidates for neighbours, kept while no other pair can have come closer than the cutoff.

    With a cell that stays, that is until an atom has moved by half the skin.

    Args:
        cutoff: Å.
        skin: Å.
        half: list each pair once, at either of its atoms.
        part: which of several equal parts of the atoms to list neighbours of, and how many parts.
        team: makes the list.
    """

    def __init__(
        self,
        cutoff: float,
        skin: float,
        *,
        half: bool = False,
        part: tuple[int, int] = (0, 1),
        team: Team | None = None,
    ) -> None:
        self._cutoff, self._reach, self._half = cutoff, cutoff + skin, half
        self._part, self._team = part, team or Team()
        self.renewed = False
        """Whether the last update made a new list."""
        self._made: Candidates | None = None
        self._full: Matrix = np.eye(3)
        """Å, the complete cell that the list was made for."""
        self._images: Vectors = np.zeros((0, 3))
        """(m, 3) lattice vectors from the atom to each point, in units of the cell."""

    def update(self, positions: Vectors, cell: Matrix, pbc: tuple[bool, bool, bool]) -> Candidates:
        """The candidates for these positions.

        Args:
            positions: (n, 3) Å, of the same atoms each time.
            cell: (3, 3) Å, rows; those of open axes are ignored.
            pbc: the same each time.
        """
        full = complete_cell(cell, pbc)
        if self._made is not None and len(self._made.start) == len(positions) + 1:
            made = self._made
            strain = inverse_cell(self._full) @ full
            inverse = inverse_cell(full) * np.asarray(pbc)
            unwrapped = np.empty_like(positions)
            most = follow(positions, made.points, strain, full, inverse, unwrapped)
            # A pair that is not listed is longer than the reach was. The strain shortens it by the
            # smallest factor at most, and the motion of both atoms beside it by twice the longest.
            shortest = np.linalg.svd(strain, compute_uv=False)[-1]
            if shortest * self._reach - 2.0 * most > self._cutoff:
                self.renewed = False
                points = place_images(unwrapped, made.origin, self._images, full)
                return made._replace(points=points)
        self.renewed = True
        inside = wrap(positions, cell, pbc)
        points, origin = with_images(inside, cell, pbc, self._reach)
        self._images = np.rint((points - inside[origin]) @ inverse_cell(full)) * np.asarray(pbc)
        points = inside[origin] + self._images @ full
        start, neighbour = self._near(points, origin, len(inside))
        self._full, self._made = full, Candidates(points, origin, start, neighbour)
        return self._made

    def _near(
        self, points: Vectors, origin: Indices, atoms: int
    ) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
        bins = _bins(points, self._reach)
        bounds = shares(*part_of(atoms, self._part), self._team.tasks)
        found = self._team.run(
            [
                partial(
                    near_points, points, origin, low, high, atoms, self._reach, bins, self._half
                )
                for low, high in pairwise(bounds.tolist())
            ]
        )
        # Each counts the pairs of its own atoms, and stays at that number behind them.
        start = np.sum([one[0] for one in found], axis=0)
        return start, np.concatenate([one[1] for one in found])


def _bins(points: Vectors, reach: float) -> NDArray[np.float64]:
    """(3, 3): lowest corner, width and number of bins along each axis."""
    low = points.min(axis=0) if len(points) else np.zeros(3)
    extent = points.max(axis=0) - low if len(points) else np.zeros(3)
    width = np.maximum(reach / _FINE, extent / _MOST_BINS)
    return np.array([low, width, np.floor(extent / width) + 1.0])


def part_of(count: int, part: tuple[int, int]) -> tuple[int, int]:
    """First atom of a part, and the one after the last."""
    which, parts = part
    low, high = shares(0, count, parts)[which : which + 2]
    return int(low), int(high)


@njit(nogil=True, cache=True)
def follow(  # type: ignore[no-untyped-def]
    positions, before, strain, cell, inverse, unwrapped
):
    """Unwrap atoms: the image of each that is nearest to where the strained cell would carry it.

    Args:
        positions: (n, 3) Å.
        before: (at least n, 3) Å, of the same atoms, unwrapped.
        strain: (3, 3) from the cell before to this one.
        cell: (3, 3) Å, complete.
        inverse: (3, 3) 1/Å, of the cell; columns of open axes are 0.
        unwrapped: (n, 3) Å is written.

    Returns:
        Å, the longest displacement beside the strain.
    """
    most = 0.0
    carried, moved = np.empty(3), np.empty(3)
    for i in range(len(positions)):
        for axis in range(3):
            carried[axis] = (
                before[i, 0] * strain[0, axis]
                + before[i, 1] * strain[1, axis]
                + before[i, 2] * strain[2, axis]
            )
            moved[axis] = positions[i, axis] - carried[axis]
        a, b, c = moved
        for row in range(3):
            turns = np.rint(a * inverse[0, row] + b * inverse[1, row] + c * inverse[2, row])
            if turns != 0.0:
                for axis in range(3):
                    moved[axis] -= turns * cell[row, axis]
        square = 0.0
        for axis in range(3):
            square += moved[axis] * moved[axis]
            unwrapped[i, axis] = carried[axis] + moved[axis]
        most = max(most, square)
    return np.sqrt(most)


@njit(nogil=True, cache=True)
def place_images(unwrapped, origin, images, cell):  # type: ignore[no-untyped-def]
    """(m, 3) Å: atoms of a list and their images, at the atoms' new positions.

    Args:
        unwrapped: (n, 3) Å.
        origin: (m,) atom of each.
        images: (m, 3) lattice vectors from the atom, in units of the cell.
        cell: (3, 3) Å.
    """
    points = np.empty((len(origin), 3))
    for k in range(len(origin)):
        for axis in range(3):
            points[k, axis] = unwrapped[origin[k], axis] + (
                images[k, 0] * cell[0, axis]
                + images[k, 1] * cell[1, axis]
                + images[k, 2] * cell[2, axis]
            )
    return points


@njit(nogil=True, cache=True)
def near_points(  # type: ignore[no-untyped-def]
    points, origin, low, high, atoms, reach, bins, half
):
    """Points closer than the reach to each of some atoms, found in bins.

    Args:
        points: (m, 3) Å.
        origin: (m,) atom of each point.
        low, high: first of these atoms, and the one after the last; others get no neighbours.
        atoms: number of all atoms, the first points.
        reach: Å.
        bins: (3, 3) lowest corner, width and number along each axis.
        half: list a pair at one of its atoms, an image of an atom at that atom twice.

    Returns:
        start (atoms + 1,) and neighbour, as of `Candidates`.
    """
    nx, ny, nz = int(bins[2, 0]), int(bins[2, 1]), int(bins[2, 2])
    count = len(points)
    place = np.empty((count, 3), np.int64)
    begin = np.zeros(nx * ny * nz + 1, np.int64)
    for k in range(count):
        for axis in range(3):
            at = int((points[k, axis] - bins[0, axis]) / bins[1, axis])
            place[k, axis] = min(max(at, 0), int(bins[2, axis]) - 1)
        begin[(place[k, 0] * ny + place[k, 1]) * nz + place[k, 2] + 1] += 1
    for key in range(nx * ny * nz):
        begin[key + 1] += begin[key]
    # the points in the order of their bins: those of neighbouring bins along z lie side by side
    filled = begin[:-1].copy()
    index, there = np.empty(count, np.int64), np.empty((3, count))
    for k in range(count):
        key = (place[k, 0] * ny + place[k, 1]) * nz + place[k, 2]
        at = filled[key]
        filled[key] += 1
        index[at] = k
        for axis in range(3):
            there[axis, at] = points[k, axis]
    start = np.zeros(atoms + 1, np.int64)
    found = np.empty(max(64, 32 * (high - low)), np.int32)
    total = 0
    square = reach * reach
    spans = np.array([int(np.ceil(reach / bins[1, axis])) for axis in range(3)])
    for i in range(low, high):
        x, y, z = points[i, 0], points[i, 1], points[i, 2]
        lowest = max(0, place[i, 2] - spans[2])
        highest = min(nz - 1, place[i, 2] + spans[2])
        for bx in range(max(0, place[i, 0] - spans[0]), min(nx, place[i, 0] + spans[0] + 1)):
            for by in range(max(0, place[i, 1] - spans[1]), min(ny, place[i, 1] + spans[1] + 1)):
                row = (bx * ny + by) * nz
                first, last = begin[row + lowest], begin[row + highest + 1]
                if total + last - first > len(found):
                    larger = np.empty(2 * len(found) + last - first, np.int32)
                    larger[:total] = found[:total]
                    found = larger
                for at in range(first, last):
                    dx, dy, dz = there[0, at] - x, there[1, at] - y, there[2, at] - z
                    j = index[at]
                    found[total] = j
                    # half of an atom's pairs, in whatever order the atoms come
                    other = origin[j]
                    mine = other == i or (other > i) == ((other + i) & 1 == 1)
                    wanted = j != i and (not half or mine)
                    total += wanted and dx * dx + dy * dy + dz * dz < square
        start[i + 1] = total
    start[high + 1 :] = total
    return start, found[:total].copy()
