"""Verlet lists: the atoms within reach of a set of sources that changes little by little.

An atom that is clearly in reach, or clearly out of reach, in a reference frame stays so until atoms
have moved by the skin. Only pairs near the edge of the reach are measured again in each frame. The
answers are exact: what is remembered saves time and changes none of them.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from scipy.spatial import cKDTree

from mixserver.core.arrays import Indices, Mask, Matrix, Vectors, mask_of
from mixserver.core.frame import Frame, Topology
from mixserver.geometry.distances import within
from mixserver.geometry.search_box import SearchBox, box_around, fast_squared_lengths

_SKIN: Final = 0.5
"""Å that atoms near the edge of a reach may move from the reference frame: some twenty steps of
hydrogen, hundreds of tungsten. A thicker skin means longer lists of pairs."""
_MARGIN: Final = 2.0 * _SKIN + 1e-6
"""Å by which the distance of two moving atoms may change meanwhile."""
_FAR: Final = 1.0
"""Å beyond the skin that atoms far from all sources may move."""
_EDGE: Final = 1e-9
"""Relative to a squared reach. Closer to the reach than this, rounding decides, so the full search
is asked."""

_QUICK: Final = {"balanced_tree": False, "compact_nodes": False}
"""For trees that are asked once."""


class DisplacementTracker:
    """Follows one trajectory and offers the frame that lists may use as their reference."""

    def __init__(self) -> None:
        self.reference: Frame | None = None
        """Watched atoms have moved from it by no more than the skin. None if a reference would not
        last, because the cell changes or atoms move too fast."""
        self._last: tuple[Topology, Vectors, Matrix] | None = None
        self._moved: Vectors = np.empty((0, 3))
        self._watched: Mask = np.empty(0, dtype=np.bool_)

    def update(self, frame: Frame) -> None:
        """Take the next frame of the trajectory."""
        last, self._last = self._last, (frame.topology, frame.positions, frame.cell)
        old, moved = self.reference, None
        if old is not None:
            moved = _displacements(frame, old.topology, old.positions, old.cell)
        if moved is not None and self._lasts(moved):
            self._moved = moved
            return
        step = _displacements(frame, *last) if last is not None else None
        lasting = step is not None and _all_within(step, 0.5 * _SKIN)
        self.reference = Frame(*self._last) if lasting else None  # without cached properties
        self._moved = np.zeros((len(frame), 3))
        self._watched = np.zeros(len(frame), dtype=np.bool_)

    def watch(self, atoms: Indices) -> None:
        """Keep the reference only while these atoms stay within the skin; drop it if they left."""
        self._watched[atoms] = True
        if not _all_within(self._moved.take(atoms, axis=0), _SKIN):
            self.reference = None

    def _lasts(self, moved: Vectors) -> bool:
        if _all_within(moved, _SKIN):  # the usual case, whichever atoms are watched
            return True
        if not _all_within(moved, _SKIN + _FAR):
            return False
        return _all_within(moved.take(np.flatnonzero(self._watched), axis=0), _SKIN)


class VerletList:
    """The atoms within reach of a set of source atoms that changes from frame to frame.

    In the reference frame each atom is in one of three classes:

    * *certain*: one source, its *certain neighbour*, is within reach by more than the skin;
    * *listed*: all its pairs with known sources that may be in reach are on the list;
    * out of reach of every known source.

    *Known* sources are all atoms that have been a source since the last rebuild, and atoms that
    became and ceased to be sources before it.

    Args:
        reach: Å, inclusive.
    """

    def __init__(self, reach: float) -> None:
        self._reach = reach
        self._reference: Frame | None = None
        self._always = self._ever = np.empty(0, dtype=np.bool_)
        self._sources = b""
        """Of the last call; while they stay the same, the list is up to date."""

    def mask(
        self, frame: Frame, tracker: DisplacementTracker, sources: Indices, is_source: Mask
    ) -> Mask:
        """Find the atoms within reach of the atoms `sources`; these themselves may be left out.

        Args:
            frame: the atoms.
            tracker: updated with this frame.
            sources: (s,) distinct atoms.
            is_source: (N,) the same as a mask.
        """
        reference = tracker.reference
        if reference is None or not len(sources) or self._reach <= 0.0:
            self._reference = None
            return within(frame, sources, self._reach)
        key = sources.tobytes()
        if reference is not self._reference:
            self._rebuild(tracker, reference, is_source)
        elif key != self._sources:
            self._extend(tracker, reference, sources, is_source)
        if tracker.reference is not reference:  # atoms that matter now left the skin before
            self._reference = None
            return within(frame, sources, self._reach)
        if key != self._sources:
            self._recheck(reference, is_source)
            self._sources = key
        place = frame.positions
        vectors = place.take(self._atom, axis=0)
        vectors -= place.take(self._source, axis=0)
        vectors += self._shift
        lengths = fast_squared_lengths(vectors)
        limit = self._reach * self._reach
        hit = lengths <= limit * (1.0 - _EDGE)
        if np.count_nonzero(hit) != np.count_nonzero(lengths <= limit * (1.0 + _EDGE)):
            return within(frame, sources, self._reach)
        hit &= is_source.take(self._source)
        mask = mask_of(self._certain, len(frame))
        mask[self._atom[hit]] = True
        return mask

    def _rebuild(self, tracker: DisplacementTracker, reference: Frame, is_source: Mask) -> None:
        """Start a new list.

        Atoms that became and ceased to be sources since the last rebuild are known from the start
        and serve as no certain neighbour.
        """
        intermittent = np.zeros(len(reference), dtype=np.bool_)
        if self._reference is not None and len(self._ever) == len(reference):
            intermittent = self._ever & ~self._always
        self._reference = reference
        self._always, self._ever = is_source.copy(), is_source.copy()
        self._known = is_source | intermittent
        known = np.flatnonzero(self._known)
        self._count = len(known)
        self._atom, self._source = np.empty((2, 0), dtype=np.intp)
        self._shift: Vectors = np.empty((0, 3))
        self._certain = self._certain_neighbour = np.empty(0, dtype=np.intp)
        box, atoms, targets = self._watched_box(tracker, reference, known)
        steady = np.flatnonzero((is_source & ~intermittent).take(known).take(box.owner))
        limit = self._reach - _MARGIN
        if len(steady) and limit > 0.0:
            tree = cKDTree(box.images.take(steady, axis=0), **_QUICK)
            distance, image = tree.query(targets, distance_upper_bound=limit)
            certain = distance <= limit
            self._certain = atoms[certain]
            self._certain_neighbour = known[box.owner[steady[image[certain]]]]
            atoms, targets = atoms[~certain], targets[~certain]
        self._list(reference, box, known, atoms, targets)

    def _extend(
        self, tracker: DisplacementTracker, reference: Frame, sources: Indices, is_source: Mask
    ) -> None:
        """Add the pairs of sources that are not known yet."""
        self._always &= is_source
        known = self._known.take(sources)
        if known.all():
            return
        new = sources[~known]
        self._ever[new] = True
        self._count += len(new)
        if self._count > 1.25 * len(sources) + 32:  # too many pairs are with former sources
            self._ever[:] = False
            self._rebuild(tracker, reference, is_source)
            return
        self._known[new] = True
        skip = mask_of(self._certain, len(reference))
        box, atoms, targets = self._watched_box(tracker, reference, new, skip)
        self._list(reference, box, new, atoms, targets)

    def _watched_box(
        self,
        tracker: DisplacementTracker,
        reference: Frame,
        sources: Indices,
        skip: Mask | None = None,
    ) -> tuple[SearchBox, Indices, Vectors]:
        """The search box of all that sources may reach while the reference lasts, now watched."""
        box = box_around(reference, sources, self._reach + _MARGIN + _FAR)
        atoms, targets = box.targets(reference, skip)
        tracker.watch(atoms)
        return box, atoms, targets

    def _recheck(self, reference: Frame, is_source: Mask) -> None:
        """List the certain atoms whose certain neighbour is no source any more."""
        counts = is_source.take(self._certain_neighbour)
        if counts.all():
            return
        lost = np.flatnonzero(~counts)
        atoms = self._certain[lost]
        self._certain = np.delete(self._certain, lost)
        self._certain_neighbour = np.delete(self._certain_neighbour, lost)
        known = np.flatnonzero(self._known)
        box = box_around(reference, known, self._reach + _MARGIN)
        atoms, targets = box.targets(reference, ~mask_of(atoms, len(reference)))
        self._list(reference, box, known, atoms, targets)

    def _list(
        self, reference: Frame, box: SearchBox, sources: Indices, atoms: Indices, targets: Vectors
    ) -> None:
        """Add the pairs of atoms (at `targets`, Å, in the box) and sources that may be in reach."""
        if not len(atoms):
            return
        near = cKDTree(targets, **_QUICK).sparse_distance_matrix(
            cKDTree(box.images, **_QUICK), self._reach + _MARGIN, output_type="ndarray"
        )
        row, image = near["i"], near["j"]
        atom, source = atoms[row], sources[box.owner[image]]
        shift = targets[row] - reference.positions[atom]
        shift -= box.images[image] - reference.positions[source]
        self._atom = np.concatenate((self._atom, atom))
        self._source = np.concatenate((self._source, source))
        self._shift = np.concatenate((self._shift, shift))


def _displacements(
    frame: Frame, topology: Topology, positions: Vectors, cell: Matrix
) -> Vectors | None:
    """How far each atom moved from earlier positions, (N, 3) Å; None in another system or cell."""
    if (
        topology.pbc != frame.topology.pbc
        or len(positions) != len(frame)
        or cell.tobytes() != frame.cell.tobytes()
    ):
        return None
    return frame.positions - positions


def _all_within(vectors: Vectors, limit: float) -> bool:
    """Whether no vector is longer than `limit` (Å)."""
    if not len(vectors):
        return True
    if 3.0 * max(vectors.max(), -vectors.min()) ** 2 <= limit * limit:
        return True
    return bool(fast_squared_lengths(vectors).max() <= limit * limit)
