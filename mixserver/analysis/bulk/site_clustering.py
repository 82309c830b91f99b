"""Clustering of a structure's atoms into the sites of one averaged unit cell.

The cell is given; `primitive_cell` finds it.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from mixserver.core.arrays import Indices, Matrix, Numbers, Vectors
from mixserver.core.frame import Frame, Topology

MIN_OCCUPANCY: Final = 0.75
"""Fraction of all cells that have an atom on a site of the crystal, at least."""
_NEAR: Final = 0.3
"""Radius of a site, as a fraction of the shortest lattice vector."""
_NEAREST: Final = 0.9
"""Å, the largest radius of a site."""
_MOST_SITES: Final = 256
"""Candidate sites after which the remaining atoms are ignored."""
_SIGNIFICANT: Final = 4.0
"""Standard errors."""
_VISIBLE: Final = 0.03
"""Å; displacement patterns of smaller amplitude are ignored."""


@dataclass(frozen=True, eq=False)
class Site:
    """Atoms of one element that share a place in the cell."""

    atoms: Indices
    centre: Vectors
    """(3,) in lattice vectors."""
    element: int


@dataclass(frozen=True, eq=False)
class AveragedCell:
    """A structure averaged over all its unit cells."""

    positions: Vectors
    """(N, 3) Å."""
    numbers: Numbers
    """(N,)."""
    cell: Matrix
    sites: tuple[Site, ...]
    """Sites of the crystal."""
    cells: float
    """Number of cells in the structure; if unknown, the atoms of the fullest site."""

    @property
    def fraction(self) -> float:
        """Fraction of the atoms that are on sites of the crystal."""
        return sum(len(site.atoms) for site in self.sites) / len(self.numbers)

    @property
    def occupancy(self) -> float:
        """Mean fraction of cells in which a site has an atom; 0 without sites."""
        counts = [len(site.atoms) for site in self.sites]
        return float(np.mean(counts)) / self.cells if counts else 0.0

    @property
    def crystal(self) -> Frame:
        """One unit cell with an atom at the centre of each site."""
        centres = np.array([site.centre for site in self.sites])
        topology = Topology(np.array([site.element for site in self.sites], dtype=np.int32))
        return topology.frame((centres - centres[0]) @ self.cell, self.cell)

    @property
    def nearest(self) -> float:
        """The distance (Å) between the nearest two sites; inf if there is one."""
        centres = np.array([site.centre for site in self.sites])
        first, second = np.triu_indices(len(centres), 1)
        if not len(first):
            return np.inf
        apart = centres[first] - centres[second]
        apart -= np.rint(apart)
        images = np.array(list(itertools.product((-1, 0, 1), repeat=3)))
        vectors = (apart[:, None] + images) @ self.cell
        return float(np.linalg.norm(vectors, axis=2).min())

    def superlattice(self) -> Matrix | None:
        """The cell doubled along as many vectors as atoms are displaced with that period.

        Returns:
            (3, 3) Å; None if displacements are random.
        """
        waves = [wave for wave in itertools.product((0, 1), repeat=3) if self._has_wave(wave)]
        if not waves:
            return None
        steps = [
            np.array(step)
            for step in itertools.product(range(-2, 3), repeat=3)
            if any(step) and not (np.array(waves) @ step % 2).any()
        ]
        steps.sort(key=lambda step: float(np.linalg.norm(step @ self.cell)))
        return _shortest_basis(steps, self.cell)

    def _has_wave(self, wave: Sequence[int]) -> bool:
        """Whether there is a displacement wave that changes sign along some lattice vectors."""
        if not any(wave):
            return False
        for site in self.sites:
            apart = self.positions[site.atoms] @ np.linalg.inv(self.cell) - site.centre
            steps = np.rint(apart)
            moves = (apart - steps) @ self.cell
            sign = 1.0 - 2.0 * ((steps @ wave) % 2.0)
            size = float(np.linalg.norm((sign[:, None] * moves).mean(axis=0)))
            error = float(np.sqrt(np.mean(np.sum(moves**2, axis=1)) / len(moves)))
            if size > max(_VISIBLE, _SIGNIFICANT * error):
                return True
        return False


def cluster_sites(
    positions: Vectors, numbers: Numbers, cell: Matrix, cells: float | None
) -> AveragedCell:
    """Average a structure, positions (N, 3) Å, over its unit cells (3, 3) Å.

    If the number of `cells` is None, the fullest site has one atom in each.
    """
    fractional = positions @ np.linalg.inv(cell)
    steps = np.array([step for step in itertools.product((-1, 0, 1), repeat=3) if any(step)])
    near = min(_NEAR * float(np.linalg.norm(steps @ cell, axis=1).min()), _NEAREST)
    left = np.random.default_rng(1).permutation(len(numbers))
    sites: list[Site] = []
    while len(left) and len(sites) < _MOST_SITES:
        centre, element = fractional[left[0]], numbers[left[0]]
        for _ in range(3):
            apart = fractional[left] - centre
            apart -= np.rint(apart)
            here = np.linalg.norm(apart @ cell, axis=1) < near
            here &= numbers[left] == element
            if not here.any():
                break
            centre = centre + apart[here].mean(axis=0)
        here[0] = True  # so that every round ends with fewer atoms
        sites.append(Site(left[here], centre, int(element)))
        left = left[~here]
    count = float(max(len(site.atoms) for site in sites)) if cells is None else cells
    kept = tuple(site for site in sites if len(site.atoms) >= MIN_OCCUPANCY * count)
    return AveragedCell(positions, numbers, cell, kept, count)


def _shortest_basis(steps: Sequence[Indices], cell: Matrix) -> Matrix:
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
