"""A pairwise potential with weighted site energies, pair by pair.

Half of each pair's energy belongs to each atom. LAMMPS lists every pair with energy and force, and
both are scaled by the mean of the two weights. This works for any pairwise style without tables or
approximations, but is slower than `pair_as_eam`. For many-body potentials LAMMPS refuses to list
pairs, or lists wrong ones, which `scheme` detects.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from mixserver.core.arrays import Block
from mixserver_worker.engine import EngineResult
from mixserver_worker.engines.lammps.instance import LammpsInstance, types_by_element
from mixserver_worker.engines.lammps.mpi import RankJob, Ranks
from mixserver_worker.engines.lammps.setup import PotentialSetup
from mixserver_worker.engines.lammps.weighting.tables import PairCurve

_ENERGY: Final = 0
_FORCE: Final = slice(1, 4)
_VECTOR: Final = slice(4, 7)


class WeightedPairs(LammpsInstance):
    """LAMMPS with a pairwise potential whose site energies are weighted.

    Args:
        setup: of the unweighted potential; its commands are not used.
        commands: of the pairwise potential.
        curves: of pairs whose forces in LAMMPS are not the gradient of their energies.
        job: the first evaluation.
        ranks: all of them construct the instance and call `evaluate` together.

    Raises:
        BadInput: atoms overlap.
        LammpsError: LAMMPS refused, perhaps because the potential is not pairwise.
    """

    def __init__(
        self,
        setup: PotentialSetup,
        commands: tuple[str, ...],
        curves: tuple[PairCurve, ...],
        job: RankJob,
        ranks: Ranks,
    ) -> None:
        # accelerated styles list no pairs
        super().__init__(setup.on_host(commands, site_energies=False), job, ranks)
        self._curves, self._types = curves, types_by_element(setup, job.numbers)
        try:
            self.library.command("compute mx_atoms all property/local patom1 patom2")
            self.library.command("compute mx_pair all pair/local eng fx fy fz dx dy dz")
        except BaseException:
            self.close()
            raise

    def evaluate(self, job: RankJob) -> EngineResult:
        """Evaluate positions and weights of the same atoms; see `LammpsInstance.evaluate`."""
        self._advance(job, ["thermo_pe"], full=self._fresh or not self.fast_loop)
        self._fresh = False
        n = len(job.positions)
        first, second = self.library.local("mx_atoms").astype(np.intp).T - 1
        pair = self.library.local("mx_pair")
        if self._curves:
            pair = self._from_curves(pair.copy(), self._types[first], self._types[second])
        weight = np.ones(n) if job.weight is None else job.weight
        mean = 0.5 * (weight[first] + weight[second])
        force = pair[:, _FORCE] * mean[:, None]
        sums = np.empty((n + 4, 4))
        for axis in range(3):
            component = force[:, axis]
            sums[:n, axis] = np.bincount(first, component, n) - np.bincount(second, component, n)
        energy = pair[:, _ENERGY]
        sums[:n, 3] = 0.5 * (np.bincount(first, energy, n) + np.bincount(second, energy, n))
        sums[n : n + 3, :3] = pair[:, _VECTOR].T @ force
        sums[n : n + 3, 3] = 0.0
        sums[n + 3] = mean @ energy
        sums = self._ranks.sum(sums)
        virial = sums[n : n + 3, :3]
        return EngineResult(
            energy=float(sums[-1, 0]),
            forces=np.ascontiguousarray(self._box.outward(sums[:n, :3])),
            virial=self._box.virial_outward(0.5 * (virial + virial.T)),
            energies=sums[:n, 3].copy() if job.energies else None,
            values=None,
        )

    def _from_curves(self, pair: Block, one: NDArray[np.int32], other: NDArray[np.int32]) -> Block:
        """Replace energies and forces of pairs that have curves."""
        for curve in self._curves:
            a, b = curve.types
            rows = np.flatnonzero(((one == a) & (other == b)) | ((one == b) & (other == a)))
            vector = pair[rows, _VECTOR]
            distance = np.sqrt(np.square(vector).sum(axis=1))
            known = distance >= curve.start
            rows, vector, distance = rows[known], vector[known], distance[known]
            pair[rows, _ENERGY], slope = curve.at(distance)
            pair[rows, _FORCE] = vector * (-slope / distance)[:, None]
        return pair
