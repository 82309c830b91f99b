"""Which atoms belong together: groups linked by distance."""

from __future__ import annotations

from typing import Final

import numpy as np
from scipy.spatial import cKDTree

from mixserver.arrays import Indices
from mixserver.frame import Frame
from mixserver.geometry.window import EDGE, Window, rough_squares, squares

_NARROW: Final = 4.0
"""Å. Groups are linked at this distance first: few pairs, and mostly one group is left."""
_FEW_GROUPS: Final = 32
"""Up to so many groups are compared one with the others; more, and all pairs are listed."""


def connected(
    frame: Frame, atoms: Indices, link: float, *, hub: int | None = None
) -> list[Indices]:
    """Part atoms into groups such that atoms of different groups are more than `link` apart.

    Args:
        frame: the atoms.
        atoms: (n,) the atoms to part, ascending.
        link: Å.
        hub: one of `atoms` that may well be in reach of all others; saves time if it is.

    Returns:
        Groups of ascending indices, ordered by their first atom; together all of `atoms`.
    """
    if len(atoms) < 2:
        return [atoms] if len(atoms) else []
    if hub is not None and _around(frame, atoms, hub, link):
        return [atoms]
    fractional, positions = frame.fractional[atoms], frame.positions[atoms]
    window = Window(frame, fractional, positions, min(link, _NARROW))
    hub = window.sources[squares(window.sources - window.centre).argmin()]
    if squares(window.sources - hub).max() <= link * link:
        return [atoms]  # all are linked to one of them: no need to look at pairs
    label = _linked(window)
    count = int(label.max()) + 1
    if count > 1 and link > _NARROW:
        window = Window(frame, fractional, positions, link)
        label = _linked(window) if count > _FEW_GROUPS else _joined(window, label, count)
        count = int(label.max()) + 1
    if count == 1:
        return [atoms]
    return [atoms[label == group] for group in range(count)]


def _around(frame: Frame, atoms: Indices, hub: int, link: float) -> bool:
    """Tell whether all atoms are clearly linked to the hub, which must be among them."""
    at = int(atoms.searchsorted(hub))
    if at == len(atoms) or atoms[at] != hub:
        return False
    turns = np.rint(frame.fractional.take(atoms, axis=0) - frame.fractional[hub])
    if not all(frame.topology.pbc):
        turns *= frame.topology.pbc
    # any image will do; the nearest by fractions is a good guess
    apart = frame.positions.take(atoms, axis=0) - frame.positions[hub]
    apart -= turns @ frame.cell
    return bool(rough_squares(apart).max() <= link * link * (1.0 - 1e-12))


def _linked(window: Window) -> Indices:
    """Label the sources of a window by group, from all pairs of images in its reach."""
    pairs = cKDTree(window.images).query_pairs(window.reach, output_type="ndarray")
    return _labels(window.owner[pairs[:, 0]], window.owner[pairs[:, 1]], len(window.sources))


def _joined(window: Window, label: Indices, count: int) -> Indices:
    """Join `count` groups of sources that come within the window's reach of each other."""
    group = label[window.owner]
    starts: list[int] = []
    ends: list[int] = []
    for one in range(count - 1):
        rest = np.flatnonzero(group > one)
        tree = cKDTree(window.images[group == one])
        distance, _ = tree.query(window.images[rest], distance_upper_bound=window.reach + EDGE)
        others = np.unique(group[rest[distance <= window.reach]])
        starts += [one] * len(others)
        ends += others.tolist()
    return _labels(np.array(starts, np.intp), np.array(ends, np.intp), count)[label]


def _labels(start: Indices, end: Indices, count: int) -> Indices:
    """Number the connected groups of a graph, in the order of their first members."""
    label = np.arange(count)
    while True:
        low = np.minimum(label[start], label[end])
        before = label.copy()
        np.minimum.at(label, start, low)
        np.minimum.at(label, end, low)
        label = label[label]
        if (label == before).all():
            return np.unique(label, return_inverse=True)[1]
