"""The smallest cell that repeats in a structure, though atoms shake, are missing or are too many.

Looks at positions and elements only; knows no models. The cell keeps the structure's orientation.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Final

import numpy as np
from scipy.spatial import cKDTree

from mixserver.arrays import Indices, Matrix, Numbers, Vectors
from mixserver.errors import ConfigError
from mixserver.frame import Frame, Topology
from mixserver.geometry import heights

_LONGEST: Final = 12.0
"""Å, the longest lattice vector that is looked for."""
_TRIED: Final = 500
"""Atoms that every vector is tried with."""
_AVERAGED: Final = 20_000
"""Atoms over which the vectors that are found are averaged."""
_ORIGINS: Final = 12
"""Atoms from which lattice vectors are tried: the first may be a defect."""
_NEAR: Final = 0.3
"""Of the distance between neighbours: an atom nearer to a place than this is at it."""
_ENOUGH: Final = 0.75
"""The part of the atoms that a lattice vector must carry onto atoms of their element."""
_FLAT: Final = 0.1
"""Of the product of three lengths: a smaller volume is none."""
_CELLS: Final = 4
"""A cell that the structure holds fewer times does not repeat in it."""
_WHOLE: Final = 0.15
"""How far a number of cells along the structure's vectors may be from a whole one."""
_AROUND: Final = 20.0
"""Å from the origin within which atoms are folded into one cell, if that cell is not exact."""
_PLACES: Final = 64
"""Atoms in the cell, at most."""


@dataclass(frozen=True, eq=False)
class Repeating:
    """What repeats in a structure."""

    crystal: Frame
    """One primitive cell; its atoms are at their mean places."""
    share: float
    """The part of the structure's atoms that are where this crystal has one."""
    exact: bool
    """Whether the structure's cell is a whole number of these: then its strain is the structure's
    own. Otherwise its vectors are means over atoms."""


def repeating_cell(structure: Frame) -> Repeating:
    """Find the primitive cell of the crystal that most of a structure is.

    Lattice vectors are vectors between atoms that carry most other atoms onto atoms of the same
    element; the three shortest that span a volume span the cell. Noise averages out.

    Args:
        structure: N atoms; a supercell with defects, surfaces or heat.

    Raises:
        ConfigError: it holds no crystal, or too little of one.
    """
    search = _Search(structure)
    best = 0.0
    for origin in search.sample[:_ORIGINS]:
        vectors, reached = search.vectors(int(origin))
        best = max(best, reached)
        if vectors is not None:
            break
    else:
        raise ConfigError(
            f"no crystal repeats in the structure: the best lattice vector of up to {_LONGEST:g} Å "
            f"carries {100.0 * best:.0f} % of the atoms onto atoms of their element, and "
            f"{100.0 * _ENOUGH:.0f} % are needed three times"
        )
    exact = _commensurate(vectors, structure)
    cell = vectors if exact is None else exact
    cells = structure.volume / abs(float(np.linalg.det(cell)))
    if cells < _CELLS:
        raise ConfigError(
            f"no crystal repeats in the structure: the smallest cell that does is {1 / cells:.2g} "
            f"of the whole, and {_CELLS} or more of them are needed to tell a crystal"
        )
    crystal, share = _folded(structure, cell, int(origin), everywhere=exact is not None)
    if share < _ENOUGH:
        raise ConfigError(
            f"no crystal repeats in the structure: {100.0 * share:.0f} % of its atoms are where "
            f"the best crystal has one, and {100.0 * _ENOUGH:.0f} % are needed"
        )
    return Repeating(crystal, share, exact is not None)


class _Search:
    """A structure with as much of its images as lattice vectors can reach."""

    def __init__(self, structure: Frame) -> None:
        order = np.random.default_rng(0).permutation(len(structure))
        self.sample: Indices = order[:_TRIED]
        self._more: Indices = order[:_AVERAGED]
        self._positions = structure.wrapped
        self._numbers = structure.topology.numbers
        self._places, self._elements = _padded(structure, _LONGEST)
        self._tree = cKDTree(self._places)
        apart, _ = self._tree.query(self._positions[self.sample], k=2)
        self._near = _NEAR * float(np.median(apart[:, 1]))

    def vectors(self, origin: int) -> tuple[Matrix | None, float]:
        """Three lattice vectors (rows, Å; right-handed) found from one atom; None if there are not.

        Returns:
            They, and the largest share of atoms that any vector carried onto others.
        """
        start, element = self._positions[origin], self._numbers[origin]
        if not np.isfinite(self._near):
            return None, 0.0
        near = np.array(self._tree.query_ball_point(start, _LONGEST), dtype=np.intp)
        apart = self._places[near[self._elements[near] == element]] - start
        lengths = np.linalg.norm(apart, axis=1)
        found: list[Vectors] = []
        best = 0.0
        for vector in apart[np.argsort(lengths, kind="stable")]:
            if np.linalg.norm(vector) < self._near or not _independent(found, vector):
                continue
            better, share = self._refined(vector, self.sample)
            best = max(best, share)
            if share < _ENOUGH or not _independent(found, better):
                continue
            found.append(better)
            if len(found) == 3:
                cell = np.array([self._refined(vector, self._more)[0] for vector in found])
                cell[2] *= np.sign(np.linalg.det(cell))
                return cell, best
        return None, best

    def _refined(self, vector: Vectors, sample: Indices) -> tuple[Vectors, float]:
        """Average a vector over all pairs of atoms that it connects.

        Returns:
            Å, and the part of the sample that it leads to another atom.
        """
        share = 0.0
        for _ in range(3):
            targets = self._positions[sample] + vector
            distance, at = self._tree.query(targets, distance_upper_bound=self._near)
            hit = np.isfinite(distance)
            hit[hit] = self._elements[at[hit]] == self._numbers[sample[hit]]
            share = float(hit.mean())
            if share < 0.5 * _ENOUGH:  # noise of one atom does not lose that many
                break
            vector = vector + (self._places[at[hit]] - targets[hit]).mean(axis=0)
        return vector, share


