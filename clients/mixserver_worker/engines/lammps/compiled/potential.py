"""One set of atoms, whose SNAPs and weighted pairs are evaluated in compiled code.

LAMMPS evaluates what is left: pairs without weights or closer than their tables begin, criteria.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import Final

from mixserver.core.arrays import Numbers
from mixserver_worker.engine import EngineResult
from mixserver_worker.engines.lammps.compiled.atoms import Tally
from mixserver_worker.engines.lammps.compiled.pairs import CompiledPairs
from mixserver_worker.engines.lammps.compiled.snap import CompiledSnap, SnapTerms
from mixserver_worker.engines.lammps.compiled.team import Team
from mixserver_worker.engines.lammps.instance import LammpsInstance, check_overlap
from mixserver_worker.engines.lammps.mpi import RankJob, Ranks
from mixserver_worker.engines.lammps.setup import PotentialSetup
from mixserver_worker.engines.lammps.weighting.criterion import CriterionInstances
from mixserver_worker.engines.lammps.weighting.eam_tables import EamTables
from mixserver_worker.engines.lammps.weighting.pair_term import PAIRWISE_EVALUATIONS, PairTerm
from mixserver_worker.engines.lammps.weighting.tables import PairCurve
from mixserver_worker.engines.lammps.weighting.weighted_instance import sum_of_terms, weights_of


@dataclass(frozen=True, slots=True)
class CompiledPotential:
    """What `CompiledAtoms` evaluate."""

    setup: PotentialSetup
    """Of the whole potential."""
    cutoff: float
    """Å, of the whole potential."""
    snaps: tuple[CompiledSnap, ...]
    pairwise: tuple[str, ...] | None
    """Commands of the pairwise remainder; None if there is none."""
    curves: tuple[PairCurve, ...]
    tables: tuple[EamTables, ...]
    """The pairwise remainder for evaluations with weights; empty if this form is not exact."""


class CompiledAtoms:
    """One set of atoms, with or without weights.

    Args:
        potential: what to evaluate.
        job: the first evaluation; later ones have weights if this one has.
        ranks: all of them construct it and call `evaluate` together.
        team: threads of each rank.

    Raises:
        BadInput: atoms overlap.
        LammpsError: LAMMPS refused.
    """

    fast_loop: Final = True

    def __init__(
        self, potential: CompiledPotential, job: RankJob, ranks: Ranks, team: Team | None = None
    ) -> None:
        self.numbers: Numbers = job.numbers.copy()
        self.pbc = job.pbc
        self.weighted = job.weight is not None
        self._potential, self._ranks, self._team = potential, ranks, team or Team()
        setup = potential.setup
        check_overlap(job)
        setup.check_files()
        shared = setup.numbers, setup.skin, self.numbers, (ranks.rank, ranks.size), self._team
        self._snaps = SnapTerms(potential.snaps, *shared)
        self._criteria = CriterionInstances(setup, potential.cutoff, ranks)
        self._pairs: CompiledPairs | None = None
        if self.weighted and potential.tables:
            self._pairs = CompiledPairs(potential.tables, *shared)
        self._close_pairs: PairTerm | None = None
        self._left = 0
        """Evaluations until tables are tried again."""
        self._rest: LammpsInstance | None = None
        if potential.pairwise is not None and not self.weighted:
            self._rest = LammpsInstance(replace(setup, after_box=potential.pairwise), job, ranks)

    def close(self) -> None:
        """End all LAMMPS instances."""
        self._criteria.close()
        for one in (self._rest, self._close_pairs):
            if one is not None:
                one.close()

    def evaluate(self, job: RankJob) -> EngineResult:
        """Evaluate positions of the same atoms; the result is complete on rank 0 only.

        Raises:
            BadInput: atoms overlap, or LAMMPS refuses the criterion.
            LostAtoms: a new instance is needed.
            LammpsError: LAMMPS refused.
        """
        values = self._criteria.evaluate(job).values if job.criterion else None
        bare = replace(job, criterion="")
        snaps = self._snaps.tasks(bare)
        if self._snaps.renewed:
            check_overlap(job)
        pairs = self._pairs.tasks(bare) if self._pairs is not None and not self._left else []
        self._left -= self._left > 0
        tallies = [Tally(len(self.numbers)) for _ in (*snaps, *pairs)]
        added, rest = self._team.run_beside(
            [partial(task, tally) for task, tally in zip(snaps + pairs, tallies, strict=True)],
            lambda: None if self._rest is None else self._rest.evaluate(bare),
        )
        tabulated = bool(pairs) and not self._ranks.any(not all(added))
        if pairs and not tabulated:  # two atoms are closer than the tables begin
            self._left = PAIRWISE_EVALUATIONS
        total = tallies[0]
        total.add(tallies[1:] if tabulated else tallies[1 : len(snaps)])
        results = [total.over_ranks(self._ranks, weights_of(job))]
        if rest is not None:
            results.append(rest)
        elif self._potential.pairwise is not None and not tabulated:
            results += self._close(bare)
        return sum_of_terms(results, job, values)

    def _close(self, job: RankJob) -> list[EngineResult]:
        """Weighted pairs by LAMMPS, at any distance."""
        if self._close_pairs is None:
            known = self._potential
            self._close_pairs = PairTerm(
                known.setup, known.pairwise or (), known.curves, (), self._ranks
            )
        return self._close_pairs.evaluate(job)
