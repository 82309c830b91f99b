"""Criteria beside a weighted potential, which must not depend on weights."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from mixserver_worker.engine import EngineResult
from mixserver_worker.engines.lammps.instance import LammpsInstance
from mixserver_worker.engines.lammps.mpi import RankJob, Ranks
from mixserver_worker.engines.lammps.setup import PotentialSetup

_GEOMETRIC: Final = frozenset(
    {"coord/atom", "centro/atom", "cna/atom", "cnp/atom", "ackland/atom", "cluster/atom"}
    | {"entropy/atom", "voronoi/atom", "contact/atom"}
)
"""Criteria that depend on positions only; others need the unweighted potential."""


class CriterionInstances:
    """LAMMPS instances for criteria of one set of atoms, made when they are needed.

    Args:
        setup: of the unweighted potential.
        cutoff: Å, of the unweighted potential.
        ranks: all of them call `evaluate` together.
    """

    def __init__(self, setup: PotentialSetup, cutoff: float, ranks: Ranks) -> None:
        self._setup, self._cutoff, self._ranks = setup, cutoff, ranks
        self._instances: dict[bool, LammpsInstance] = {}

    def close(self) -> None:
        """End all LAMMPS instances."""
        for instance in self._instances.values():
            instance.close()
        self._instances = {}

    def evaluate(self, job: RankJob) -> EngineResult:
        """Evaluate the criterion of a job; see `LammpsInstance.evaluate`."""
        geometric = job.criterion.split()[0] in _GEOMETRIC
        if geometric not in self._instances:
            setup = self._setup
            if geometric:
                zero = (f"pair_style zero {self._cutoff!r}", "pair_coeff * *")
                kept = tuple(line for line in setup.after_box if not line.startswith("pair_"))
                setup = replace(setup, after_box=(*kept, *zero))
            self._instances[geometric] = LammpsInstance(setup, job, self._ranks)
        return self._instances[geometric].evaluate(replace(job, energies=False, weight=None))
