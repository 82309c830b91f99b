"""Nearest-neighbour distances, which show wrong units at once, and distances between images."""

from __future__ import annotations

import itertools
from typing import NamedTuple

import numpy as np
from scipy.spatial import cKDTree

from mixserver.core.frame import Frame
from mixserver.geometry.neighbours import neighbour_list, with_images


class Spacing(NamedTuple):
    """Distances of all atoms to their nearest neighbours, which may be images of themselves."""

    nearest: float
    """Å, the shortest."""
    pair: tuple[int, int]
    """The two atoms; the same one twice for an atom and its own image."""
    typical: float
    """Å, the median."""


def spacing(frame: Frame) -> Spacing | None:
    """Nearest-neighbour distances; None for a single atom without periodic images."""
    atoms = frame.wrapped
    reach = 1.5 * (frame.volume / len(frame)) ** (1.0 / 3.0)
    farthest = float(
        np.linalg.norm(np.ptp(atoms, axis=0)) + np.linalg.norm(frame.cell, axis=1).sum()
    )
    while True:
        places, owner = with_images(frame, reach)
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
    if second == first and distance[first, 1] == 0.0:  # another atom at the same place came first
        second = int(owner[image[first, 0]])
    return Spacing(
        float(distance[first, 1]),
        (min(first, second), max(first, second)),
        float(np.median(distance[found, 1])),
    )


def shortest_distance(frame: Frame, reach: float | None = None) -> float:
    """Distance of the closest two atoms, Å; images of one atom count.

    Args:
        frame: the atoms.
        reach: Å; only closer atoms count. None to search as far as needed.

    Returns:
        The distance, or inf if no two atoms are that close.
    """
    if reach is None:
        found = spacing(frame)
        return np.inf if found is None else found.nearest
    return float(neighbour_list(frame, reach).distance.min(initial=np.inf))


def image_distance(frame: Frame, axes: tuple[bool, bool, bool], reach: float) -> float:
    """Distance of the atoms and their nearest images along some axes (a vacuum), Å.

    Args:
        frame: the atoms, not wrapped; taken as periodic along all axes.
        axes: along which axes to look; an image counts if it is shifted along one of them.
        reach: Å, where the search ends; returned if there is no image.
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
