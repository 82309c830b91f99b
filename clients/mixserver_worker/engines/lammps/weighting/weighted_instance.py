"""LAMMPS instances whose atom types stand for site weights: common to all styles."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Final, TypeVar

import numpy as np
from numpy.typing import NDArray

from mixserver.core.arrays import Scalars
from mixserver_worker.engine import EngineResult
from mixserver_worker.engines.lammps.instance import LammpsInstance
from mixserver_worker.engines.lammps.mpi import RankJob
from mixserver_worker.engines.lammps.weighting.split_styles import NotWeightable

_SMALLEST: Final = 1e-150
"""Smaller weights count as 0: site energies could not be divided by them."""

_Instance = TypeVar("_Instance", bound="WeightedInstance")


class WeightedInstance(LammpsInstance):
    """LAMMPS that multiplies site energies by weights."""

    def _evaluate_weighted(self, job: RankJob, *, set_up: bool = False) -> EngineResult:
        """Evaluate with the current types and weights; site energies are still weighted."""
        full = set_up or self._fresh or not self.fast_loop
        self._fresh = True  # after a failure, the next evaluation begins with a full set-up
        self._advance(job, self._computes(job), full=full)
        self._fresh = False
        return self._results(job, "")

    def _write_types(self, types: NDArray[np.int32]) -> None:
        """Write atom types into LAMMPS, also of ghosts, which pairs use."""
        rows = self.library.atom_indices(ghosts=True)
        if len(rows) and rows.max() < len(types):  # otherwise atoms were lost: found later
            self.library.types(ghosts=True)[:] = types[rows]


def all_or_none(instances: Iterable[_Instance]) -> list[_Instance]:
    """The instances that an iterable makes; if one cannot be made, those before it are closed."""
    with contextlib.ExitStack() as made:
        every = [made.enter_context(contextlib.closing(one)) for one in instances]
        made.pop_all()
    return every


def weights_of(job: RankJob) -> Scalars:
    """(n,) weights of a job, with tiny ones replaced by 0."""
    if job.weight is None:
        return np.ones(len(job.positions))
    return np.where(np.abs(job.weight) < _SMALLEST, 0.0, job.weight)


def unweighted(result: EngineResult, weights: Scalars) -> EngineResult:
    """The result with site energies divided by their weights; 0 where the weight is 0."""
    if result.energies is None:
        return result
    energies = np.zeros(len(weights))
    np.divide(result.energies, weights, out=energies, where=weights != 0.0)
    return replace(result, energies=energies)


def site_energies_of(result: EngineResult) -> Scalars:
    """(n,) eV.

    Raises:
        NotWeightable: LAMMPS has none.
    """
    if result.energies is None:
        raise NotWeightable("LAMMPS has no site energies for it")
    return result.energies


def sum_of_terms(
    terms: Sequence[EngineResult], job: RankJob, values: Scalars | None
) -> EngineResult:
    """The result of a potential from those of its terms.

    Args:
        terms: at least one.
        job: says whether site energies are wanted; where its weight is 0 they are 0.
        values: (n,) of the criterion.

    Raises:
        NotWeightable: site energies are wanted, and a term has none.
    """
    energies: Scalars | None = None
    if job.energies:
        energies = np.sum([site_energies_of(one) for one in terms], axis=0)
        energies[weights_of(job) == 0.0] = 0.0
    return EngineResult(
        energy=sum(one.energy for one in terms),
        forces=np.sum([one.forces for one in terms], axis=0),
        virial=np.sum([one.virial for one in terms], axis=0),
        energies=energies,
        values=values,
    )
