"""Phonon frequencies at the special points of a crystal's Brillouin zone.

Atoms of one cell are displaced in a supercell. A force constant belongs to the nearest image of the
atom it acts on, and is shared among images equally near, so that all wave vectors can be asked for;
those that fit the supercell are exact (K. Parlinski, Z. Q. Li, Y. Kawazoe, Phys. Rev. Lett. 78,
4063, 1997).
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
from ase.cell import Cell
from ase.data import atomic_masses
from numpy.typing import NDArray

from mixserver.arrays import Scalars, Vectors
from mixserver.crystal.asking import Ask
from mixserver.crystal.inside import STEP, displaced
from mixserver.crystal.supercell import Repeats, corners, for_length, repeated
from mixserver.frame import Frame
from mixserver.geometry import heights
from mixserver.units import TERAHERTZ

LENGTH: Final = 10.0
"""Å, between opposite faces of the supercell."""
_EQUAL: Final = 1e-3
"""Å by which distances to images may differ and still be equal."""


@dataclass(frozen=True, eq=False)
class Phonons:
    """Frequencies at special points."""

    frequencies: Mapping[str, Scalars]
    """(3n,) THz of each point, ascending; negative where they are imaginary."""
    points: Mapping[str, Scalars]
    """(3,) each point, in reciprocal lattice vectors of the crystal's cell."""

    @property
    def lowest(self) -> float:
        """THz, of all points; below zero (by more than noise) if the crystal is not stable."""
        return min(float(found.min()) for found in self.frequencies.values())


@dataclass(frozen=True, eq=False)
class Springs:
    """Force constants between the atoms of one cell and all others."""

    vectors: Vectors
    """(m, 3) from the cell of the first atom to that of the second, in lattice vectors."""
    pairs: NDArray[np.intp]
    """(m, 2) the atoms, as counted in one cell."""
    constants: NDArray[np.float64]
    """(m, 3, 3) eV/Å²."""
    masses: Scalars
    """(n,) amu."""

    def frequencies(self, point: Scalars) -> Scalars:
        """(3n,) THz at a wave vector in reciprocal lattice vectors; negative if imaginary."""
        n = len(self.masses)
        phase = np.exp(2j * np.pi * (self.vectors @ point))
        matrix = np.zeros((n, n, 3, 3), dtype=np.complex128)
        np.add.at(
            matrix, (self.pairs[:, 0], self.pairs[:, 1]), phase[:, None, None] * self.constants
        )
        root = np.sqrt(self.masses)
        matrix /= (root[:, None] * root)[:, :, None, None]
        square = matrix.transpose(0, 2, 1, 3).reshape(3 * n, 3 * n)
        square = 0.5 * (square + square.conj().T)
        if not (point % 1.0).any():  # all atoms move alike at no cost; differences are noise
            rigid = np.kron(root[:, None], np.eye(3)) / np.linalg.norm(root)
            kept = np.eye(3 * n) - rigid @ rigid.T
            square = kept @ square @ kept
        squares = np.linalg.eigvalsh(square)
        found: Scalars = np.sign(squares) * np.sqrt(np.abs(squares)) * TERAHERTZ
        return found


async def phonons(
    ask: Ask, crystal: Frame, *, length: float = LENGTH, step: float = STEP
) -> Phonons:
    """Frequencies at the special points of the Brillouin zone of the cell that is given.

    Give a primitive cell: points and branches of a larger one are folded back.

    Args:
        ask: the model.
        crystal: n atoms at rest; they are displaced, in 6n evaluations at once.
        length: Å between opposite faces of the supercell, at least. It is repeated an even number
            of times along each vector, so that points half way across the zone are exact.
        step: Å of the displacements.
    """
    found = await springs(ask, crystal, for_length(crystal, length, even=True), step=step)
    points = special_points(crystal)
    return Phonons({name: found.frequencies(q) for name, q in points.items()}, points)


def _images(whole: Frame) -> Vectors:
    """(k, 3) images of a cell, in its lattice vectors, among which every nearest one is."""
    far = 0.5 * float(np.linalg.norm(whole.cell, axis=1).sum())
    counts = np.ceil(far / heights(whole.inverse)).astype(int) + 1
    return np.array(list(itertools.product(*(range(-n, n + 1) for n in counts))), dtype=np.float64)


def special_points(crystal: Frame) -> dict[str, Scalars]:
    """Named points of the Brillouin zone, in reciprocal lattice vectors of the crystal's cell."""
    path = Cell(crystal.cell).bandpath(npoints=0, eps=1e-3)
    return {name: np.array(q, dtype=np.float64) for name, q in path.special_points.items()}


async def springs(ask: Ask, crystal: Frame, repeats: Repeats, *, step: float = STEP) -> Springs:
    """Force constants from displacements in a supercell; shifting all atoms costs nothing."""
    crystal = crystal.topology.frame(crystal.wrapped, crystal.cell)
    n, places = len(crystal), corners(repeats)
    whole = repeated(crystal, repeats)
    constants = -await displaced(ask, whole, range(n), step)
    constants = constants.transpose(0, 2, 1, 3)  # first atom, second atom, axis, axis
    own = np.arange(n)
    constants[own, own] -= constants.sum(axis=1)
    images = _images(whole) * repeats
    vectors, pairs, parts = [], [], []
    for first, second in itertools.product(range(n), range(len(whole))):
        cell, atom = divmod(second, n)
        between = places[cell] + images
        apart = crystal.positions[atom] - crystal.positions[first] + between @ crystal.cell
        distance = np.linalg.norm(apart, axis=1)
        nearest = between[distance < distance.min() + _EQUAL]
        vectors.append(nearest)
        pairs.append(np.tile((first, atom), (len(nearest), 1)))
        parts.append(np.repeat(constants[first, second][None] / len(nearest), len(nearest), axis=0))
    return Springs(
        np.concatenate(vectors),
        np.concatenate(pairs),
        np.concatenate(parts),
        np.array(atomic_masses[crystal.topology.numbers], dtype=np.float64),
    )
