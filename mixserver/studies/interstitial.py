"""Where a self-interstitial is in a hot crystal: occupation of Wigner-Seitz cells.

Each atom belongs to the lattice site that it is nearest to. One atom too many makes one site with
two of them, the interstitial. Thermal motion makes close pairs of another such site and an empty
one for moments; each empty site is paired with the nearest site of two, and their distance is added
to the place of the site that is left. So the place is the sum of all sites weighted by how many
atoms they have too many, which no such pair changes for longer than it lasts.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from scipy.optimize import linear_sum_assignment
from scipy.spatial import cKDTree

from mixserver.core.arrays import Block, Indices, Scalars, Vectors
from mixserver.core.errors import ConfigError


@dataclass(frozen=True, slots=True)
class InterstitialWalk:
    """A self-interstitial in the frames of a trajectory."""

    sites: Block
    """(t, 3) Å, unwrapped, in the frame of the lattice: the site that the atoms share."""
    atoms: Indices
    """(t, 2) the two atoms of that site."""
    axes: Block
    """(t, 3) Å, from one of them to the other."""
    centres: Block
    """(t, 3) Å, half way between the two, in some image."""


def interstitial_walk(
    frames: Iterable[Vectors], sites: Vectors, lengths: Scalars
) -> InterstitialWalk:
    """Find a self-interstitial in each frame.

    Args:
        frames: (s + 1, 3) Å positions each, wrapped or not, of a cell with right angles.
        sites: (s, 3) Å of the perfect lattice; the atoms may drift away from it together, if slowly
            compared with the distance of sites.
        lengths: (3,) Å of the cell's edges.

    Raises:
        ConfigError: a frame has another number of atoms, or no site of two atoms is in it (the
            lattice is another one).
    """
    lattice = _Lattice(sites, lengths)
    found: list[tuple[Vectors, Indices, Vectors, Vectors]] = []
    drift = np.zeros(3)
    last: Vectors | None = None
    for number, positions in enumerate(frames):
        if len(positions) != len(sites) + 1:
            raise ConfigError(
                f"frame {number} has {len(positions)} atoms; a crystal of {len(sites)} sites with "
                f"one self-interstitial has {len(sites) + 1}"
            )
        drift = lattice.drift(positions, drift)
        place, atoms = lattice.interstitial(positions - drift, number)
        if last is not None:
            place = last + lattice.shortest(place - last)
        axis = lattice.shortest(positions[atoms[1]] - positions[atoms[0]])
        found.append((place, atoms, axis, positions[atoms[0]] + 0.5 * axis))
        last = place
    if not found:
        raise ConfigError("there is no frame to find an interstitial in")
    return InterstitialWalk(*(np.array(column) for column in zip(*found, strict=True)))


class _Lattice:
    """The sites of a periodic crystal."""

    def __init__(self, sites: Vectors, lengths: Scalars) -> None:
        self._lengths = np.asarray(lengths, dtype=np.float64)
        self._sites = np.asarray(sites, dtype=np.float64)
        self._tree = cKDTree(self._wrapped(self._sites), boxsize=self._lengths)

    def shortest(self, vectors: Vectors) -> Vectors:
        """Vectors between the nearest images, Å."""
        return vectors - self._lengths * np.rint(vectors / self._lengths)

    def drift(self, positions: Vectors, before: Vectors) -> Vectors:
        """By how much the lattice has moved in all, from atoms that are alone at their site.

        Twice, as atoms may belong to other sites once the drift since the frame before is known.
        """
        for _ in range(2):
            of = self._nearest(positions - before)
            alone = np.bincount(of, minlength=len(self._sites))[of] == 1
            away = self.shortest(positions - before - self._sites[of])
            before = before + away[alone].mean(axis=0)
        return before

    def interstitial(self, positions: Vectors, number: int) -> tuple[Vectors, Indices]:
        """The place, somewhere in the periodic lattice, and the two atoms."""
        of = self._nearest(positions)
        counts = np.bincount(of, minlength=len(self._sites))
        empty = np.flatnonzero(counts == 0)
        shared = np.repeat(np.arange(len(counts)), np.maximum(counts - 1, 0))
        if len(shared) != len(empty) + 1 or len(shared) > len(counts) // 8:
            raise ConfigError(
                f"frame {number} is not a crystal with one self-interstitial: {len(shared)} of "
                f"{len(counts)} lattice sites have two atoms; is it another lattice, or molten?"
            )
        apart = self.shortest(self._sites[shared][:, None] - self._sites[empty][None])
        rows, columns = linear_sum_assignment(np.linalg.norm(apart, axis=-1))
        (left,) = np.setdiff1d(np.arange(len(shared)), rows)
        place = self._sites[shared[left]] + apart[rows, columns].sum(axis=0)
        return place, np.flatnonzero(of == shared[left])[:2]

    def _nearest(self, positions: Vectors) -> Indices:
        return np.asarray(self._tree.query(self._wrapped(positions))[1], dtype=np.intp)

    def _wrapped(self, positions: Vectors) -> Vectors:
        wrapped = positions - self._lengths * np.floor(positions / self._lengths)
        # rounding may leave the length itself, which a periodic tree refuses
        return np.where(wrapped >= self._lengths, 0.0, wrapped)
