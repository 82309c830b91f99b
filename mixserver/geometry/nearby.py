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

_SKIN: Final = 0.5
"""Å that atoms near a reach may move from the reference: some twenty steps of hydrogen, hundreds of
tungsten. More means longer lists of pairs."""
_MARGIN: Final = 2.0 * _SKIN + 1e-6
"""Å by which a distance may change meanwhile, for one between two atoms that both move."""
_FAR: Final = 1.0
"""Å that atoms still farther away may move on top."""
_EDGE: Final = 1e-9
"""Relative to a squared reach: nearer to it than this, rounding decides, so the search is asked."""

_QUICK: Final = {"balanced_tree": False, "compact_nodes": False}
"""Trees that are asked once."""


class Drift:
    """Follows one trajectory, and says which frame of it may serve as the reference."""

    def __init__(self) -> None:
        self.reference: Frame | None = None
        """Watched atoms have moved from it by no more than the skin; None if a reference would not
        last, because the cell changes or atoms jump."""
        self._last: Frame | None = None
        self._moved: Vectors = np.empty((0, 3))
        self._watched: Mask = np.empty(0, dtype=np.bool_)

    def follow(self, frame: Frame) -> None:
        """Take in the next frame."""
        bare = Frame(frame.topology, frame.positions, frame.cell)  # does not hold on to its caches
        last, self._last = self._last, bare
        moved = _moved(self.reference, frame)
        if moved is not None and self._lasts(moved):
            self._moved = moved
            return
        step = _moved(last, frame)
        self.reference = bare if step is not None and _all_within(step, 0.5 * _SKIN) else None
        self._moved = np.zeros((len(frame), 3))
        self._watched = np.zeros(len(frame), dtype=np.bool_)

    def watch(self, atoms: Indices) -> None:
        """Have a reference only while these atoms stay within the skin; they may have left it."""
        self._watched[atoms] = True
        if not _all_within(self._moved.take(atoms, axis=0), _SKIN):
            self.reference = None

    def _lasts(self, moved: Vectors) -> bool:
        if _all_within(moved, _SKIN):  # mostly so, and then it matters not who is watched
            return True
        if not _all_within(moved, _SKIN + _FAR):
            return False
        return _all_within(moved.take(np.flatnonzero(self._watched), axis=0), _SKIN)


class Nearby:
    """The atoms within reach of a set of atoms that changes little by little.

    Each atom is one of three: *sure*, because its witness is a source and clearly in reach;
    *listed*, with all its pairs with known sources that may be in reach; or out of reach of every
    known source. Known are all atoms that were sources since the list was begun, and those that
    came and went before.

    Args:
        reach: Å, inclusive.
    """

    def __init__(self, reach: float) -> None:
        self._reach = reach
        self._reference: Frame | None = None
        self._always = self._ever = np.empty(0, dtype=np.bool_)

    def mask(self, frame: Frame, drift: Drift, sources: Indices, among: Mask) -> Mask:
        """Tell which atoms lie within reach of the atoms `sources`; may leave out these themselves.

        Args:
            frame: the atoms.
            drift: has followed this frame.
            sources: (s,) distinct atoms.
            among: (N,) the same as a mask.
        """
        reference = drift.reference
        if reference is None or not len(sources) or self._reach <= 0.0:
            self._reference = None
            return within(frame, sources, self._reach)
        if reference is not self._reference:
            self._begin(drift, reference, among)
        else:
            self._learn(drift, reference, sources, among)
        if drift.reference is not reference:  # atoms that matter now have left the skin before
            self._reference = None
            return within(frame, sources, self._reach)
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

    def _begin(self, drift: Drift, reference: Frame, among: Mask) -> None:
        """Begin a list. Atoms that came and went lately are known at once, and are no witnesses."""
        restless = np.zeros(len(reference), dtype=np.bool_)
        if self._reference is not None and len(self._ever) == len(reference):
            restless = self._ever & ~self._always
        self._reference = reference
        self._always, self._ever = among.copy(), among.copy()
        self._known = among | restless
        known = np.flatnonzero(self._known)
        self._count = len(known)
        self._atom, self._source = np.empty((2, 0), dtype=np.intp)
        self._shift: Vectors = np.empty((0, 3))
        self._sure = self._witness = np.empty(0, dtype=np.intp)
        window, atoms, targets = self._survey(drift, reference, known)
        steady = np.flatnonzero((among & ~restless).take(known).take(window.owner))
        limit = self._reach - _MARGIN
        if len(steady) and limit > 0.0:
            tree = cKDTree(window.images.take(steady, axis=0), **_QUICK)
            distance, image = tree.query(targets, distance_upper_bound=limit)
            sure = distance <= limit
            self._sure = atoms[sure]
            self._witness = known[window.owner[steady[image[sure]]]]
            atoms, targets = atoms[~sure], targets[~sure]
        self._list(reference, window, known, atoms, targets)

    def _learn(self, drift: Drift, reference: Frame, sources: Indices, among: Mask) -> None:
        """Make all sources known."""
        self._always &= among
        known = self._known.take(sources)
        if known.all():
            return
        new = sources[~known]
        self._ever[new] = True
        self._count += len(new)
        if self._count > 1.25 * len(sources) + 32:  # too many pairs are with sources no more
            self._ever[:] = False
            self._begin(drift, reference, among)
            return
        self._known[new] = True
        skip = _mask(self._sure, len(reference))
        window, atoms, targets = self._survey(drift, reference, new, skip)
        self._list(reference, window, new, atoms, targets)

    def _survey(
        self, drift: Drift, reference: Frame, sources: Indices, skip: Mask | None = None
    ) -> tuple[Window, Indices, Vectors]:
        """Lay out what sources may ever reach while the reference lasts, and have it watched."""
        window = _window(reference, sources, self._reach + _MARGIN + _FAR)
        atoms, targets = window.targets(reference, skip)
        drift.watch(atoms)
        return window, atoms, targets

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
        near = cKDTree(targets, **_QUICK).sparse_distance_matrix(
            cKDTree(window.images, **_QUICK), self._reach + _MARGIN, output_type="ndarray"
        )
        row, image = near["i"], near["j"]
        atom, source = atoms[row], sources[window.owner[image]]
        shift = targets[row] - reference.positions[atom]
        shift -= window.images[image] - reference.positions[source]
        self._atom = np.concatenate((self._atom, atom))
        self._source = np.concatenate((self._source, source))
        self._shift = np.concatenate((self._shift, shift))


def _moved(before: Frame | None, after: Frame) -> Vectors | None:
    """(N, 3) Å, how far each atom moved; None if the frames are of different systems."""
    if (
        before is None
        or before.topology.pbc != after.topology.pbc
        or len(before) != len(after)
        or before.cell.tobytes() != after.cell.tobytes()
    ):
        return None
    return after.positions - before.positions


def _all_within(vectors: Vectors, limit: float) -> bool:
    """Tell whether no vector is longer than `limit` (Å)."""
    if not len(vectors):
        return True
    if 3.0 * max(vectors.max(), -vectors.min()) ** 2 <= limit * limit:
        return True
    return bool(rough_squares(vectors).max() <= limit * limit)


def _window(frame: Frame, sources: Indices, reach: float) -> Window:
    return Window(frame, frame.fractional[sources], frame.positions[sources], reach)


def _mask(atoms: Indices, count: int) -> Mask:
    mask = np.zeros(count, dtype=np.bool_)
    mask[atoms] = True
    return mask
