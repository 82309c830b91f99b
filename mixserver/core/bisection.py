"""Dividing atoms into parts of nearly equal number by planes across their longest extent."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from mixserver.core.arrays import Indices, Mask, Matrix, Vectors
from mixserver.core.cell import largest_empty_arc, plane_spacings


def bisect(
    atoms: Indices, fractional: Vectors, cell: Matrix, pbc: Sequence[bool] | Mask, most: float
) -> list[Indices]:
    """Divide atoms into as few parts as can be, none of more than `most` atoms.

    Args:
        atoms: (n,) ascending.
        fractional: (n, 3) theirs, wrapped or not.
        cell: (3, 3) Å, with a volume, in whose lattice vectors the coordinates are.
        pbc: periodic axes; there, the atoms are unwrapped at the widest gap between them.
        most: at least 1.

    Returns:
        Parts of ascending indices; none for no atoms.
    """
    if not len(atoms):
        return []
    places = fractional.copy()
    for axis in range(3):
        if pbc[axis]:
            places[:, axis] -= largest_empty_arc(places[:, axis]).end
            places[:, axis] -= np.floor(places[:, axis] + 1e-9)
    return _halved(atoms, places * plane_spacings(cell), most)


def _halved(atoms: Indices, places: Vectors, most: float) -> list[Indices]:
    count = math.ceil(len(atoms) / most)
    if count < 2:
        return [atoms]
    axis = int(np.ptp(places, axis=0).argmax())
    order = places[:, axis].argsort(kind="stable")
    cut = len(atoms) * (count // 2) // count
    halves = np.sort(order[:cut]), np.sort(order[cut:])
    return [part for half in halves for part in _halved(atoms[half], places[half], most)]
