"""The SNAPs of a weighted potential, each in as many passes as its weights need atom types.

New instances are made when weights need more types or far fewer.
"""

from __future__ import annotations

from collections.abc import Sequence

from mixserver_worker.engine import EngineResult
from mixserver_worker.engines.lammps.mpi import RankJob, Ranks
from mixserver_worker.engines.lammps.setup import PotentialSetup
from mixserver_worker.engines.lammps.weighting.atom_types import ExcessTypes, TooManyWeights
from mixserver_worker.engines.lammps.weighting.passes import Passes, passes_needed
from mixserver_worker.engines.lammps.weighting.snap import SnapMethod, WeightedSnap
from mixserver_worker.engines.lammps.weighting.split_styles import SnapTerm
from mixserver_worker.engines.lammps.weighting.weighted_instance import all_or_none


class SnapPasses:
    """LAMMPS instances for the SNAPs of a potential; `prepare` makes the first ones."""

    def __init__(
        self,
        setup: PotentialSetup,
        snaps: Sequence[SnapTerm],
        method: SnapMethod,
        reach: float,
        ranks: Ranks,
    ) -> None:
        self._setup, self._snaps, self._method = setup, snaps, method
        self._reach, self._ranks = reach, ranks
        self.instances: list[WeightedSnap] = []
        """All passes of the first SNAP, then those of the next."""
        self._passes = Passes()
        self._excess = ExcessTypes()

    def close(self) -> None:
        """End all LAMMPS instances."""
        old, self.instances = self.instances, []
        for one in old:
            one.close()

    def prepare(self, job: RankJob) -> None:
        """Make instances with enough atom types for these weights, and no more than needed."""
        self.close()
        self._passes.choose(job)
        parts = self._passes.divided(job)
        self.instances = all_or_none(
            WeightedSnap(self._setup, snap, self._method, self._reach, part, self._ranks)
            for snap in self._snaps
            for part in parts
        )
        self._excess = ExcessTypes()

    def evaluate(self, job: RankJob) -> list[EngineResult]:
        """Evaluate all passes."""
        # instances are missing if they could not be made for the previous positions
        if self._excess.persistent or len(self.instances) < len(self._snaps):
            self.prepare(job)
        try:
            results = self._evaluate(job)
        except TooManyWeights:
            self.prepare(job)
            results = self._evaluate(job)
        wanted = sum(one.types.wanted for one in self.instances)
        if self._passes.count > 1 and passes_needed(job) == 1:
            wanted = 0  # one pass would be enough
        self._excess.count(sum(sum(one.types.room) for one in self.instances), wanted)
        return results

    def _evaluate(self, job: RankJob) -> list[EngineResult]:
        parts = self._passes.divided(job) * len(self._snaps)
        return [one.evaluate(part) for one, part in zip(self.instances, parts, strict=True)]
