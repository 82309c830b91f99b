"""All pairs of atoms and sources in a shell, image by image, for what has a gradient.

Where distances to the *nearest* source do, see `distances`.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
from scipy.spatial import cKDTree

from mixserver.arrays import Indices, Mask, Scalars, Vectors
from mixserver.frame import Frame
from mixserver.geometry.distances import apart, lone
from mixserver.geometry.window import EDGE, Window, squares

_FEW_PAIRS: Final = 20_000
"""Up to so many pairs it costs less to measure all than to build trees."""


class Shell(NamedTuple):
    """Atoms around some sources, and the pairs that matter to those in the shell."""

    inside: Indices
    """(k,) atoms that have an image of a source within the inner radius, ascending."""
    atoms: Indices
    """(n,) other atoms that have one nearer than the outer radius, ascending."""
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
        """(n,) how many pairs each atom in the shell has."""
        return np.diff(self.first, append=len(self.source))


def shell(frame: Frame, sources: Indices, inner: float, outer: float) -> Shell:
    """Find the atoms in a shell around the nearest of some atoms, with all their sources in reach.

    Args:
        frame: the atoms.
        sources: (s,) distinct atoms; they are inside themselves.
        inner: Å, inclusive, 0 or more.
        outer: Å, exclusive, more than `inner`.
    """
    if not len(sources):
        none = np.empty(0, dtype=np.intp)
        return Shell(none, none, none, none, np.empty((0, 3)), np.empty(0))
    if len(sources) == 1 and lone(frame, outer):
        return _around_one(frame, int(sources[0]), inner, outer)
    window = Window(
        frame,
        frame.fractional.take(sources, axis=0),
        frame.positions.take(sources, axis=0),
        outer,
    )
    atoms, targets = window.targets(frame)
    nearest, _ = window.search(targets)
    inside = nearest <= inner
    inside |= _among(atoms, sources, len(frame))  # whatever rounding says of a distance to itself
    rest = np.flatnonzero(~inside & (nearest < outer))
    row, image, vector, distance = _pairs(targets.take(rest, axis=0), window.images, outer)
    first = row.searchsorted(np.arange(len(rest)))
    owner = sources.take(window.owner.take(image))
    return Shell(atoms[inside], atoms.take(rest), first, owner, vector, distance)


def _around_one(frame: Frame, source: int, inner: float, outer: float) -> Shell:
    vector = apart(frame, frame.fractional[source], frame.positions[source])
    distance = np.sqrt(squares(vector))
    near = distance <= inner
    near[source] = True
    atoms = np.flatnonzero((distance < outer) & ~near)
    return Shell(
        np.flatnonzero(near),
        atoms,
        np.arange(len(atoms)),
        np.full(len(atoms), source),
        vector.take(atoms, axis=0),
        distance.take(atoms),
    )


def _pairs(
    targets: Vectors, images: Vectors, reach: float
) -> tuple[Indices, Indices, Vectors, Scalars]:
    """List the pairs nearer than `reach` (Å), by target: both rows, the vector, the distance."""
    row: Indices
    image: Indices
    if len(targets) * len(images) <= _FEW_PAIRS:
        row, image = np.divmod(np.arange(len(targets) * len(images)), max(len(images), 1))
    else:
        tree = cKDTree(targets, balanced_tree=False, compact_nodes=False)
        near = tree.sparse_distance_matrix(
            cKDTree(images, balanced_tree=False, compact_nodes=False),
            reach + EDGE,
            output_type="ndarray",
        )
        order = np.lexsort((near["j"], near["i"]))
        row, image = near["i"][order], near["j"][order]
    vector = targets.take(row, axis=0) - images.take(image, axis=0)
    distance = np.sqrt(squares(vector))
    kept = np.flatnonzero(distance < reach)
    return row.take(kept), image.take(kept), vector.take(kept, axis=0), distance.take(kept)


def _among(some: Indices, others: Indices, count: int) -> Mask:
    mask = np.zeros(count, dtype=np.bool_)
    mask[others] = True
    found: Mask = mask.take(some)
    return found
