"""Sites of a reference structure: the nearest to a place, and the assignment of atoms to sites.

Places are fractional coordinates, so a strained cell with its atoms has the reference's sites.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
from scipy.spatial import cKDTree

from mixserver.core.arrays import Indices, Matrix, Numbers, Scalars, Vectors
from mixserver.core.cell import minimum_image
from mixserver.core.frame import Frame

_CANDIDATES: Final = 8
"""Sites near in scaled fractional coordinates, of which the nearest in Å is taken."""
_SAMPLED: Final = 4000
"""Atoms whose nearest neighbours give the spacing of a structure."""
_MOST_LEFT: Final = 4000
"""Atoms without a site of their own that are still assigned. The cost grows as their cube."""


class Nearest(NamedTuple):
    """The nearest site of each place."""

    atoms: Indices
    """(m,) the atom of the reference at this site."""
    distance: Scalars
    """(m,) Å."""


class Sites:
    """Finds the nearest sites of a reference, in any cell similar to its own.

    Args:
        reference: positions and cell.
        among: (s,) atoms whose sites are searched; None for all.
    """

    def __init__(self, reference: Frame, among: Indices | None = None) -> None:
        self._periodic = np.array(reference.topology.pbc)
        self._atoms = np.arange(len(reference)) if among is None else among
        self._places = reference.fractional[self._atoms]
        self._lengths: Scalars = np.linalg.norm(reference.cell, axis=1)
        box = np.where(self._periodic, self._lengths, 0.0)
        self._tree = cKDTree(
            self._scaled(self._places), boxsize=box, balanced_tree=False, compact_nodes=False
        )

    def nearest(self, places: Vectors, cell: Matrix, skip: Indices | None = None) -> Nearest:
        """The nearest site to each place.

        Args:
            places: (m, 3) fractions of the cell.
            cell: (3, 3) Å, in which distances are measured.
            skip: (m,) for each place, an atom whose site is left out.
        """
        count = min(_CANDIDATES, len(self._atoms))
        found = self._tree.query(self._scaled(places), k=count)[1].reshape(len(places), count)
        away = minimum_image(places[:, None] - self._places[found], self._periodic) @ cell
        distance = np.sqrt((away**2).sum(axis=-1))
        atoms = self._atoms[found]
        if skip is not None:
            distance[atoms == skip[:, None]] = np.inf
        best = distance.argmin(axis=1)
        rows = np.arange(len(places))
        return Nearest(atoms[rows, best], distance[rows, best])

    def _scaled(self, places: Vectors) -> Vectors:
        inside = np.where(self._periodic, places - np.floor(places), places)
        inside[self._periodic & (inside >= 1.0)] = 0.0  # rounded up
        scaled: Vectors = inside * self._lengths
        return scaled


def typical_spacing(frame: Frame) -> float:
    """Distance of nearest neighbours, Å: the median over some thousand atoms."""
    count = len(frame)
    middle = frame.fractional[count // 2]
    away = minimum_image(frame.fractional - middle, frame.topology.pbc)
    if count > _SAMPLED:
        half = 0.5 * (_SAMPLED / count) ** (1.0 / 3.0)
        near = (np.abs(away) < half).all(axis=1)
        away = away[near]
    found = np.inf
    if len(away) > 1:
        points = away @ frame.cell
        found = float(np.median(cKDTree(points).query(points, k=2)[0][:, 1]))
    usual = float((frame.volume / count) ** (1.0 / 3.0))
    return found if 0.0 < found < np.inf else usual


def assignment(
    reference: Frame, places: Vectors, numbers: Numbers, cell: Matrix
) -> tuple[Indices, Scalars]:
    """Match atoms with the equally many atoms of a reference, by element and place.

    Args:
        reference: positions, cell and elements.
        places: (N, 3) fractions of the cell, in any order.
        numbers: (N,) their atomic numbers.
        cell: (3, 3) Å, in which distances are measured.

    Returns:
        (N,) the atom of the reference for each place, each atom once; and (N,) Å, its distance.

    Raises:
        ValueError: numbers of atoms of an element that differ; too many places share a site.
    """
    order = np.full(len(places), -1)
    theirs = reference.topology.numbers
    for number in np.unique(np.concatenate((numbers, theirs))):
        mine = np.flatnonzero(numbers == number)
        sites = np.flatnonzero(theirs == number)
        if len(mine) != len(sites):
            raise ValueError(f"{len(mine)} atoms for {len(sites)} sites of element {number}")
        order[mine] = _one_to_one(reference, places, cell, mine, sites)
    apart = places - reference.fractional[order]
    away = minimum_image(apart, reference.topology.pbc) @ cell
    return order, np.sqrt((away**2).sum(axis=1))


def _one_to_one(
    reference: Frame, places: Vectors, cell: Matrix, mine: Indices, sites: Indices
) -> Indices:
    """(n,) atoms of the reference for the places of one element."""
    near = Sites(reference, sites).nearest(places[mine], cell)
    order = np.full(len(mine), -1)
    # each site takes its nearest place; all others are assigned at the least total cost
    nearest_first = np.argsort(near.distance, kind="stable")
    owned, first = np.unique(near.atoms[nearest_first], return_index=True)
    order[nearest_first[first]] = owned
    left, free = np.flatnonzero(order < 0), np.setdiff1d(sites, owned)
    if len(left) > _MOST_LEFT:
        raise ValueError(f"{len(left)} of {len(mine)} atoms share a nearest site with others")
    if len(left):
        from scipy.optimize import linear_sum_assignment  # noqa: PLC0415 - heavy

        apart = places[mine[left]][:, None] - reference.fractional[free]
        away = minimum_image(apart, reference.topology.pbc) @ cell
        rows, columns = linear_sum_assignment((away**2).sum(axis=-1))
        order[left[rows]] = free[columns]
    return order
