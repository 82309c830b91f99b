"""Primitive cell of the crystal in a structure with thermal noise, defects or surfaces.

spglib was tried. In a 512-atom cell of silicon it needs a tolerance of 0.3 Å for random
displacements of 0.02 Å; with one vacancy it returns all 511 atoms (tolerances 0.1 and 0.5 Å).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from ase.symbols import Symbols
from scipy.spatial import cKDTree

from mixserver.analysis.bulk.site_clustering import MIN_OCCUPANCY, AveragedCell, cluster_sites
from mixserver.core.arrays import Indices, Matrix, Numbers, Vectors
from mixserver.core.errors import ConfigError
from mixserver.core.frame import Frame
from mixserver.geometry import with_images

_LONGEST: Final = 12.0
"""Å, the longest lattice vector that is searched for."""
_FIRST: Final = 60
"""Atoms with which every vector is tested first; most vectors fail here."""
_TRIED: Final = 500
"""Atoms with which the other vectors are tested."""
_AVERAGED: Final = 20_000
"""Atoms over which the final vectors are averaged."""
_ORIGINS: Final = 5
"""Atoms from which lattice vectors are tried: the first may be a defect."""
_NEAR: Final = 0.3
"""Of the distance between neighbours: how far from a lattice point an atom still counts."""
_FULL: Final = 0.95
"""Occupancy of the sites, at least, in a structure that is crystalline throughout."""
_FLAT: Final = 0.1
"""Of the product of three lengths: vectors that span less are linearly dependent."""
_CELLS: Final = 4
"""Unit cells that the structure holds, at least."""
_WHOLE: Final = 0.15
"""How far a number of cells along the structure's vectors may be from an integer."""
_AROUND: Final = (20.0, 14.0, 10.0)
"""Å; radii around the origin within which atoms are averaged if the cell is not commensurate. The
smaller ones are for structures with another slab or grain nearby."""
_APART: Final = 0.5
"""Of the distance between neighbours: the least distance between two sites of a crystal."""


@dataclass(frozen=True, eq=False)
class PrimitiveCell:
    """The crystal of a structure."""

    crystal: Frame
    """One primitive cell in the structure's orientation; its atoms are at their mean positions."""
    fraction: float
    """Fraction of the structure's atoms that are on sites of this crystal."""
    exact: bool
    """Whether the structure's cell is commensurate with this one, which then has the structure's
    strain. Otherwise the vectors are averages over atoms."""


def find_primitive_cell(structure: Frame) -> PrimitiveCell:
    """Find the primitive cell of the crystal that most of a structure consists of.

    The structure may have defects, surfaces and thermal noise, which averages out. Lattice vectors
    are vectors between atoms that map most other atoms onto atoms of the same element; the three
    shortest independent ones span the cell. Where atoms are displaced from their mean positions in
    a pattern that doubles the cell along some vectors, as in tilted perovskites, the larger cell is
    returned; other periods are not detected.

    Raises:
        ConfigError: it contains no crystal, or too little of one.
    """
    search = _Search(structure)
    origin, vectors = _lattice_vectors(search)
    found, exact = _averaged(search, origin, vectors, structure)
    superlattice = found.superlattice()
    if superlattice is not None and _volume(superlattice) * _CELLS <= structure.volume:
        larger = cluster_sites(found.positions, found.numbers, superlattice, None)
        found = larger if larger.fraction >= MIN_OCCUPANCY else found
    crystal = found.crystal
    # no more of the structure can be this crystal than its composition allows
    ours, theirs = crystal.topology.numbers, structure.topology.numbers
    shares = [np.mean(theirs == number) / np.mean(ours == number) for number in np.unique(ours)]
    fraction = float(min(found.fraction, *shares))
    if fraction < MIN_OCCUPANCY:
        raise ConfigError(
            "no crystal repeats in the structure: the best one, "
            f"{Symbols(crystal.topology.numbers)}, has {100.0 * fraction:.0f} % of the atoms, and "
            f"{100.0 * MIN_OCCUPANCY:.0f} % are needed"
        )
    return PrimitiveCell(crystal, fraction, exact)


def _lattice_vectors(search: _Search) -> tuple[int, Matrix]:
    """An atom and the three lattice vectors found from it."""
    best = 0.0
    for origin in search.sample[:_ORIGINS]:
        vectors, mapped = search.vectors(int(origin))
        best = max(best, mapped)
        if vectors is not None:
            return int(origin), vectors
    words = f"the best lattice vector of up to {_LONGEST:g} Å maps {100.0 * best:.0f} % of "
    if best >= MIN_OCCUPANCY:
        words = f"lattice vectors span a plane or a line only, of up to {_LONGEST:g} Å mapping "
        words += f"{100.0 * best:.0f} % of "
    raise ConfigError(
        f"no crystal repeats in the structure: {words}the atoms onto atoms of their element, "
        f"and three independent ones of {100.0 * MIN_OCCUPANCY:.0f} % are needed"
    )


