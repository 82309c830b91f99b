"""Distances from all atoms to some sources: atoms, points, or the surfaces of bodies.

The sources are few and the atoms many, so atoms far from every source are culled first, and what is
left meets a KD-tree.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np

from mixserver.arrays import Indices, Mask, Scalars, Vectors
from mixserver.frame import Frame
from mixserver.geometry.window import Window, heights, squares

_FEW: Final = 4000
"""Up to so many atoms it costs less to look at all of them than to cull."""


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
    if len(sources) == 1 and skip is None and lone(frame, reach):
        return _near_one(frame, frame.fractional[sources[0]], frame.positions[sources[0]], reach)
    window = Window(frame, frame.fractional[sources], frame.positions[sources], reach)
    return _near(frame, window, skip)


def near_points(frame: Frame, points: Vectors, reach: float) -> Near:
    """Find the atoms within `reach` (Å, inclusive) of `points`, (s, 3) Å."""
    return _around(frame, np.asarray(points, dtype=np.float64), reach)


def nearest(frame: Frame, sources: Indices, reach: float) -> Scalars:
    """Distance of every atom to the nearest of the atoms `sources`: (N,) Å, inf beyond `reach`."""
    return near_atoms(frame, sources, reach).dense(len(frame))


def within(frame: Frame, sources: Indices, reach: float) -> Mask:
    """Tell which atoms lie within `reach` (Å, inclusive) of the atoms `sources`: (N,)."""
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


def _outside(near: Near, radius: float) -> Near:
    return Near(near.atoms, np.maximum(near.distance - radius, 0.0))


def _around(frame: Frame, points: Vectors, reach: float, along: int | None = None) -> Near:
    """Distances to points (Å), measured across a lattice vector if one is given."""
    if reach < 0.0 or not len(points):
        return Near(np.empty(0, dtype=np.intp), np.empty(0))
    return _near(frame, Window(frame, points @ frame.inverse, points, reach, along), None)


def lone(frame: Frame, reach: float) -> bool:
    """Tell whether no atom has two images in reach of a point, and atoms are too few to cull."""
    if len(frame) > _FEW:
        return False
    sides = zip(heights(frame.inverse).tolist(), frame.topology.pbc, strict=True)
    return all(reach < 0.499 * height for height, periodic in sides if periodic)


def _near_one(frame: Frame, fractional: Vectors, position: Vectors, reach: float) -> Near:
    """Find the atoms within reach of one point, given both ways; where `lone` says so."""
    distance = np.sqrt(squares(apart(frame, fractional, position)))
    atoms = np.flatnonzero(distance <= reach)
    return Near(atoms, distance.take(atoms))


def apart(frame: Frame, fractional: Vectors, position: Vectors) -> Vectors:
    """(N, 3) Å from one point, given both ways, to the atoms; right where `lone` says so."""
    turns = frame.fractional - fractional
    np.rint(turns, out=turns)
    if not all(frame.topology.pbc):
        turns *= frame.topology.pbc
    vectors: Vectors = frame.positions - turns @ frame.cell - position
    return vectors


def _near(frame: Frame, window: Window, skip: Mask | None) -> Near:
    atoms, targets = window.targets(frame, skip)
    distance, _ = window.search(targets)
    found = distance <= window.reach
    return Near(atoms[found], distance[found])
