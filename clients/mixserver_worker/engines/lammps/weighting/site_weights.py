"""Weighted site energies of a LAMMPS potential: E = sum_i w_i e_i, its gradient and its virial.

Adds up the terms that `scheme` found for a potential: the SNAPs in `snap_passes`, many-body terms
in `many_body`, the pairwise remainder in `pair_term`; criteria are evaluated without weights.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

from mixserver.core.arrays import Numbers
from mixserver_worker.engine import EngineResult
from mixserver_worker.engines.lammps.mpi import RankJob, Ranks
from mixserver_worker.engines.lammps.setup import PotentialSetup
from mixserver_worker.engines.lammps.weighting.criterion import CriterionInstances
from mixserver_worker.engines.lammps.weighting.eam_tables import EamTables
from mixserver_worker.engines.lammps.weighting.many_body import CountedPotential, WeightedManyBody
from mixserver_worker.engines.lammps.weighting.pair_term import PairTerm
from mixserver_worker.engines.lammps.weighting.snap import SnapMethod
from mixserver_worker.engines.lammps.weighting.snap_passes import SnapPasses
from mixserver_worker.engines.lammps.weighting.split_styles import SplitPotential
from mixserver_worker.engines.lammps.weighting.tables import PairCurve
from mixserver_worker.engines.lammps.weighting.weighted_instance import sum_of_terms


@dataclass(frozen=True, slots=True)
class WeightingScheme:
    """How the site energies of a potential are weighted."""

    setup: PotentialSetup
    """Of the unweighted potential."""
    terms: SplitPotential
    cutoff: float
    """Å, of the unweighted potential."""
    snap_method: SnapMethod = "scale"
    """How LAMMPS gets the weights of SNAPs."""
    curves: tuple[PairCurve, ...] = ()
    """Pairs whose forces in LAMMPS are not the gradient of their energies; here they are."""
    eam_tables: tuple[EamTables, ...] = ()
    """The pairwise remainder as EAM potentials that LAMMPS can weight; empty if there are none."""
    many_body: tuple[CountedPotential, ...] = ()

    @property
    def as_lammps(self) -> bool:
        """Whether site energies are those of LAMMPS's pe/atom."""
        return all(one.as_lammps for one in self.many_body)


class WeightedPotential:
    """One set of atoms in as many LAMMPS instances as the potential has terms.

    Args:
        scheme: how the potential is weighted.
        job: the first evaluation, with weights.
        ranks: all of them construct it and call `evaluate` together.

    Raises:
        BadInput: atoms overlap.
        LammpsError: LAMMPS refused.
    """

    fast_loop: Final = True
    weighted: Final = True

    def __init__(self, scheme: WeightingScheme, job: RankJob, ranks: Ranks) -> None:
        self.numbers: Numbers = job.numbers.copy()
        self.pbc = job.pbc
        self._scheme, self._ranks = scheme, ranks
        setup, terms = scheme.setup, scheme.terms
        self._criteria = CriterionInstances(setup, scheme.cutoff, ranks)
        self.snaps = SnapPasses(setup, terms.snaps, scheme.snap_method, scheme.cutoff, ranks)
        self.pairs: PairTerm | None = None
        if terms.pairwise is not None:
            self.pairs = PairTerm(setup, terms.pairwise, scheme.curves, scheme.eam_tables, ranks)
        self.many_body: list[WeightedManyBody] = []
        try:
            for potential in scheme.many_body:
                self.many_body.append(WeightedManyBody(potential, job, ranks))
            self.snaps.prepare(job)
            if self.pairs is not None:
                self.pairs.prepare(job)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """End all LAMMPS instances."""
        self.snaps.close()
        if self.pairs is not None:
            self.pairs.close()
        for term in self.many_body:
            term.close()
        self._criteria.close()

    def evaluate(self, job: RankJob) -> EngineResult:
        """Evaluate positions and weights of the same atoms; see `LammpsInstance.evaluate`."""
        values = self._criteria.evaluate(job).values if job.criterion else None
        bare = replace(job, criterion="")
        results = self.snaps.evaluate(bare)
        for term in self.many_body:
            results += term.evaluate(bare)
        if self.pairs is not None:
            results += self.pairs.evaluate(bare)
        return sum_of_terms(results, job, values)
