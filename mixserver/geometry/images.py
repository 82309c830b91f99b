"""All atoms with their periodic images near the cell, as points; and all pairs of neighbours.

For questions about a whole crystal. Questions about a few sources are answered by `distances`.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.spatial import cKDTree

from mixserver.arrays import Indices, Scalars, Vectors
from mixserver.frame import Frame
from mixserver.geometry.window import heights


def padded(frame: Frame, pad: float) -> tuple[Vectors, Indices]:
    """All atoms in the cell, and their images within `pad` (Å) of it.

    Returns:
        (m, 3) Å, and (m,) which atom each is of. Atoms in the cell are where `frame.wrapped` has
        them.
    """
    inside = frame.wrapped @ frame.inverse
    atoms = np.arange(len(frame))
    for axis, height in enumerate(heights(frame.inverse)):
        if not frame.topology.pbc[axis]:
            continue
        reach = pad / float(height)
        times = int(np.ceil(reach))
        parts, owners = [], []
        for shift in range(-times, times + 1):
            place = inside[:, axis] + shift
            kept = np.flatnonzero((place >= -reach) & (place <= 1.0 + reach))
            moved = inside[kept]
            moved[:, axis] = place[kept]
            parts.append(moved)
            owners.append(atoms[kept])
        inside, atoms = np.concatenate(parts), np.concatenate(owners)
    return inside @ frame.cell, atoms


class Neighbours(NamedTuple):
    """Pairs of atoms, each from both sides; an atom and its own image are a pair too."""

    first: Indices
    """(p,)"""
    second: Indices
    """(p,)"""
    distance: Scalars
    """(p,) Å."""
    vector: Vectors
    """(p, 3) Å, from the first to that image of the second."""


def neighbours(frame: Frame, cutoff: float) -> Neighbours:
    """All pairs of atoms nearer than a cutoff (Å)."""
    atoms = frame.wrapped
    places, owner = padded(frame, cutoff)
    near = cKDTree(atoms).sparse_distance_matrix(cKDTree(places), cutoff, output_type="coo_matrix")
    first, image = near.row, near.col
    vector = places[image] - atoms[first]
    second = owner[image]
    # the same atom at no distance; two atoms at one place stay a pair
    itself = (first == second) & (np.abs(vector).max(axis=1, initial=0.0) < 1e-9)
    kept = np.flatnonzero(~itself)
    kept = kept[np.argsort(first[kept], kind="stable")]
    return Neighbours(
        first[kept].astype(np.intp),
        second[kept],
        np.linalg.norm(vector[kept], axis=1),
        vector[kept],
    )
