"""Distances in any periodic cell: triclinic, left-handed, partly periodic, smaller than the reach.

Knows atoms as points, nothing of models or regions. The sources (seeds, sites) are few and the
atoms many, so atoms far from every source are culled first, by vectorised tests on fractional
coordinates; what is left meets a KD-tree of the sources' images. If the sources' surroundings do
not wrap around the cell, no images are needed at all.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree

from mixserver.arrays import Indices, Mask, Matrix, Scalars, Vectors
from mixserver.frame import Frame

_MARGIN: Final = 1e-9
"""Added to windows of fractional coordinates, so that rounding culls nothing that is in reach."""
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
    distances: Scalars = 1.0 / np.linalg.norm(inverse, axis=0)
    return distances


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
    return _near(frame, frame.fractional[sources], reach, skip=skip)


def near_points(frame: Frame, points: Vectors, reach: float) -> Near:
    """Find the atoms within `reach` (Å, inclusive) of `points`, (s, 3) Å."""
    return _near(frame, np.asarray(points, dtype=np.float64) @ frame.inverse, reach)


def nearest(frame: Frame, sources: Indices, reach: float) -> Scalars:
    """Distance of every atom to the nearest of the atoms `sources`: (N,) Å, inf beyond `reach`."""
    return near_atoms(frame, sources, reach).dense(len(frame))


def within(frame: Frame, sources: Indices, reach: float) -> Mask:
    """Tell which atoms lie within `reach` (Å, inclusive) of the atoms `sources`."""
    mask = np.zeros(len(frame), dtype=np.bool_)
    mask[near_atoms(frame, sources, reach).atoms] = True
    return mask


def near_sphere(frame: Frame, centre: Vectors, radius: float, reach: float) -> Near:
    """Find the atoms within `reach` of a sphere's surface, or inside it (distance 0).

    Args:
        frame: the atoms.
        centre: (3,) Å.
        radius: Å.
        reach: Å outside the surface.
    """
    return _outside(_near(frame, (centre @ frame.inverse)[None], reach + radius), radius)


def near_cylinder(frame: Frame, axis: int, centre: Vectors, radius: float, reach: float) -> Near:
    """Find the atoms within `reach` of the surface of an endless cylinder, or inside it.

    Args:
        frame: the atoms.
        axis: the lattice vector along which the cylinder runs.
        centre: (3,) Å, a point on its axis.
        radius: Å.
        reach: Å outside the surface.
    """
    return _outside(
        _near(frame, (centre @ frame.inverse)[None], reach + radius, along=axis), radius
    )


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
    window = _Window(frame, frame.fractional[atoms], link, None)
    points, owner = window.images @ frame.cell, window.owner
    count, label = _labels(points, owner, len(atoms), min(link, _NARROW))
    if count > _FEW_GROUPS and link > _NARROW:
        count, label = _labels(points, owner, len(atoms), link)
    elif count > 1 and link > _NARROW:
        count, label = _join(points, label[owner], label, count, link)
    if count == 1:
        return [atoms]
    first = np.unique(label, return_index=True)[1]
    return [atoms[label == label[at]] for at in np.sort(first)]


def _labels(points: Vectors, owner: Indices, count: int, link: float) -> tuple[int, Indices]:
    """Label `count` atoms by group, from all pairs of their images within `link`."""
    pairs = cKDTree(points).query_pairs(link, output_type="ndarray")
    return _components(owner[pairs[:, 0]], owner[pairs[:, 1]], count)


def _join(
    points: Vectors, group: Indices, label: Indices, count: int, link: float
) -> tuple[int, Indices]:
    """Join groups that come within `link` of each other; `group` labels the images."""
    pairs: list[tuple[int, int]] = []
    for one in range(count - 1):
        mine = group == one
        rest = np.flatnonzero(group > one)
        distance, _ = cKDTree(points[mine]).query(points[rest], distance_upper_bound=_above(link))
        pairs += [(one, int(other)) for other in np.unique(group[rest[distance <= link]])]
    ends = np.array(pairs, dtype=np.intp).reshape(-1, 2)
    count, joined = _components(ends[:, 0], ends[:, 1], count)
    return count, joined[label]


def _components(start: Indices, end: Indices, count: int) -> tuple[int, Indices]:
    graph = coo_array((np.ones(len(start), dtype=np.int8), (start, end)), shape=(count, count))
    number, label = connected_components(graph, directed=False)
    return int(number), label.astype(np.intp)


def _outside(near: Near, radius: float) -> Near:
    return Near(near.atoms, np.maximum(near.distance - radius, 0.0))


def _above(reach: float) -> float:
    """KD-trees find what is strictly nearer than a bound; `reach` itself belongs to us."""
    return reach * (1.0 + 1e-12) + 1e-300


def _near(
    frame: Frame,
    sources: Vectors,
    reach: float,
    *,
    along: int | None = None,
    skip: Mask | None = None,
) -> Near:
    """Distances to sources given in fractional coordinates, measured across `along` if given."""
    if reach < 0.0 or not len(sources):
        return Near(np.empty(0, dtype=np.intp), np.empty(0))
    window = _Window(frame, sources, reach, along)
    atoms, targets = window.targets(frame.fractional)
    if skip is not None:
        wanted = ~skip[atoms]
        atoms, targets = atoms[wanted], targets[wanted]
    cell = frame.cell if along is None else _across(frame.cell, along)
    tree = cKDTree(window.images @ cell, balanced_tree=False, compact_nodes=False)
    distance, _ = tree.query(targets @ cell, distance_upper_bound=_above(reach))
    found = distance <= reach
    return Near(atoms[found], distance[found])


def _across(cell: Matrix, axis: int) -> Matrix:
    """Project the lattice vectors on the plane normal to one of them, which becomes 0."""
    unit = cell[axis] / np.linalg.norm(cell[axis])
    flat: Matrix = cell - np.outer(cell @ unit, unit)
    flat[axis] = 0.0
    return flat


class _Window:
    """The smallest box, in fractional coordinates, around everything in reach of some sources.

    Along a periodic axis where the box is shorter than the cell, every atom has at most one image
    in it, so atoms are moved there and sources need no images. Along the others the atoms are moved
    into one cell and the sources get all images within reach of that cell.
    """

    def __init__(self, frame: Frame, sources: Vectors, reach: float, along: int | None) -> None:
        pads = reach / heights(frame.inverse) + _MARGIN
        self._periodic = np.array(frame.topology.pbc, dtype=np.bool_)
        self._start = np.zeros(3)
        self._length = np.full(3, np.inf)
        self._along = along
        if along is not None:
            self._periodic[along] = False
        wide = []
        for axis in range(3):
            if axis != along:
                low, width = _extent(sources[:, axis], periodic=bool(self._periodic[axis]))
                length = width + 2.0 * pads[axis]
                self._start[axis] = low - pads[axis]
                if self._periodic[axis] and length >= 1.0:
                    wide.append(axis)
                else:
                    self._length[axis] = length
        self.images = self._moved(sources)
        """(m, 3) all needed images of the sources, in lattice vectors from the box's corner."""
        self.owner: Indices = np.arange(len(sources))
        """(m,) which source each image is of."""
        for axis in wide:
            self._repeat(axis, pads[axis])

    def targets(self, fractional: Vectors) -> tuple[Indices, Vectors]:
        """Find the atoms in the box, and their places in lattice vectors from its corner."""
        atoms: Indices | None = None
        for axis in np.argsort(self._length):
            length = self._length[axis]
            if np.isfinite(length):
                column = fractional[:, axis] if atoms is None else fractional[atoms, axis]
                place = column - self._start[axis]
                if self._periodic[axis]:
                    place -= np.floor(place)
                    inside = place <= length
                else:
                    inside = (place >= 0.0) & (place <= length)
                atoms = np.flatnonzero(inside) if atoms is None else atoms[inside]
        if atoms is None:
            return np.arange(len(fractional)), self._moved(fractional)
        return atoms, self._moved(fractional[atoms])

    def _moved(self, fractional: Vectors) -> Vectors:
        places: Vectors = fractional - self._start
        if self._along is not None:
            places[:, self._along] = 0.0
        places -= np.floor(places) * self._periodic
        return places

    def _repeat(self, axis: int, pad: float) -> None:
        """Add the images along an axis that lie within reach of the cell of targets."""
        steps = np.arange(-np.ceil(pad) - 1.0, np.ceil(pad) + 2.0)
        places = self.images[:, axis, None] + steps
        source, step = np.nonzero((places >= -pad) & (places <= 1.0 + pad))
        self.images = self.images[source]
        self.images[:, axis] = places[source, step]
        self.owner = self.owner[source]


def _extent(column: Scalars, *, periodic: bool) -> tuple[float, float]:
    """Lowest coordinate and width of some points; on a circle, of the shortest arc around them."""
    if not periodic:
        low = float(column.min())
        return low, float(column.max()) - low
    places = np.sort(column - np.floor(column))
    gaps = np.diff(places, append=places[0] + 1.0)
    widest = int(np.argmax(gaps))
    return float(places[(widest + 1) % len(places)]), float(1.0 - gaps[widest])
