"""The part of a periodic crystal that some sources can reach, laid out in plain space.

All questions of images are answered here, once: after it distances are those between points.
"""

from __future__ import annotations

import math
from typing import Final

import numpy as np
from scipy.spatial import cKDTree

from mixserver.arrays import Indices, Mask, Matrix, Scalars, Vectors
from mixserver.frame import Frame
from mixserver.geometry.bins import Bins

EDGE: Final = 1e-9
"""Å. KD-trees find what is strictly nearer than a bound; the reach itself belongs to us."""
_MARGIN: Final = 1e-9
"""Added to windows of fractional coordinates, so that rounding culls nothing that is in reach."""
_TICKS: Final = 125
"""A bin to tick costs about as much as an atom to look at, and a source ticks so many."""
_ONES: Final = np.ones(3)


def heights(inverse: Matrix) -> Scalars:
    """(3,) Å between opposite faces of the cell whose inverse matrix (1/Å) is given."""
    return np.array([1.0 / math.hypot(*column) for column in inverse.T.tolist()])


class Window:
    """The smallest box of the lattice's shape around everything in reach of some sources.

    Along a periodic axis where the box is shorter than the cell, every atom has at most one image
    in it, so atoms are moved there and sources need no images. Along the others the atoms are moved
    into one cell and the sources get all images within reach of that cell.

    Args:
        frame: the atoms.
        fractional: (s, 3) sources, in lattice vectors.
        positions: (s, 3) Å, the same.
        reach: Å.
        along: a lattice vector that does not count: everything is projected along it.
    """

    def __init__(
        self,
        frame: Frame,
        fractional: Vectors,
        positions: Vectors,
        reach: float,
        along: int | None = None,
    ) -> None:
        self.reach = reach
        self._cell, self._inverse = frame.cell, frame.inverse
        self._periodic = np.array(frame.topology.pbc, dtype=np.bool_)
        self._start = [0.0, 0.0, 0.0]
        self._length = [math.inf, math.inf, math.inf]
        self._across: Matrix | None = None
        self._fractional = fractional
        self._pads = pads = (reach / heights(frame.inverse) + _MARGIN).tolist()
        if along is not None:
            unit = frame.cell[along] / np.linalg.norm(frame.cell[along])
            self._across = np.eye(3) - np.outer(unit, unit)
            self._periodic[along] = False
        middle = [0.0, 0.0, 0.0]
        self.repeated: list[int] = []
        """Axes along which sources have images."""
        for axis in range(3):
            if axis == along:
                continue
            low, width = _extent(fractional[:, axis], periodic=bool(self._periodic[axis]))
            middle[axis] = low + 0.5 * width
            self._start[axis] = low - pads[axis]
            if self._periodic[axis] and width + 2.0 * pads[axis] >= 1.0:
                self.repeated.append(axis)
            else:
                self._length[axis] = width + 2.0 * pads[axis]
        self.sources = self._moved(fractional, positions)
        """(s, 3) Å, one image of each source."""
        self.centre: Vectors = np.array(middle) @ self._cell
        """(3,) Å, of the smallest box around them."""
        if self._across is not None:
            self.centre = self.centre @ self._across
        self.images = self.sources
        """(m, 3) Å, all images of the sources that are needed; first comes one of each."""
        self.owner: Indices = np.arange(len(positions))
        """(m,) which source each image is of."""
        if self.repeated:
            places = fractional - self._start
            self._repeat(places - np.floor(places), pads)

    def targets(self, frame: Frame, skip: Mask | None = None) -> tuple[Indices, Vectors]:
        """Find the atoms that may be in reach (but those to skip), and where (Å) in the window."""
        atoms: Indices | None = None
        for axis in sorted(range(3), key=self._length.__getitem__):
            length = self._length[axis]
            if length < math.inf:
                column = frame.fractional[:, axis]
                place = (column if atoms is None else column.take(atoms)) - self._start[axis]
                if self._periodic[axis]:
                    place -= np.floor(place)
                    inside = place <= length
                else:
                    inside = (place >= 0.0) & (place <= length)
                atoms = np.flatnonzero(inside) if atoms is None else atoms[inside]
        atoms = self._in_bins(frame, atoms)
        if skip is not None:
            atoms = np.flatnonzero(~skip) if atoms is None else atoms[~skip.take(atoms)]
        if atoms is None:
            atoms = np.arange(len(frame))
            places = self._moved(frame.fractional, frame.positions)
        else:
            places = self._moved(
                frame.fractional.take(atoms, axis=0), frame.positions.take(atoms, axis=0)
            )
        return self._in_ball(atoms, places)

    def _in_bins(self, frame: Frame, atoms: Indices | None) -> Indices | None:
        """Leave out atoms (None for all) far from sources that are spread over the box."""
        count = len(frame) if atoms is None else len(atoms)
        if len(self.sources) < 2 or self._across is not None or _TICKS * len(self.sources) > count:
            return atoms
        boxes = [1.0 if length == math.inf else length for length in self._length]
        repeats = [axis in self.repeated for axis in range(3)]

        def place(fractional: Vectors, axis: int) -> Scalars:
            column = fractional[:, axis] - self._start[axis]
            if self._periodic[axis]:
                column -= np.floor(column)
            column /= boxes[axis]
            return column

        bins = Bins(
            np.column_stack([place(self._fractional, axis) for axis in range(3)]),
            [pad / box for pad, box in zip(self._pads, boxes, strict=True)],
            repeats,
        )
        if not bins.worthwhile:
            return atoms
        fractional = frame.fractional if atoms is None else frame.fractional.take(atoms, axis=0)
        inside = bins.among([place(fractional, axis) for axis in range(3)])
        return inside if atoms is None else atoms.take(inside)

    def _in_ball(self, atoms: Indices, places: Vectors) -> tuple[Indices, Vectors]:
        """Leave out atoms that are beyond reach of the ball around all sources.

        A ball fills half of its box, so this spares the tree half of the atoms. Where sources
        have images, the nearest image of the ball is easily found only if the cell is a cuboid.
        """
        apart = places - self.centre
        if self.repeated:
            if not self._cuboid:
                return atoms, places
            turns = np.rint(apart @ self._inverse)
            turns[:, [axis for axis in range(3) if axis not in self.repeated]] = 0.0
            apart -= turns @ self._cell
        radius = math.sqrt(squares(self.sources - self.centre).max()) + self.reach + EDGE
        inside = np.flatnonzero(squares(apart) <= radius * radius)
        if len(inside) == len(atoms):
            return atoms, places
        return atoms.take(inside), places.take(inside, axis=0)

    def search(self, targets: Vectors) -> tuple[Scalars, Indices]:
        """Find the nearest image within reach of places (n, 3) Å: distance or inf, and which."""
        if len(self.images) == 1:
            distance = np.sqrt(squares(targets - self.images[0]))
            distance[distance > self.reach] = np.inf
            return distance, np.zeros(len(targets), dtype=np.intp)
        tree = cKDTree(self.images, balanced_tree=False, compact_nodes=False)
        distance, image = tree.query(targets, distance_upper_bound=self.reach + EDGE)
        return distance, image

    @property
    def _cuboid(self) -> bool:
        metric = self._cell @ self._cell.T
        off = abs(metric[0, 1]) + abs(metric[0, 2]) + abs(metric[1, 2])
        return bool(off <= 1e-12 * metric.trace()) and self._across is None

    def _moved(self, fractional: Vectors, positions: Vectors) -> Vectors:
        """Move points by whole lattice vectors into the window (Å)."""
        turns = fractional - self._start
        np.floor(turns, out=turns)
        turns *= self._periodic
        places: Vectors = positions - turns @ self._cell
        return places if self._across is None else places @ self._across

    def _repeat(self, places: Vectors, pads: list[float]) -> None:
        """Add the images of the sources that lie within reach of the cell in which the atoms are.

        Args:
            places: (s, 3) of the sources, in lattice vectors from that cell's corner.
            pads: (3,) the reach, in lattice vectors.
        """
        images, owner = self.sources, self.owner
        cell = self._cell if self._across is None else self._cell @ self._across
        for axis in self.repeated:
            column, pad = places[:, axis], pads[axis]
            rows, steps = [np.arange(len(column))], [np.zeros(len(column))]
            for step in range(1, math.floor(pad) + 2):
                for row, turn in (
                    (np.flatnonzero(column <= 1.0 + pad - step), step),
                    (np.flatnonzero(column >= step - pad), -step),
                ):
                    rows.append(row)
                    steps.append(np.full(len(row), float(turn)))
            row = np.concatenate(rows)
            images = images.take(row, axis=0) + np.concatenate(steps)[:, None] * cell[axis]
            owner, places = owner.take(row), places.take(row, axis=0)
        self.images, self.owner = images, owner


def _extent(column: Scalars, *, periodic: bool) -> tuple[float, float]:
    """Lowest coordinate and width of some points; on a circle, of the shortest arc around them."""
    if len(column) == 1:
        return float(column[0]), 0.0
    if not periodic:
        low = float(column.min())
        return low, float(column.max()) - low
    places = np.sort(column - np.floor(column))
    gaps = places[1:] - places[:-1]
    widest = int(gaps.argmax())
    across = float(places[0] + 1.0 - places[-1])
    if gaps[widest] <= across:
        return float(places[0]), 1.0 - across
    return float(places[widest + 1]), 1.0 - float(gaps[widest])


def squares(vectors: Vectors) -> Scalars:
    """Squared lengths: (n,) Å²."""
    lengths: Scalars = np.einsum("ij,ij->i", vectors, vectors)
    return lengths


def rough_squares(vectors: Vectors) -> Scalars:
    """Squared lengths, quicker but rounded in another way: for comparing with a margin."""
    lengths: Scalars = (vectors * vectors) @ _ONES
    return lengths