def _averaged(
    search: _Search, origin: int, vectors: Matrix, structure: Frame
) -> tuple[AveragedCell, bool]:
    """The structure averaged over its unit cells, and whether its cell is commensurate."""
    exact = _commensurate(vectors, structure)
    cells = structure.volume / _volume(vectors if exact is None else exact)
    if cells < _CELLS:
        raise ConfigError(
            f"no crystal repeats in the structure: the smallest cell that does is {1 / cells:.2g} "
            f"of the whole, and {_CELLS} or more of them are needed to identify a crystal"
        )
    tried: list[AveragedCell] = []
    if exact is not None:
        tried.append(cluster_sites(structure.positions, structure.topology.numbers, exact, cells))
        if tried[0].occupancy < _FULL:  # with a vacuum a commensurate cell may be a coincidence
            tried, exact = [], None
    if exact is None:  # a vector's error grows with the number of cells
        tried += [cluster_sites(*search.around(origin, r), vectors, None) for r in _AROUND]
    closest = _APART * search.apart
    for one in tried:
        if one.fraction >= MIN_OCCUPANCY and one.nearest >= closest:
            return one, exact is not None
    why = (
        f"{100.0 * tried[0].fraction:.0f} % of its atoms are where the best crystal has one, and "
        f"{100.0 * MIN_OCCUPANCY:.0f} % are needed"
    )
    if tried[0].fraction >= MIN_OCCUPANCY:
        why = f"in one cell, atoms would be {tried[0].nearest:.2f} Å apart: there are two crystals"
    raise ConfigError(f"no crystal repeats in the structure: {why}")


def _volume(cell: Matrix) -> float:
    return abs(float(np.linalg.det(cell)))


class _Search:
    """A structure with its images within reach of the longest lattice vector."""

    def __init__(self, structure: Frame) -> None:
        order = np.random.default_rng(0).permutation(len(structure))
        self.sample: Indices = order[:_TRIED]
        self._more: Indices = order[:_AVERAGED]
        self._positions = structure.wrapped
        self._numbers = structure.topology.numbers
        self._images, owner = with_images(structure, _LONGEST)
        self._elements = self._numbers[owner]
        self._tree = cKDTree(self._images)
        apart, _ = self._tree.query(self._positions[self.sample], k=2)
        self.apart = float(np.median(apart[:, 1]))
        """Å between neighbours."""
        self._near = _NEAR * self.apart

    def around(self, origin: int, reach: float) -> tuple[Vectors, Numbers]:
        """Positions and elements of all atoms within a distance of one atom."""
        near = np.linalg.norm(self._images - self._positions[origin], axis=1) < reach
        return self._images[near], self._elements[near]

    def vectors(self, origin: int) -> tuple[Matrix | None, float]:
        """Search for lattice vectors from one atom.

        Returns:
            Three vectors (rows, Å; right-handed) or None, and the largest fraction of atoms that
            any vector maps onto others.
        """
        start, element = self._positions[origin], self._numbers[origin]
        if not np.isfinite(self._near):
            return None, 0.0
        near = np.array(self._tree.query_ball_point(start, _LONGEST), dtype=np.intp)
        apart = self._images[near[self._elements[near] == element]] - start
        lengths = np.linalg.norm(apart, axis=1)
        found: list[Vectors] = []
        best = 0.0
        for vector in apart[np.argsort(lengths, kind="stable")]:
            if np.linalg.norm(vector) < self._near or not _independent(found, vector):
                continue
            if self._refined(vector, self.sample[:_FIRST])[1] < 0.6 * MIN_OCCUPANCY:
                continue
            better, fraction = self._refined(vector, self.sample)
            best = max(best, fraction)
            if fraction < MIN_OCCUPANCY or not _independent(found, better):
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
            Å, and the fraction of the sample that it maps onto another atom.
        """
        fraction = 0.0
        for _ in range(3):
            targets = self._positions[sample] + vector
            distance, at = self._tree.query(targets, distance_upper_bound=self._near)
            hit = np.isfinite(distance)
            hit[hit] = self._elements[at[hit]] == self._numbers[sample[hit]]
            fraction = float(hit.mean())
            if fraction < 0.5 * MIN_OCCUPANCY:  # noise of a single atom loses fewer
                break
            vector = vector + (self._images[at[hit]] - targets[hit]).mean(axis=0)
        return vector, fraction


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
    """The vectors adjusted so that the structure's cell is commensurate with them, or None."""
    if not all(structure.topology.pbc):
        return None
    counts = structure.cell @ np.linalg.inv(vectors)
    whole = np.rint(counts)
    if np.abs(counts - whole).max() > _WHOLE or abs(np.linalg.det(whole)) < 0.5:
        return None
    return np.linalg.solve(whole, structure.cell).astype(np.float64)
