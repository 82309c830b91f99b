"""What all terms in compiled code share: which atoms they concern, and what they add up."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mixserver.core.arrays import Indices, Matrix, Numbers, Scalars, Vectors
from mixserver_worker.engine import EngineResult
from mixserver_worker.engines.lammps.mpi import Ranks


def elements_of(atoms: Numbers, known: Sequence[int]) -> Indices:
    """(n,) place of each atom's element among the known ones, -1 for others.

    Args:
        atoms: (n,) atomic numbers.
        known: atomic numbers; of equal ones the last counts.
    """
    place: Indices = np.full(1 + max([int(atoms.max(initial=0)), *known]), -1)
    for at, number in enumerate(known):
        place[number] = at
    return place[atoms]


class Tally:
    """What tasks add up, for all atoms.

    Args:
        atoms: n.
    """

    def __init__(self, atoms: int) -> None:
        self.energies: Scalars = np.zeros(atoms)
        """(n,) eV, site energies without weights."""
        self.forces: Vectors = np.zeros((atoms, 3))
        """(n, 3) eV/Å."""
        self.virial: Matrix = np.zeros((3, 3))
        """(3, 3) eV."""

    def is_below(self, largest: float) -> bool:
        """Whether no number reaches this one; NaN does."""
        parts = self.energies, self.forces, self.virial
        return all(bool((np.abs(part) < largest).all()) for part in parts)

    def add(self, others: Sequence[Tally]) -> None:
        """Add what others of the same atoms have."""
        for other in others:
            self.energies += other.energies
            self.forces += other.forces
            self.virial += other.virial

    def over_ranks(self, ranks: Ranks, weights: Scalars) -> EngineResult:
        """The result of all ranks' parts; complete on rank 0.

        Args:
            ranks: all of them call this together.
            weights: (n,) site weights.
        """
        n = len(weights)
        every = ranks.sum(np.concatenate([self.forces.ravel(), self.energies, self.virial.ravel()]))
        energies = every[3 * n : 4 * n]
        return EngineResult(
            energy=float(weights @ energies),
            forces=every[: 3 * n].reshape(n, 3),
            virial=every[4 * n :].reshape(3, 3),
            energies=energies,
        )
