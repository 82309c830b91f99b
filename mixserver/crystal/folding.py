"""A structure folded into one cell: atoms in piles, and what tells piles from chance.

Knows the cell it is given; who finds it is `repeating`.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from mixserver.arrays import Indices, Matrix, Numbers, Vectors
from mixserver.frame import Frame, Topology

ENOUGH: Final = 0.75
"""The part of all cells that have an atom in a pile for it to be a place of the crystal."""
_NEAR: Final = 0.3
"""Of the shortest lattice vector: an atom nearer to a pile than this is in it."""
_NEAREST: Final = 0.9
"""Å, the most that may be."""
_PILES: Final = 256
"""Piles after which the rest is left."""
_SIGNIFICANT: Final = 4.0
"""Standard errors."""
_SEEN: Final = 0.03
"""Å, displacements below which a pattern does not matter."""


@dataclass(frozen=True, eq=False)
class Pile:
    """Atoms of one element on top of each other."""

    atoms: Indices
    middle: Vectors
    """(3,) in lattice vectors."""
    element: int


@dataclass(frozen=True, eq=False)
class Folded:
    """Atoms folded into a cell."""

    positions: Vectors
    """(N, 3) Å."""
    numbers: Numbers
    """(N,)."""
    cell: Matrix
    piles: tuple[Pile, ...]
    """Places of the crystal."""
    cells: float
    """How many cells were folded, or the height of the highest pile where nobody knows."""

    @property
    def share(self) -> float:
        """The part of the atoms that are at places of the crystal."""
        return sum(len(pile.atoms) for pile in self.piles) / len(self.numbers)

    @property
    def fullness(self) -> float:
        """The part of these places that have an atom; 0 if there are no places."""
        heights = [len(pile.atoms) for pile in self.piles]
        return float(np.mean(heights)) / self.cells if heights else 0.0

    @property
    def crystal(self) -> Frame:
        """One cell, an atom in the middle of each pile."""
        inside = np.array([pile.middle for pile in self.piles])
        topology = Topology(np.array([pile.element for pile in self.piles], dtype=np.int32))
        return topology.frame((inside - inside[0]) @ self.cell, self.cell)

    @property
    def nearest(self) -> float:
        """Å between the nearest two places; inf if there is one."""
        middles = np.array([pile.middle for pile in self.piles])
        first, second = np.triu_indices(len(middles), 1)
        if not len(first):
            return np.inf
        apart = middles[first] - middles[second]
        apart -= np.rint(apart)
        images = np.array(list(itertools.product((-1, 0, 1), repeat=3)))
        vectors = (apart[:, None] + images) @ self.cell
        return float(np.linalg.norm(vectors, axis=2).min())

    def doubled(self) -> Matrix | None:
        """The cell, doubled along as many vectors as atoms are off their places with that period.

        Returns:
            (3, 3) Å; None if they are off at random only.
        """
        waves = [wave for wave in itertools.product((0, 1), repeat=3) if self._waves(wave)]
        if not waves:
            return None
        steps = [
            np.array(step)
            for step in itertools.product(range(-2, 3), repeat=3)
            if any(step) and not any(np.dot(step, wave) % 2 for wave in waves)
        ]
        steps.sort(key=lambda step: float(np.linalg.norm(step @ self.cell)))
        return _basis(steps, self.cell)

    def _waves(self, wave: Sequence[int]) -> bool:
        """Whether a displacement wave is there that changes sign along some lattice vectors."""
        if not any(wave):
            return False
        for pile in self.piles:
            apart = self.positions[pile.atoms] @ np.linalg.inv(self.cell) - pile.middle
            steps = np.rint(apart)
            moves = (apart - steps) @ self.cell
            sign = 1.0 - 2.0 * ((steps @ wave) % 2.0)
            size = float(np.linalg.norm((sign[:, None] * moves).mean(axis=0)))
            error = float(np.sqrt(np.mean(np.sum(moves**2, axis=1)) / len(moves)))
            if size > max(_SEEN, _SIGNIFICANT * error):
                return True
        return False


def folded(positions: Vectors, numbers: Numbers, cell: Matrix, cells: float | None) -> Folded:
    """Fold atoms into a cell.

    Args:
        positions: (N, 3) Å.
        numbers: (N,) elements.
        cell: (3, 3) Å.
        cells: how many there are; None if nobody knows, then the highest pile tells.
    """
    fractional = positions @ np.linalg.inv(cell)
    steps = np.array([step for step in itertools.product((-1, 0, 1), repeat=3) if any(step)])
    near = min(_NEAR * float(np.linalg.norm(steps @ cell, axis=1).min()), _NEAREST)
    left = np.random.default_rng(1).permutation(len(numbers))
    piles: list[Pile] = []
    while len(left) and len(piles) < _PILES:
        middle, element = fractional[left[0]], numbers[left[0]]
        for _ in range(3):
            apart = fractional[left] - middle
            apart -= np.rint(apart)
            here = np.linalg.norm(apart @ cell, axis=1) < near
            here &= numbers[left] == element
            if not here.any():
                break
            middle = middle + apart[here].mean(axis=0)
        here[0] = True  # so that every round ends with fewer
        piles.append(Pile(left[here], middle, int(element)))
        left = left[~here]
    count = float(max(len(pile.atoms) for pile in piles)) if cells is None else cells
    kept = tuple(pile for pile in piles if len(pile.atoms) >= ENOUGH * count)
    return Folded(positions, numbers, cell, kept, count)


def _basis(steps: Sequence[Indices], cell: Matrix) -> Matrix:
    """The three shortest of some lattice vectors that span a volume, right-handed."""
    found: list[Indices] = []
    for step in steps:
        if np.linalg.matrix_rank(np.array([*found, step])) > len(found):
            found.append(step)
        if len(found) == 3:
            break
    basis = np.array(found) @ cell
    basis[2] *= np.sign(np.linalg.det(basis))
    return basis.astype(np.float64)