def _padded(structure: Frame, pad: float) -> tuple[Vectors, Numbers]:
    """All atoms in the cell and their images within `pad` (Å) of it, with elements."""
    inside = structure.wrapped @ structure.inverse
    numbers = structure.topology.numbers
    for axis, height in enumerate(heights(structure.inverse)):
        if not structure.topology.pbc[axis]:
            continue
        reach = pad / float(height)
        times = int(np.ceil(reach))
        parts = []
        for shift in range(-times, times + 1):
            place = inside[:, axis] + shift
            kept = np.flatnonzero((place >= -reach) & (place <= 1.0 + reach))
            moved = inside[kept]
            moved[:, axis] = place[kept]
            parts.append((moved, numbers[kept]))
        inside = np.concatenate([moved for moved, _ in parts])
        numbers = np.concatenate([kept for _, kept in parts])
    return inside @ structure.cell, numbers


def _independent(found: list[Vectors], vector: Vectors) -> bool:
    """Whether a vector adds a direction to one or two others."""
    length = float(np.linalg.norm(vector))
    if not found:
        return True
    first = float(np.linalg.norm(found[0]))
    if len(found) == 1:
        return float(np.linalg.norm(np.cross(found[0], vector))) > _FLAT * first * length
    volume = abs(float(np.dot(np.cross(found[0], found[1]), vector)))
    return volume > _FLAT * first * float(np.linalg.norm(found[1])) * length


def _commensurate(vectors: Matrix, structure: Frame) -> Matrix | None:
    """The same vectors so that the structure's cell is a whole number of theirs, or None."""
    if not all(structure.topology.pbc):
        return None
    times = structure.cell @ np.linalg.inv(vectors)
    whole = np.rint(times)
    if np.abs(times - whole).max() > _WHOLE or abs(np.linalg.det(whole)) < 0.5:
        return None
    return np.linalg.solve(whole, structure.cell).astype(np.float64)


def _folded(
    structure: Frame, cell: Matrix, origin: int, *, everywhere: bool
) -> tuple[Frame, float]:
    """Atoms on top of each other in one cell, and the part of them that are in the piles."""
    positions, numbers = structure.positions, structure.topology.numbers
    if not everywhere:  # a vector's error grows with the number of cells
        places, elements = _padded(structure, _LONGEST)
        near = np.linalg.norm(places - structure.wrapped[origin], axis=1) < _AROUND
        positions, numbers = places[near], elements[near]
    inverse = np.linalg.inv(cell)
    fractional = (positions - positions.mean(axis=0)) @ inverse
    shortest = min(
        float(np.linalg.norm(np.array(steps) @ cell))
        for steps in itertools.product((-1, 0, 1), repeat=3)
        if any(steps)
    )
    near_by = min(_NEAR * shortest, 0.9)
    left = np.random.default_rng(1).permutation(len(numbers))
    piles: list[tuple[int, Vectors, int]] = []
    while len(left) and len(piles) < 4 * _PLACES:
        middle, element = fractional[left[0]], numbers[left[0]]
        for _ in range(3):
            apart = fractional[left] - middle
            apart -= np.rint(apart)
            here = np.linalg.norm(apart @ cell, axis=1) < near_by
            here &= numbers[left] == element
            if not here.any():
                break
            middle = middle + apart[here].mean(axis=0)
        here[0] = True  # so that every round ends with fewer
        piles.append((int(here.sum()), middle, int(element)))
        left = left[~here]
    tallest = max(height for height, _, _ in piles)
    kept = [pile for pile in piles if pile[0] >= 0.5 * tallest]
    share = sum(height for height, _, _ in kept) / len(numbers)
    inside = np.array([middle for _, middle, _ in kept])
    topology = Topology(np.array([element for _, _, element in kept], dtype=np.int32))
    return topology.frame((inside - inside[0]) @ cell, cell), share
