"""Which atoms are near some atoms, asked again and again while all of them move a little.

The idea of Verlet's lists: what is clearly in reach, or clearly out of it, at a reference frame
stays so until the atoms have moved by half of the margin. Only pairs of atoms near the edge of the
reach are measured anew. Nothing here is approximate; what is remembered saves time, and no answer
depends on it.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from scipy.spatial import cKDTree

from mixserver.arrays import Indices, Mask, Vectors
from mixserver.frame import Frame
from mixserver.geometry.distances import within
from mixserver.geometry.window import Window, rough_squares

_SKIN: Final = 0.3
"""Å that every atom may move from the reference: some ten steps of hydrogen, hundreds of tungsten.
More means longer lists of pairs."""
_MARGIN: Final = 2.0 * _SKIN + 1e-6
"""Å by which a distance may change meanwhile, for one between two atoms that both move."""
_EDGE: Final = 1e-9
"""Relative to a squared reach: nearer to it than this, rounding decides, so the search is asked."""


class Drift:
    """Follows one trajectory, and says which frame of it may serve as the reference."""

    def __init__(self) -> None:
        self._reference: Frame | None = None
        self._last: Frame | None = None

    def follow(self, frame: Frame) -> Frame | None:
        """Take in the next frame.

        Returns:
            The reference, from which no atom has moved by more than the skin; None if a reference
            would not last: the cell changes, or atoms jump.
        """
        bare = Frame(frame.topology, frame.positions, frame.cell)  # does not hold on to its caches
        last, self._last = self._last, bare
        if not _still(self._reference, frame, _SKIN):
            self._reference = bare if _still(last, frame, 0.5 * _SKIN) else None
        return self._reference


class Nearby:
    """The atoms within reach of a set of atoms that changes little by little.

    Each atom is one of three: *sure*, because its witness is a source and clearly in reach;
    *listed*, with all its pairs with known sources that may be in reach; or out of reach of every
    known source. Known are all atoms that were sources since the list was begun.

    Args:
        reach: Å, inclusive.
    """

    def __init__(self, reach: float) -> None:
        self._reach = reach
        self._reference: Frame | None = None

    def mask(self, frame: Frame, reference: Frame | None, sources: Indices, among: Mask) -> Mask:
        """Tell which atoms lie within reach of the atoms `sources`; may leave out these themselves.

        Args:
            frame: the atoms.
            reference: what `Drift.follow` said of this frame.
            sources: (s,) distinct atoms.
            among: (N,) the same as a mask.
        """
        if reference is None or not len(sources) or self._reach <= 0.0:
            self._reference = None
            return within(frame, sources, self._reach)
        self._learn(reference, sources)
        self._doubt(among)
        place = frame.positions
        apart = place.take(self._atom, axis=0)
        apart -= place.take(self._source, axis=0)
        apart += self._shift
        lengths = rough_squares(apart)
        limit = self._reach * self._reach
        hit = lengths <= limit * (1.0 - _EDGE)
        if np.count_nonzero(hit) != np.count_nonzero(lengths <= limit * (1.0 + _EDGE)):
            return within(frame, sources, self._reach)
        hit &= among.take(self._source)
        mask = np.zeros(len(frame), dtype=np.bool_)
        mask[self._sure] = True
        mask[self._atom[hit]] = True
        return mask

    def _learn(self, reference: Frame, sources: Indices) -> None:
        """Make all sources known."""
        if reference is not self._reference:
            self._begin(reference, sources)
            return
        known = self._known.take(sources)
        if known.all():
            return
        new = sources[~known]
        self._count += len(new)
        if self._count > 1.25 * len(sources) + 32:  # too many pairs are with sources no more
            self._begin(reference, sources)
            return
        self._known[new] = True
        window = _window(reference, new, self._reach + _MARGIN)
        atoms, targets = window.targets(reference, _mask(self._sure, len(reference)))
        self._list(reference, window, new, atoms, targets)

    def _begin(self, reference: Frame, sources: Indices) -> None:
        self._reference = reference
        self._known = _mask(sources, len(reference))
        self._count = len(sources)
        self._atom, self._source = np.empty((2, 0), dtype=np.intp)
        self._shift: Vectors = np.empty((0, 3))
        window = _window(reference, sources, self._reach + _MARGIN)
        atoms, targets = window.targets(reference)
        distance, image = window.search(targets)
        sure = distance <= self._reach - _MARGIN
        self._sure = atoms[sure]
        self._witness = sources[window.owner[image[sure]]]
        maybe = (distance <= window.reach) & ~sure
        self._list(reference, window, sources, atoms[maybe], targets[maybe])

    def _doubt(self, among: Mask) -> None:
        """List the sure atoms whose witness is a source no more."""
        counts = among.take(self._witness)
        if self._reference is None or counts.all():
            return
        lost = np.flatnonzero(~counts)
        reference, atoms = self._reference, self._sure[lost]
        self._sure = np.delete(self._sure, lost)
        self._witness = np.delete(self._witness, lost)
        known = np.flatnonzero(self._known)
        window = _window(reference, known, self._reach + _MARGIN)
        atoms, targets = window.targets(reference, ~_mask(atoms, len(reference)))
        self._list(reference, window, known, atoms, targets)

    def _list(
        self, reference: Frame, window: Window, sources: Indices, atoms: Indices, targets: Vectors
    ) -> None:
        """Add the pairs of atoms (at `targets`, Å, in the window) and sources that may matter."""
        if not len(atoms):
            return
        near = cKDTree(targets).sparse_distance_matrix(
            cKDTree(window.images), window.reach, output_type="ndarray"
        )
        row, image = near["i"], near["j"]
        atom, source = atoms[row], sources[window.owner[image]]
        shift = targets[row] - reference.positions[atom]
        shift -= window.images[image] - reference.positions[source]
        self._atom = np.concatenate((self._atom, atom))
        self._source = np.concatenate((self._source, source))
        self._shift = np.concatenate((self._shift, shift))


def _still(before: Frame | None, after: Frame, limit: float) -> bool:
    """Tell whether the cell is the same and no atom moved by more than `limit` (Å)."""
    if (
        before is None
        or before.topology.pbc != after.topology.pbc
        or len(before) != len(after)
        or not np.array_equal(before.cell, after.cell)
    ):
        return False
    return bool(rough_squares(after.positions - before.positions).max() <= limit * limit)


def _window(frame: Frame, sources: Indices, reach: float) -> Window:
    return Window(frame, frame.fractional[sources], frame.positions[sources], reach)


def _mask(atoms: Indices, count: int) -> Mask:
    mask = np.zeros(count, dtype=np.bool_)
    mask[atoms] = True
    return mask
