"""The pairwise remainder of a weighted potential: as EAM where possible, else pair by pair."""

from __future__ import annotations

from typing import Final

from mixserver_worker.engine import EngineResult
from mixserver_worker.engines.lammps.mpi import RankJob, Ranks
from mixserver_worker.engines.lammps.setup import PotentialSetup
from mixserver_worker.engines.lammps.weighting.atom_types import ExcessTypes, TooManyWeights
from mixserver_worker.engines.lammps.weighting.eam_tables import EamTables
from mixserver_worker.engines.lammps.weighting.pair_as_eam import BelowTables, PairAsEam
from mixserver_worker.engines.lammps.weighting.pairwise import WeightedPairs
from mixserver_worker.engines.lammps.weighting.passes import Passes, passes_needed
from mixserver_worker.engines.lammps.weighting.tables import PairCurve
from mixserver_worker.engines.lammps.weighting.weighted_instance import all_or_none

PAIRWISE_EVALUATIONS: Final = 50
"""Evaluated pair by pair after atoms have been closer than the EAM tables begin."""


class PairTerm:
    """LAMMPS instances of a pairwise potential; `prepare` makes the first ones."""

    def __init__(
        self,
        setup: PotentialSetup,
        commands: tuple[str, ...],
        curves: tuple[PairCurve, ...],
        tables: tuple[EamTables, ...],
        ranks: Ranks,
    ) -> None:
        self._setup, self._commands, self._curves = setup, commands, curves
        self._tables, self._ranks = tables, ranks
        self.as_eam: list[PairAsEam] = []
        """All passes of the first tables, then those of the next."""
        self._passes = Passes()
        self._excess = ExcessTypes()
        self.pairwise: WeightedPairs | None = None
        self.pairwise_left = 0

    def close(self) -> None:
        """End all LAMMPS instances."""
        old, self.as_eam = self.as_eam, []
        for one in old:
            one.close()
        if self.pairwise is not None:
            self.pairwise.close()
        self.pairwise = None

    def prepare(self, job: RankJob) -> None:
        """Make the instances that the first evaluation needs."""
        if self._tables:
            self._make_eam(job)
        else:
            self._pair_by_pair(job)

    def evaluate(self, job: RankJob) -> list[EngineResult]:
        """Evaluate with the faster way that these positions allow."""
        if self.pairwise_left:
            self.pairwise_left -= 1
        elif self._tables:
            try:
                return self._evaluate_eam(job)
            except BelowTables:
                self.pairwise_left = PAIRWISE_EVALUATIONS
        return [self._pair_by_pair(job).evaluate(job)]

    def _evaluate_eam(self, job: RankJob) -> list[EngineResult]:
        if self._excess.persistent or not self.as_eam:
            self._make_eam(job)
        try:
            results = self._evaluate_passes(job)
        except TooManyWeights:
            self._make_eam(job)
            results = self._evaluate_passes(job)
        wanted = sum(one.types.wanted for one in self.as_eam)
        if self._passes.count > 1 and passes_needed(job) == 1:
            wanted = 0  # one pass would be enough
        self._excess.count(sum(one.available for one in self.as_eam), wanted)
        return results

    def _evaluate_passes(self, job: RankJob) -> list[EngineResult]:
        parts = self._passes.divided(job) * len(self._tables)
        return [one.evaluate(part) for one, part in zip(self.as_eam, parts, strict=True)]

    def _make_eam(self, job: RankJob) -> None:
        """Make EAM instances with enough types for these weights, and no more than needed."""
        old, self.as_eam = self.as_eam, []
        for one in old:
            one.close()
        self._passes.choose(job)
        parts = self._passes.divided(job)
        self.as_eam = all_or_none(
            PairAsEam(self._setup, tables, part, self._ranks)
            for tables in self._tables
            for part in parts
        )
        self._excess = ExcessTypes()

    def _pair_by_pair(self, job: RankJob) -> WeightedPairs:
        if self.pairwise is None:
            self.pairwise = WeightedPairs(
                self._setup, self._commands, self._curves, job, self._ranks
            )
        return self.pairwise
