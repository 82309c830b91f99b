"""What all terms in compiled code share: which atoms they concern, and their sum over MPI ranks."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mixserver.core.arrays import Block, Indices, Numbers, Scalars
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


def sum_over_ranks(
    ranks: Ranks, weights: Scalars, energies: Scalars, forces: Block, virial: Block
) -> EngineResult:
    """The result of all ranks' parts; complete on rank 0.

    Args:
        ranks: all of them call this together.
        weights: (n,) site weights.
        energies: (n,) eV, site energies without weights.
        forces: (n, 3) eV/Å.
        virial: (3, 3) eV.
    """
    n = len(weights)
    every = ranks.sum(np.concatenate([forces.ravel(), energies, virial.ravel()]))
    energies = every[3 * n : 4 * n]
    return EngineResult(
        energy=float(weights @ energies),
        forces=every[: 3 * n].reshape(n, 3),
        virial=every[4 * n :].reshape(3, 3),
        energies=energies,
    )
