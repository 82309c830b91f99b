"""All pairs of atoms and source images in a shell, for functions that need a gradient.

For distances to the nearest source alone see `distances`.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
from scipy.spatial import cKDTree

from mixserver.core.arrays import Indices, Scalars, Vectors, mask_of
from mixserver.core.frame import Frame
from mixserver.geometry.distances import displacements_from, single_image
from mixserver.geometry.search_box import EDGE, box_around, squared_lengths

_FEW_IMAGES: Final = 64
"""Up to so many images of sources, listing all pairs is quicker than finding the inside first."""


class ShellPairs(NamedTuple):
    """The atoms inside and in a shell around some sources, and all pairs of those in the shell."""

    inside: Indices
    """(k,) atoms with an image of a source within the inner radius, ascending."""
    atoms: Indices
    """(n,) other atoms with one closer than the outer radius, ascending."""
    first: Indices
    """(n,) the first pair of each; pairs are sorted by atom."""
    source: Indices
    """(p,) the atom that is the source of each pair."""
    vector: Vectors
    """(p, 3) Å from the source's image to the atom."""
    distance: Scalars
    """(p,) Å, between the inner and the outer radius."""

    @property
    def counts(self) -> Indices:
        """(n,) the number of pairs of each atom in the shell."""
        return np.diff(self.first, append=len(self.source))


def shell_pairs(frame: Frame, sources: Indices, inner: float, outer: float) -> ShellPairs:
    """Find the atoms in a shell around the nearest of some sources, with all sources in reach.

    Args:
        frame: the atoms.
        sources: (s,) distinct atoms; they are inside themselves.
        inner: Å, inclusive, 0 or more.
        outer: Å, exclusive, more than `inner`.
    """
    if not len(sources):
        none = np.empty(0, dtype=np.intp)
        return ShellPairs(none, none, none, none, np.empty((0, 3)), np.empty(0))
    if len(sources) == 1 and single_image(frame, outer):
        return _one_source(frame, int(sources[0]), inner, outer)
    box = box_around(frame, sources, outer)
    atoms, targets = box.targets(frame)
    core = mask_of(sources, len(frame)).take(atoms)  # a distance to itself may be rounded
    if len(box.images) > _FEW_IMAGES:  # most pairs are inside and not needed
        nearest, _ = box.search(targets)
        core |= nearest <= inner
        rest = np.flatnonzero(~core & (nearest < outer))
        row, image = _pairs(targets.take(rest, axis=0), box.images, outer)
        row = rest.take(row)
    else:
        row, image = _pairs(targets, box.images, outer)
    vector = targets.take(row, axis=0) - box.images.take(image, axis=0)
    distance = np.sqrt(squared_lengths(vector))
    core[row[distance <= inner]] = True
    kept = np.flatnonzero(~core.take(row) & (distance < outer))
    row, image = row.take(kept), image.take(kept)
    begins = np.ones(len(row), dtype=np.bool_)
    np.not_equal(row[1:], row[:-1], out=begins[1:])
    first = np.flatnonzero(begins)
    return ShellPairs(
        atoms[core],
        atoms.take(row.take(first)),
        first,
        sources.take(box.owner.take(image)),
        vector.take(kept, axis=0),
        distance.take(kept),
    )


def _one_source(frame: Frame, source: int, inner: float, outer: float) -> ShellPairs:
    vector = displacements_from(frame, frame.fractional[source], frame.positions[source])
    distance = np.sqrt(squared_lengths(vector))
    near = distance <= inner
    near[source] = True
    atoms = np.flatnonzero((distance < outer) & ~near)
    return ShellPairs(
        np.flatnonzero(near),
        atoms,
        np.arange(len(atoms)),
        np.full(len(atoms), source),
        vector.take(atoms, axis=0),
        distance.take(atoms),
    )


def _pairs(targets: Vectors, images: Vectors, reach: float) -> tuple[Indices, Indices]:
    """The pairs that may be in reach (Å), sorted by target."""
    near = cKDTree(targets, balanced_tree=False, compact_nodes=False).sparse_distance_matrix(
        cKDTree(images, balanced_tree=False, compact_nodes=False),
        reach + EDGE,
        output_type="ndarray",
    )
    order = near["i"].argsort(kind="stable")
    return near["i"].take(order), near["j"].take(order)
