"""Distances from all atoms to the nearest source: atoms, points, or the surfaces of bodies.

The sources are few and the atoms many, so atoms far from every source are left out first, and the
rest asks a KD-tree.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np

from mixserver.core.arrays import Indices, Mask, Scalars, Vectors, mask_of
from mixserver.core.cell import plane_spacings
from mixserver.core.frame import Frame
from mixserver.geometry.search_box import SearchBox, box_around, squared_lengths, subtract_point

_FEW: Final = 4000
"""Up to so many atoms, measuring all of them is quicker than leaving some out first."""


class DistanceResult(NamedTuple):
    """The atoms within reach of some sources, and how far away they are."""

    atoms: Indices
    """(n,) ascending."""
    distance: Scalars
    """(n,) Å to the nearest image of the nearest source, at most the reach."""

    def dense(self, count: int) -> Scalars:
        """Distances of all `count` atoms, (N,) Å, inf beyond the reach."""
        distance = np.full(count, np.inf)
        distance[self.atoms] = self.distance
        return distance


def distances_to_atoms(
    frame: Frame, sources: Indices, reach: float, *, skip: Mask | None = None
) -> DistanceResult:
    """Find the atoms within `reach` (Å, inclusive) of the atoms `sources`, themselves included.

    Args:
        frame: the atoms.
        sources: (s,) distinct atoms.
        reach: Å.
        skip: (N,) atoms to leave out, e.g. because they are known to be in reach.
    """
    if not len(sources) or reach <= 0.0:
        kept = np.sort(sources) if skip is None else np.sort(sources[~skip[sources]])
        return DistanceResult(kept, np.zeros(len(kept)))
    if len(sources) == 1 and skip is None and single_image(frame, reach):
        return _distances_to_point(
            frame, frame.fractional[sources[0]], frame.positions[sources[0]], reach
        )
    return _search(frame, box_around(frame, sources, reach), skip)


def distances_to_points(frame: Frame, points: Vectors, reach: float) -> DistanceResult:
    """Find the atoms within `reach` (Å, inclusive) of `points`, (s, 3) Å."""
    return _to_points(frame, np.asarray(points, dtype=np.float64), reach)


def nearest_distances(frame: Frame, sources: Indices, reach: float) -> Scalars:
    """Distance of every atom to the nearest of the atoms `sources`: (N,) Å, inf beyond `reach`."""
    return distances_to_atoms(frame, sources, reach).dense(len(frame))


def within(frame: Frame, sources: Indices, reach: float) -> Mask:
    """(N,) whether each atom lies within `reach` (Å, inclusive) of the atoms `sources`."""
    return mask_of(distances_to_atoms(frame, sources, reach).atoms, len(frame))


def distances_to_sphere(
    frame: Frame, centre: Vectors, radius: float, reach: float
) -> DistanceResult:
    """Find the atoms within `reach` of a sphere's surface, or inside it (distance 0).

    Args:
        frame: the atoms.
        centre: (3,) Å.
        radius: Å.
        reach: Å outside the surface.
    """
    return _from_surface(_to_points(frame, centre[None], reach + radius), radius)


def distances_to_cylinder(
    frame: Frame, axis: int, centre: Vectors, radius: float, reach: float
) -> DistanceResult:
    """Find the atoms within `reach` of the surface of an infinite cylinder, or inside it.

    Args:
        frame: the atoms.
        axis: the lattice vector along which the cylinder runs.
        centre: (3,) Å, a point on its axis.
        radius: Å.
        reach: Å outside the surface.
    """
    return _from_surface(_to_points(frame, centre[None], reach + radius, axis), radius)


def distances_to_slab(
    frame: Frame, axis: int, low: float, high: float, reach: float
) -> DistanceResult:
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
    distance = np.maximum(beyond, 0.0) * plane_spacings(frame.cell)[axis]
    atoms = np.flatnonzero(distance <= reach)
    return DistanceResult(atoms, distance[atoms])


def _from_surface(near: DistanceResult, radius: float) -> DistanceResult:
    return DistanceResult(near.atoms, np.maximum(near.distance - radius, 0.0))


def _to_points(
    frame: Frame, points: Vectors, reach: float, along: int | None = None
) -> DistanceResult:
    """Distances to points (Å), or to lines through them along a lattice vector."""
    if reach < 0.0 or not len(points):
        return DistanceResult(np.empty(0, dtype=np.intp), np.empty(0))
    return _search(frame, SearchBox(frame, points @ frame.inverse, points, reach, along), None)


def single_image(frame: Frame, reach: float) -> bool:
    """Whether at most one image of each atom is in reach of a point, and all may be measured."""
    if len(frame) > _FEW:
        return False
    sides = zip(plane_spacings(frame.cell).tolist(), frame.topology.pbc, strict=True)
    return all(reach < 0.499 * height for height, periodic in sides if periodic)


def _distances_to_point(
    frame: Frame, fractional: Vectors, position: Vectors, reach: float
) -> DistanceResult:
    """Distances to one point, given both ways, where `single_image` is true."""
    distance = np.sqrt(squared_lengths(displacements_from(frame, fractional, position)))
    atoms = (distance <= reach).nonzero()[0]
    return DistanceResult(atoms, distance.take(atoms))


def displacements_from(frame: Frame, fractional: Vectors, position: Vectors) -> Vectors:
    """(N, 3) Å from one point, given both ways, to the atoms; valid where `single_image` is."""
    shifts = subtract_point(frame.fractional, fractional)
    np.rint(shifts, out=shifts)
    if not all(frame.topology.pbc):
        shifts *= frame.topology.pbc
    vectors = shifts @ frame.cell
    np.subtract(frame.positions, vectors, out=vectors)
    return subtract_point(vectors, position)


def _search(frame: Frame, box: SearchBox, skip: Mask | None) -> DistanceResult:
    atoms, targets = box.targets(frame, skip)
    distance, _ = box.search(targets)
    found = distance <= box.reach
    return DistanceResult(atoms[found], distance[found])
