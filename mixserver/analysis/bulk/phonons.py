"""Phonon frequencies at the special points of a crystal's Brillouin zone.

Atoms of one cell are displaced in a supercell. A force constant belongs to the nearest image of the
atom it acts on and is divided among equally near images, so that any wave vector can be evaluated;
those commensurate with the supercell are exact (K. Parlinski, Z. Q. Li, Y. Kawazoe, Phys. Rev.
Lett. 78, 4063, 1997). `ase.phonons` evaluates displacements one after the other through files and
does not divide force constants among equally near images; phonopy would be a new dependency.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Final

import numpy as np
from ase.cell import Cell
from ase.data import atomic_masses
from numpy.typing import NDArray

from mixserver.analysis.bulk.evaluate import EvaluateFn
from mixserver.analysis.bulk.force_constants import STEP, force_derivatives
from mixserver.analysis.bulk.supercell import Repeats, cell_origins, repeated, repeats_for_length
from mixserver.core.arrays import Scalars, Vectors
from mixserver.core.cell import plane_spacings
from mixserver.core.frame import Frame
from mixserver.core.units import TERAHERTZ

LENGTH: Final = 10.0
"""Å, between opposite faces of the supercell."""
_EQUAL: Final = 1e-3
"""Å; distances to images that differ by less count as equal."""


@dataclass(frozen=True, eq=False)
class ForceConstants:
    """Force constants between the atoms of one cell and those of all cells."""

    vectors: Vectors
    """(m, 3) from the cell of the first atom to that of the second, in lattice vectors."""
    pairs: NDArray[np.intp]
    """(m, 2) the atoms, by index in one cell."""
    constants: NDArray[np.float64]
    """(m, 3, 3) eV/Å²."""
    masses: Scalars
    """(n,) amu."""

    def frequencies(self, point: Scalars) -> Scalars:
        """Frequencies (3n,) THz at a wave vector in reciprocal lattice vectors.

        Imaginary ones are negative.
        """
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
        if not (point % 1.0).any():  # translations have no cost; what remains is noise
            translations = np.kron(root[:, None], np.eye(3)) / np.linalg.norm(root)
            internal = np.eye(3 * n) - translations @ translations.T
            square = internal @ square @ internal
        squares = np.linalg.eigvalsh(square)
        found: Scalars = np.sign(squares) * np.sqrt(np.abs(squares)) * TERAHERTZ
        return found


async def phonons(
    evaluate: EvaluateFn, crystal: Frame, *, length: float = LENGTH, step: float = STEP
) -> dict[str, Scalars]:
    """Frequencies (3n,) THz at the special points of the Brillouin zone; negative if imaginary.

    They are ascending, for the given cell of n relaxed atoms. Give a primitive cell: points and
    branches of a larger one are folded back. The supercell has `length` (Å) or more between
    opposite faces, and repeats the crystal an even number of times along each vector, so that
    zone-boundary points are exact. `step` (Å) displaces atoms, in 6n concurrent evaluations.
    """
    found = await supercell_force_constants(
        evaluate, crystal, repeats_for_length(crystal, length, even=True), step=step
    )
    return {name: found.frequencies(q) for name, q in special_points(crystal).items()}


def special_points(crystal: Frame) -> dict[str, Scalars]:
    """Named points of the Brillouin zone, in reciprocal lattice vectors of the crystal's cell."""
    path = Cell(crystal.cell).bandpath(npoints=0, eps=1e-3)
    return {name: np.array(q, dtype=np.float64) for name, q in path.special_points.items()}


async def supercell_force_constants(
    evaluate: EvaluateFn, crystal: Frame, repeats: Repeats, *, step: float = STEP
) -> ForceConstants:
    """Force constants from displacements in a supercell; they obey the acoustic sum rule."""
    crystal = crystal.topology.frame(crystal.wrapped, crystal.cell)
    n, places = len(crystal), cell_origins(repeats)
    whole = repeated(crystal, repeats)
    constants = -await force_derivatives(evaluate, whole, range(n), step)
    constants = constants.transpose(0, 2, 1, 3)  # first atom, second atom, axis, axis
    own = np.arange(n)
    constants[own, own] -= constants.sum(axis=1)
    # images of the supercell that include every nearest one
    far = 0.5 * float(np.linalg.norm(whole.cell, axis=1).sum())
    counts = np.ceil(far / plane_spacings(whole.cell)).astype(int) + 1
    images = np.array(list(itertools.product(*(range(-n, n + 1) for n in counts)))) * repeats
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
    return ForceConstants(
        np.concatenate(vectors),
        np.concatenate(pairs),
        np.concatenate(parts),
        np.array(atomic_masses[crystal.topology.numbers], dtype=np.float64),
    )
