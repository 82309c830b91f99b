"""Very many different weights are divided among several passes that add up.

LAMMPS's tables grow with the square of the number of atom types, of which each weight needs one. An
evaluation is linear in the weights, so each pass takes a slab of space: its own weights there, and
0 elsewhere, where atoms are invisible and cost nothing.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from mixserver.core.arrays import Mask, Numbers, Scalars
from mixserver.core.cell import complete_cell, inverse_cell
from mixserver_worker.engines.lammps.mpi import RankJob
from mixserver_worker.engines.lammps.weighting.weighted_instance import weights_of
from mixserver_worker.engines.neighbours import wrap

MOST_WEIGHTS = 1600
"""Different weights in one instance. LAMMPS's tables take 100 bytes per pair of atom types."""


class Passes:
    """How the weights of one set of atoms are divided; `choose` makes the division."""

    def __init__(self) -> None:
        self.count = 1
        self._of_atom: NDArray[np.intp] = np.zeros(0, np.intp)

    def choose(self, job: RankJob) -> None:
        """Divide space so that each pass has about as many weights as the others."""
        self.count = passes_needed(job)
        self._of_atom = np.zeros(len(job.positions), np.intp)
        if self.count == 1:
            return
        along = _along_the_longest_axis(job)
        divided = np.sort(along[_uncommon(weights_of(job))])
        edges = [divided[k * len(divided) // self.count] for k in range(1, self.count)]
        self._of_atom = np.searchsorted(edges, along, side="right")

    def divided(self, job: RankJob) -> list[RankJob]:
        """One job per pass; their weights add up to those of the job."""
        if self.count == 1:
            return [job]
        weights = weights_of(job)
        which = np.where(weights == 1.0, 0, self._of_atom)
        return [replace(job, weight=np.where(which == k, weights, 0.0)) for k in range(self.count)]


def passes_needed(job: RankJob) -> int:
    """Number of passes for the weights of a job."""
    weights = weights_of(job)
    uncommon = _uncommon(weights)
    count = int(np.count_nonzero(uncommon))
    if count <= MOST_WEIGHTS or _different(job.numbers[uncommon], weights[uncommon]) <= (
        MOST_WEIGHTS
    ):
        return 1
    return -(-count // int(0.8 * MOST_WEIGHTS))


def _uncommon(weights: Scalars) -> Mask:
    """Weights that need an atom type of their own."""
    uncommon: Mask = (weights != 0.0) & (weights != 1.0)
    return uncommon


def _different(numbers: Numbers, weights: Scalars) -> int:
    """Number of different pairs of element and weight."""
    return sum(len(np.unique(weights[numbers == element])) for element in np.unique(numbers))


def _along_the_longest_axis(job: RankJob) -> Scalars:
    """(n,) fractional coordinate along the axis in which the atoms extend farthest."""
    full = complete_cell(job.cell, job.pbc)
    fraction = wrap(job.positions, job.cell, job.pbc) @ inverse_cell(full)
    extent = np.ptp(fraction, axis=0) * np.sqrt(np.square(full).sum(axis=1))
    along: Scalars = fraction[:, int(np.argmax(extent))]
    return along
