"""The SNAPs of a potential in compiled code, for one set of atoms."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final

import numpy as np
from numpy.typing import NDArray

from mixserver.core.arrays import Indices, Numbers, Scalars
from mixserver_worker.engines.lammps.compiled.atoms import Tally, elements_of
from mixserver_worker.engines.lammps.compiled.couplings import Couplings, make_couplings
from mixserver_worker.engines.lammps.compiled.lanes import LANES
from mixserver_worker.engines.lammps.compiled.snap_files import SnapParameters
from mixserver_worker.engines.lammps.compiled.snap_kernel import evaluate_blocks, select_neighbours
from mixserver_worker.engines.lammps.compiled.team import Team
from mixserver_worker.engines.lammps.compiled.verlet import Candidates, VerletList, part_of
from mixserver_worker.engines.lammps.mpi import RankJob
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
        part: which of several equal parts of the atoms to evaluate, and how many parts.
        team: evaluates them.
    """

    def __init__(
        self,
        snaps: Sequence[CompiledSnap],
        numbers: Sequence[int],
        skin: float,
        atoms: Numbers,
        part: tuple[int, int],
        team: Team,
    ) -> None:
        self._snaps, self._part, self._team = snaps, part, team
        reach = max(snap.cutoff for snap in snaps)
        self._list = VerletList(reach, skin, part=part, team=team)
        self._elements = [
            elements_of(atoms, [numbers[type_] for type_ in snap.parameters.types])
            for snap in snaps
        ]

    @property
    def renewed(self) -> bool:
        """Whether the last evaluation made a new neighbour list."""
        return self._list.renewed

    def tasks(self, job: RankJob) -> list[Callable[[Tally], bool]]:
        """What there is to add for these positions and weights of the same atoms."""
        candidates = self._list.update(job.positions, job.cell, job.pbc)
        weights = weights_of(job)
        low, high = part_of(len(weights), self._part)
        tasks: list[Callable[[Tally], bool]] = []
        for snap, elements in zip(self._snaps, self._elements, strict=True):
            here = (elements[low:high] >= 0) & (weights[low:high] != 0.0)
            tasks += [
                partial(_evaluate, snap, elements, candidates, weights, some)
                for some in np.array_split(low + np.flatnonzero(here), self._team.tasks)
            ]
        return tasks


def _evaluate(
    snap: CompiledSnap,
    elements: Indices,
    candidates: Candidates,
    weights: Scalars,
    sites: Indices,
    tally: Tally,
) -> bool:
    """Add some sites of one SNAP; True."""
    parameters, tables = snap.parameters, snap.couplings
    points, origin, start, neighbour = candidates
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
            tally.energies,
            tally.forces,
            tally.virial,
        )
    return True


def _blocks(elements: Indices) -> NDArray[np.int64]:
    """(b, 2) first atom and number of atoms of each block, from sorted elements."""
    ends = np.flatnonzero(np.diff(elements, append=-1)) + 1
    begins = np.concatenate([[0], ends[:-1]])
    firsts = [np.arange(begin, end, LANES) for begin, end in zip(begins, ends, strict=True)]
    lasts = [np.append(first[1:], end) for first, end in zip(firsts, ends, strict=True)]
    begin, end = np.concatenate(firsts), np.concatenate(lasts)
    return np.column_stack([begin, end - begin])
