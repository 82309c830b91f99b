"""The SNAPs of a potential in compiled code, for one set of atoms, on all MPI ranks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from mixserver.core.arrays import Indices, Numbers, Scalars
from mixserver_worker.engine import EngineResult
from mixserver_worker.engines.lammps.compiled.atoms import elements_of, sum_over_ranks
from mixserver_worker.engines.lammps.compiled.couplings import Couplings, make_couplings
from mixserver_worker.engines.lammps.compiled.lanes import LANES
from mixserver_worker.engines.lammps.compiled.snap_files import SnapParameters
from mixserver_worker.engines.lammps.compiled.snap_kernel import evaluate_blocks, select_neighbours
from mixserver_worker.engines.lammps.compiled.verlet import Candidates, VerletList, part_of
from mixserver_worker.engines.lammps.mpi import RankJob, Ranks
from mixserver_worker.engines.lammps.weighting.weighted_instance import weights_of

_AT_ONCE: Final = 16384
"""Sites, so that the memory for their neighbours does not grow with the system."""


@dataclass(frozen=True, slots=True)
class CompiledSnap:
    """One SNAP with its tables."""

    parameters: SnapParameters
    couplings: Couplings

    @classmethod
    def of(cls, parameters: SnapParameters) -> CompiledSnap:
        """With the tables for its 2J."""
        return cls(parameters, make_couplings(parameters.twojmax))

    @property
    def cutoff(self) -> float:
        """Å, the largest."""
        return float(self.parameters.cutoffs.max())


class SnapTerms:
    """The SNAPs of a potential for one set of atoms.

    Args:
        snaps: at least one.
        numbers: (types,) atomic number of each of the potential's atom types.
        skin: Å, of the neighbour list.
        atoms: (n,) atomic numbers.
        ranks: all of them call `evaluate` together.
    """

    def __init__(
        self,
        snaps: Sequence[CompiledSnap],
        numbers: Sequence[int],
        skin: float,
        atoms: Numbers,
        ranks: Ranks,
    ) -> None:
        self._snaps, self._ranks = snaps, ranks
        self._part = ranks.rank, ranks.size
        self._list = VerletList(max(snap.cutoff for snap in snaps), skin, part=self._part)
        self._elements = [
            elements_of(atoms, [numbers[type_] for type_ in snap.parameters.types])
            for snap in snaps
        ]

    @property
    def renewed(self) -> bool:
        """Whether the last evaluation made a new neighbour list."""
        return self._list.renewed

    def evaluate(self, job: RankJob) -> list[EngineResult]:
        """Evaluate positions and weights of the same atoms; complete on rank 0."""
        candidates = self._list.update(job.positions, job.cell, job.pbc)
        weights = weights_of(job)
        return [
            self._evaluate(snap, elements, candidates, weights)
            for snap, elements in zip(self._snaps, self._elements, strict=True)
        ]

    def _evaluate(
        self, snap: CompiledSnap, elements: Indices, candidates: Candidates, weights: Scalars
    ) -> EngineResult:
        parameters, tables = snap.parameters, snap.couplings
        points, origin, start, neighbour = candidates
        n = len(weights)
        low, high = part_of(n, self._part)
        sites = low + np.flatnonzero((elements[low:high] >= 0) & (weights[low:high] != 0.0))
        energies, forces, virial = np.zeros(n), np.zeros((n, 3)), np.zeros((3, 3))
        for first in range(0, len(sites), _AT_ONCE):
            some = sites[first : first + _AT_ONCE]
            widest = int((start[some + 1] - start[some]).max())
            near = np.empty((len(some), max(widest, 1)), np.int32)
            counts = select_neighbours(
                points, elements, origin, some, start, neighbour, parameters.cutoffs**2, near
            )
            order = np.lexsort((counts, elements[some]))
            some, counts, near = some[order], counts[order], near[order]
            evaluate_blocks(
                points,
                elements,
                origin,
                some,
                counts,
                near,
                _blocks(elements[some]),
                weights,
                parameters.cutoffs,
                parameters.neighbour_weights,
                parameters.rfac0,
                float(parameters.switched),
                tuple(tables.recursion),
                tuple(tables.unfolding),
                tuple(tables.products),
                tables.self_term,
                tables.derivative,
                tables.orders if parameters.bzero else np.zeros_like(tables.orders),
                parameters.coefficients,
                parameters.quadratic,
                parameters.is_quadratic,
                energies,
                forces,
                virial,
            )
        return sum_over_ranks(self._ranks, weights, energies, forces, virial)


def _blocks(elements: Indices) -> Any:
    """(b, 2) first atom and number of atoms of each block, from sorted elements."""
    ends = np.flatnonzero(np.diff(elements, append=-1)) + 1
    begins = np.concatenate([[0], ends[:-1]])
    return np.array(
        [
            (at, min(LANES, end - at))
            for begin, end in zip(begins, ends, strict=True)
            for at in range(begin, end, LANES)
        ],
        np.int64,
    )
