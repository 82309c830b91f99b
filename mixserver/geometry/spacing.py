"""How far apart neighbouring atoms are: the one number that shows a wrong unit at once."""

from __future__ import annotations

import itertools
from typing import NamedTuple

import numpy as np
from scipy.spatial import cKDTree

from mixserver.frame import Frame
from mixserver.geometry.images import padded


class Spacing(NamedTuple):
    """Distances between each atom and its nearest neighbour, images of itself included."""

    nearest: float
    """Å, the shortest of them."""
    pair: tuple[int, int]
    """The atoms between which it is; the same twice for an atom and its own image."""
    typical: float
    """Å, their median."""


def spacing(frame: Frame) -> Spacing | None:
    """Measure to nearest neighbours; None for a single atom that does not repeat."""
    atoms = frame.wrapped
    reach = 1.5 * (frame.volume / len(frame)) ** (1.0 / 3.0)
    farthest = float(
        np.linalg.norm(np.ptp(atoms, axis=0)) + np.linalg.norm(frame.cell, axis=1).sum()
    )
    while True:
        places, owner = padded(frame, reach)
        # the nearest of all is the atom itself
        distance, image = cKDTree(places).query(atoms, k=2, distance_upper_bound=reach)
        found = np.isfinite(distance[:, 1])
        if found.all() or reach > farthest:
            break
        reach *= 2.0
    if not found.any():
        return None
    first = int(np.argmin(np.where(found, distance[:, 1], np.inf)))
    second = int(owner[image[first, 1]])
    if second == first and distance[first, 1] == 0.0:  # it found the other atom at its place first
        second = int(owner[image[first, 0]])
    return Spacing(
        float(distance[first, 1]),
        (min(first, second), max(first, second)),
        float(np.median(distance[found, 1])),
    )


def gap(frame: Frame, axes: tuple[bool, bool, bool], reach: float) -> float:
    """Å between the system and its nearest image along some axes; `reach` if it is farther.

    Args:
        frame: the atoms where they are, as if the system repeated along all axes.
        axes: whether an image counts that is moved along each axis.
        reach: Å, how far to look.
    """
    tree = cKDTree(frame.positions)
    least = reach
    for shift in itertools.product((-1, 0, 1), repeat=3):
        if not any(moved and counts for moved, counts in zip(shift, axes, strict=True)):
            continue
        if shift < (0, 0, 0):
            continue  # the same pairs from the other side
        image = frame.positions + np.array(shift, np.float64) @ frame.cell
        distance, _ = tree.query(image, distance_upper_bound=least)
        least = min(least, float(distance.min()))
    return least
