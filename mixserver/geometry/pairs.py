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

_FEW_IMAGES: Final = 64
"""Up to so many images of sources it costs less to list all pairs than to find the inside first."""


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
    core = _among(atoms, sources, len(frame))  # whatever rounding says of a distance to itself
    if len(window.images) > _FEW_IMAGES:  # the inside has most pairs: spare them
        nearest, _ = window.search(targets)
        core |= nearest <= inner
        rest = np.flatnonzero(~core & (nearest < outer))
        row, image = _listed(targets.take(rest, axis=0), window.images, outer)
        row = rest.take(row)
    else:
        row, image = _listed(targets, window.images, outer)
    vector = targets.take(row, axis=0) - window.images.take(image, axis=0)
    distance = np.sqrt(squares(vector))
    core[row[distance <= inner]] = True
    kept = np.flatnonzero(~core.take(row) & (distance < outer))
    row, image = row.take(kept), image.take(kept)
    begins = np.ones(len(row), dtype=np.bool_)
    np.not_equal(row[1:], row[:-1], out=begins[1:])
    first = np.flatnonzero(begins)
    return Shell(
        atoms[core],
        atoms.take(row.take(first)),
        first,
        sources.take(window.owner.take(image)),
        vector.take(kept, axis=0),
        distance.take(kept),
    )


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


def _listed(targets: Vectors, images: Vectors, reach: float) -> tuple[Indices, Indices]:
    """List the pairs that may be in reach (Å), by target."""
    near = cKDTree(targets, balanced_tree=False, compact_nodes=False).sparse_distance_matrix(
        cKDTree(images, balanced_tree=False, compact_nodes=False),
        reach + EDGE,
        output_type="ndarray",
    )
    order = near["i"].argsort(kind="stable")
    return near["i"].take(order), near["j"].take(order)


def _among(some: Indices, others: Indices, count: int) -> Mask:
    mask = np.zeros(count, dtype=np.bool_)
    mask[others] = True
    found: Mask = mask.take(some)
    return found
