"""Distances in any periodic cell: triclinic, left-handed, partly periodic, smaller than the reach.

Knows atoms as points, nothing of models or regions. The sources (seeds, sites) are few and the
atoms many, so atoms far from every source are culled first, by vectorised tests on fractional
coordinates; what is left meets a KD-tree of the sources' images. If the sources' surroundings do
not wrap around the cell, no images are needed at all.
"""

from __future__ import annotations

import math
from typing import Final, NamedTuple

import numpy as np
from scipy.spatial import cKDTree

from mixserver.arrays import Indices, Mask, Matrix, Scalars, Vectors
from mixserver.frame import Frame

_MARGIN: Final = 1e-9
"""Added to windows of fractional coordinates, so that rounding culls nothing that is in reach."""
_EDGE: Final = 1e-9
"""Å. KD-trees find what is strictly nearer than a bound; `reach` itself belongs to us."""
_NARROW: Final = 4.0
"""Å. Groups are linked at this distance first: few pairs, and mostly one group is left."""
_FEW_GROUPS: Final = 32
"""Up to so many groups are compared one with the others; more, and all pairs are listed."""


class Near(NamedTuple):
    """The atoms within reach of some sources; all others are farther away."""

    atoms: Indices
    """(n,) ascending."""
    distance: Scalars
    """(n,) Å to the nearest image of the nearest source, at most the reach."""

    def dense(self, count: int) -> Scalars:
        """(N,) Å for every atom, inf beyond the reach."""
        distance = np.full(count, np.inf)
        distance[self.atoms] = self.distance
        return distance


def heights(inverse: Matrix) -> Scalars:
    """(3,) Å between opposite faces of the cell whose inverse matrix (1/Å) is given."""
    return np.array([1.0 / math.hypot(*column) for column in inverse.T.tolist()])


def near_atoms(frame: Frame, sources: Indices, reach: float, *, skip: Mask | None = None) -> Near:
    """Find the atoms within `reach` (Å, inclusive) of the atoms `sources`, themselves included.

    Args:
        frame: the atoms.
        sources: (s,) distinct atoms.
        reach: Å.
        skip: (N,) atoms that need not be looked at and are left out, e.g. because they are known.
    """
    if not len(sources) or reach <= 0.0:
        kept = np.sort(sources) if skip is None else np.sort(sources[~skip[sources]])
        return Near(kept, np.zeros(len(kept)))
    window = _Window(frame, frame.fractional[sources], frame.positions[sources], reach)
    return _near(frame, window, skip)


def near_points(frame: Frame, points: Vectors, reach: float) -> Near:
    """Find the atoms within `reach` (Å, inclusive) of `points`, (s, 3) Å."""
    return _around(frame, np.asarray(points, dtype=np.float64), reach)


def nearest(frame: Frame, sources: Indices, reach: float) -> Scalars:
    """Distance of every atom to the nearest of the atoms `sources`: (N,) Å, inf beyond `reach`."""
    return near_atoms(frame, sources, reach).dense(len(frame))


def within(
    frame: Frame,
    sources: Indices,
    reach: float,
    *,
    skip: Mask | None = None,
    witness: Indices | None = None,
) -> Mask:
    """Tell which atoms lie within `reach` (Å, inclusive) of the atoms `sources`.

    Args:
        frame: the atoms.
        sources: (s,) distinct atoms.
        reach: Å.
        skip: (N,) atoms that need not be looked at; the answer is no for them.
        witness: (N,) for each atom one that was a source in its reach when last asked, or -1; kept
            up to date. From one step to the next most of them still are, and that is proof enough:
            it saves the search, and changes no answer.
    """
    mask = np.zeros(len(frame), dtype=np.bool_)
    if not len(sources) or reach <= 0.0:
        mask[near_atoms(frame, sources, reach, skip=skip).atoms] = True
        return mask
    window = _Window(frame, frame.fractional[sources], frame.positions[sources], reach)
    atoms, targets = window.targets(frame, skip)
    if witness is not None and len(atoms):
        proven = _proven(frame, sources, window, atoms, targets, witness)
        mask[atoms[proven]] = True
        atoms, targets = atoms[~proven], targets[~proven]
    if len(atoms):
        distance, image = window.search(targets)
        found = distance <= reach
        mask[atoms[found]] = True
        if witness is not None:
            witness[atoms[found]] = sources[window.owner[image[found]]]
    return mask


def _proven(
    frame: Frame,
    sources: Indices,
    window: _Window,
    atoms: Indices,
    targets: Vectors,
    witness: Indices,
) -> Mask:
    """Tell which of the atoms (at `targets`, Å) are clearly in reach of their witness."""
    row = np.full(len(frame) + 1, -1)  # the last one is for atoms without a witness
    row[sources] = np.arange(len(sources))
    seen = row.take(witness.take(atoms), mode="wrap")
    known = np.flatnonzero(seen >= 0)
    apart = targets.take(known, axis=0) - window.sources.take(seen.take(known), axis=0)
    if window.repeated:  # any image will do; the nearest by fractions is a good guess
        turns = np.rint(apart @ frame.inverse) * np.array(frame.topology.pbc)
        apart -= turns @ frame.cell
    proven = np.zeros(len(atoms), dtype=np.bool_)
    limit = (window.reach * (1.0 - 1e-12)) ** 2  # at the very edge the search decides
    proven[known] = _squares(apart) <= limit
    return proven


def near_sphere(frame: Frame, centre: Vectors, radius: float, reach: float) -> Near:
    """Find the atoms within `reach` of a sphere's surface, or inside it (distance 0).

    Args:
        frame: the atoms.
        centre: (3,) Å.
        radius: Å.
        reach: Å outside the surface.
    """
    return _outside(_around(frame, centre[None], reach + radius), radius)


