"""The smallest cell that repeats in a structure, though atoms shake, are missing or are too many.

Looks at positions and elements only; knows no models. The cell keeps the structure's orientation.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from ase.symbols import Symbols
from scipy.spatial import cKDTree

from mixserver.arrays import Indices, Matrix, Numbers, Vectors
from mixserver.crystal.folding import ENOUGH, Folded, folded
from mixserver.errors import ConfigError
from mixserver.frame import Frame
from mixserver.geometry.images import padded

_LONGEST: Final = 12.0
"""Å, the longest lattice vector that is looked for."""
_FIRST: Final = 60
"""Atoms that every vector is tried with at first; most vectors fail at once."""
_TRIED: Final = 500
"""Atoms that the others are tried with."""
_AVERAGED: Final = 20_000
"""Atoms over which the vectors that are found are averaged."""
_ORIGINS: Final = 5
"""Atoms from which lattice vectors are tried: the first may be a defect."""
_NEAR: Final = 0.3
"""Of the distance between neighbours: an atom nearer to a place than this is at it."""
_FULL: Final = 0.95
"""The part of all places where there must be an atom for the structure to be all crystal."""
_FLAT: Final = 0.1
"""Of the product of three lengths: a smaller volume is none."""
_CELLS: Final = 4
"""A cell that the structure holds fewer times does not repeat in it."""
_WHOLE: Final = 0.15
"""How far a number of cells along the structure's vectors may be from a whole one."""
_AROUND: Final = (20.0, 14.0, 10.0)
"""Å from the origin within which atoms are folded into one cell, if that cell is not exact; less
where another slab or grain is near."""
_APART: Final = 0.5
"""Of the distance between neighbours: nearer to each other no two places of a crystal are."""


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
    element; the three shortest that span a volume span the cell. Noise averages out. Where atoms
    are off their mean places in a pattern that doubles the cell along some vectors, as in tilted
    perovskites, the larger cell is taken; patterns of other periods are not seen.

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
        words = f"the best lattice vector of up to {_LONGEST:g} Å carries {100.0 * best:.0f} % of "
        if best >= ENOUGH:
            words = "lattice vectors span a plane or a line only, of up to "
            words += f"{_LONGEST:g} Å carrying {100.0 * best:.0f} % of "
        raise ConfigError(
            f"no crystal repeats in the structure: {words}the atoms onto atoms of their element, "
            f"and three independent ones of {100.0 * ENOUGH:.0f} % are needed"
        )
    exact = _commensurate(vectors, structure)
    cells = structure.volume / abs(float(np.linalg.det(vectors if exact is None else exact)))
    if cells < _CELLS:
        raise ConfigError(
            f"no crystal repeats in the structure: the smallest cell that does is {1 / cells:.2g} "
            f"of the whole, and {_CELLS} or more of them are needed to tell a crystal"
        )
    tried: list[Folded] = []
    if exact is not None:
        tried.append(folded(structure.positions, structure.topology.numbers, exact, cells))
        if tried[0].fullness < _FULL:  # around a vacuum the cell may fit and mean nothing
            tried, exact = [], None
    if exact is None:  # a vector's error grows with the number of cells
        tried += [folded(*search.around(int(origin), r), vectors, None) for r in _AROUND]
    closest = _APART * search.apart
    sound = [one for one in tried if one.share >= ENOUGH and one.nearest >= closest]
    if not sound:
        why = (
            f"{100.0 * tried[0].share:.0f} % of its atoms are where the best crystal has one, and "
        )
        why += f"{100.0 * ENOUGH:.0f} % are needed"
        if tried[0].share >= ENOUGH:
            why = f"folded into one cell, atoms are {tried[0].nearest:.2f} Å apart: "
            why += "there are two crystals"
        raise ConfigError(f"no crystal repeats in the structure: {why}")
    found = sound[0]
    doubled = found.doubled()
    if doubled is not None and abs(float(np.linalg.det(doubled))) * _CELLS <= structure.volume:
        again = folded(found.positions, found.numbers, doubled, None)
        found = again if again.share >= ENOUGH else found
    share = min(found.share, _alike(found.crystal, structure))
    if share < ENOUGH:
        raise ConfigError(
            f"no crystal repeats in the structure: the best one, "
            f"{Symbols(found.crystal.topology.numbers)}, has {100.0 * share:.0f} % of the atoms, "
            f"and {100.0 * ENOUGH:.0f} % are needed"
        )
    return Repeating(found.crystal, share, exact is not None)


def _alike(crystal: Frame, structure: Frame) -> float:
    """The part of the structure that could be this crystal, by its elements."""
    ours, theirs = crystal.topology.numbers, structure.topology.numbers
    of = [np.mean(theirs == number) / np.mean(ours == number) for number in np.unique(ours)]
    return float(min(1.0, *of)) if len(of) > 1 else float(of[0])


class _Search:
    """A structure with as much of its images as lattice vectors can reach."""

    def __init__(self, structure: Frame) -> None:
        order = np.random.default_rng(0).permutation(len(structure))
        self.sample: Indices = order[:_TRIED]
        self._more: Indices = order[:_AVERAGED]
        self._positions = structure.wrapped
        self._numbers = structure.topology.numbers
        self._places, owner = padded(structure, _LONGEST)
        self._elements = self._numbers[owner]
        self._tree = cKDTree(self._places)
        apart, _ = self._tree.query(self._positions[self.sample], k=2)
        self.apart = float(np.median(apart[:, 1]))
        """Å between neighbours."""
        self._near = _NEAR * self.apart

    def around(self, origin: int, reach: float) -> tuple[Vectors, Numbers]:
        """Positions and elements of all atoms near one."""
        near = np.linalg.norm(self._places - self._positions[origin], axis=1) < reach
        return self._places[near], self._elements[near]

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
            if self._refined(vector, self.sample[:_FIRST])[1] < 0.6 * ENOUGH:
                continue
            better, share = self._refined(vector, self.sample)
            best = max(best, share)
            if share < ENOUGH or not _independent(found, better):
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
            if share < 0.5 * ENOUGH:  # noise of one atom does not lose that many
                break
            vector = vector + (self._places[at[hit]] - targets[hit]).mean(axis=0)
        return vector, share


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