def near_cylinder(frame: Frame, axis: int, centre: Vectors, radius: float, reach: float) -> Near:
    """Find the atoms within `reach` of the surface of an endless cylinder, or inside it.

    Args:
        frame: the atoms.
        axis: the lattice vector along which the cylinder runs.
        centre: (3,) Å, a point on its axis.
        radius: Å.
        reach: Å outside the surface.
    """
    return _outside(_around(frame, centre[None], reach + radius, axis), radius)


def near_slab(frame: Frame, axis: int, low: float, high: float, reach: float) -> Near:
    """Find the atoms within `reach` of a slab between two lattice planes, or inside it.

    Args:
        frame: the atoms.
        axis: the lattice vector that crosses the slab; the other two span its faces.
        low: fraction of the cell along `axis`; may lie outside [0, 1].
        high: likewise, at least `low`.
        reach: Å outside the faces, along their normal.
    """
    above = frame.fractional[:, axis] - low
    if frame.topology.pbc[axis]:
        above -= np.floor(above)
        beyond = np.minimum(above - (high - low), 1.0 - above)
    else:
        beyond = np.maximum(-above, above - (high - low))
    distance = np.maximum(beyond, 0.0) * heights(frame.inverse)[axis]
    atoms = np.flatnonzero(distance <= reach)
    return Near(atoms, distance[atoms])


def connected(frame: Frame, atoms: Indices, link: float) -> list[Indices]:
    """Part atoms into groups such that atoms of different groups are more than `link` apart.

    Args:
        frame: the atoms.
        atoms: (n,) the atoms to part, ascending.
        link: Å.

    Returns:
        Groups of ascending indices, ordered by their first atom; together all of `atoms`.
    """
    if len(atoms) < 2:
        return [atoms] if len(atoms) else []
    fractional, positions = frame.fractional[atoms], frame.positions[atoms]
    window = _Window(frame, fractional, positions, min(link, _NARROW))
    hub = window.sources[_squares(window.sources - window.centre).argmin()]
    if _squares(window.sources - hub).max() <= link * link:
        return [atoms]  # all are linked to one of them: no need to look at pairs
    label = _linked(window)
    count = int(label.max()) + 1
    if count > 1 and link > _NARROW:
        window = _Window(frame, fractional, positions, link)
        label = _linked(window) if count > _FEW_GROUPS else _joined(window, label, count)
        count = int(label.max()) + 1
    if count == 1:
        return [atoms]
    return [atoms[label == group] for group in range(count)]


def _linked(window: _Window) -> Indices:
    """Label the sources of a window by group, from all pairs of images in its reach."""
    pairs = cKDTree(window.images).query_pairs(window.reach, output_type="ndarray")
    return _labels(window.owner[pairs[:, 0]], window.owner[pairs[:, 1]], len(window.sources))


def _joined(window: _Window, label: Indices, count: int) -> Indices:
    """Join `count` groups of sources that come within the window's reach of each other."""
    group = label[window.owner]
    starts: list[int] = []
    ends: list[int] = []
    for one in range(count - 1):
        rest = np.flatnonzero(group > one)
        tree = cKDTree(window.images[group == one])
        distance, _ = tree.query(window.images[rest], distance_upper_bound=window.reach + _EDGE)
        others = np.unique(group[rest[distance <= window.reach]])
        starts += [one] * len(others)
        ends += others.tolist()
    return _labels(np.array(starts, np.intp), np.array(ends, np.intp), count)[label]


def _labels(start: Indices, end: Indices, count: int) -> Indices:
    """Number the connected groups of a graph, in the order of their first members."""
    label = np.arange(count)
    while True:
        low = np.minimum(label[start], label[end])
        before = label.copy()
        np.minimum.at(label, start, low)
        np.minimum.at(label, end, low)
        label = label[label]
        if (label == before).all():
            return np.unique(label, return_inverse=True)[1]


def _outside(near: Near, radius: float) -> Near:
    return Near(near.atoms, np.maximum(near.distance - radius, 0.0))


def _around(frame: Frame, points: Vectors, reach: float, along: int | None = None) -> Near:
    """Distances to points (Å), measured across a lattice vector if one is given."""
    if reach < 0.0 or not len(points):
        return Near(np.empty(0, dtype=np.intp), np.empty(0))
    return _near(frame, _Window(frame, points @ frame.inverse, points, reach, along), None)


def _near(frame: Frame, window: _Window, skip: Mask | None) -> Near:
    atoms, targets = window.targets(frame, skip)
    distance, _ = window.search(targets)
    found = distance <= window.reach
    return Near(atoms[found], distance[found])


class _Window:
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
        pads = (reach / heights(frame.inverse) + _MARGIN).tolist()
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
        radius = math.sqrt(_squares(self.sources - self.centre).max()) + self.reach + _EDGE
        inside = np.flatnonzero(_squares(apart) <= radius * radius)
        if len(inside) == len(atoms):
            return atoms, places
        return atoms.take(inside), places.take(inside, axis=0)

    def search(self, targets: Vectors) -> tuple[Scalars, Indices]:
        """Find the nearest image within reach of places (n, 3) Å: distance or inf, and which."""
        if len(self.images) == 1:
            distance = np.sqrt(_squares(targets - self.images[0]))
            distance[distance > self.reach] = np.inf
            return distance, np.zeros(len(targets), dtype=np.intp)
        tree = cKDTree(self.images, balanced_tree=False, compact_nodes=False)
        distance, image = tree.query(targets, distance_upper_bound=self.reach + _EDGE)
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


def _squares(vectors: Vectors) -> Scalars:
    squares: Scalars = np.einsum("ij,ij->i", vectors, vectors)
    return squares
