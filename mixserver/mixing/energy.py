r"""Energy mixing: one potential energy of two models, with its exact gradient and virial.

.. math::
    E = \sum_i \left[ \lambda_i (e_i - d_{s(i)}) + (1 - \lambda_i)\, c_i \right]

.. math::
    F = -\sum_i \left[ \lambda_i \nabla e_i + (1 - \lambda_i) \nabla c_i
        + (e_i - d_{s(i)} - c_i) \nabla \lambda_i \right]

with site energies e (expensive) and c (cheap), and an offset d per element between the two models'
reference energies. The cheap model evaluates the whole system with the weights 1 - lambda; or,
where its unweighted result is known anyway, core and blend with their surroundings with the weights
lambda, which is the same because energies are linear in the weights.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import msgspec
import numpy as np

from mixserver.core.arrays import Indices, Matrix, Scalars, Vectors
from mixserver.core.errors import ConfigError
from mixserver.core.frame import Frame
from mixserver.geometry import squared_lengths
from mixserver.mixing.clusters import Carver, Cluster, gather
from mixserver.mixing.dead_loads import DeadLoads
from mixserver.mixing.jobs import (
    WHOLE,
    ClusterJobs,
    JobKey,
    Plan,
    cluster_job,
    whole_system_job,
)
from mixserver.mixing.mixer import (
    Diagnostics,
    MixedResult,
    Part,
    Results,
    cluster_results,
    count_atoms,
    max_and_rms,
)
from mixserver.mixing.model_capabilities import (
    ModelCapabilities,
    check_weightable,
    resolve_width,
)
from mixserver.mixing.partition import JobSizes
from mixserver.region.region import Region
from mixserver.wire.worker import Evaluate, Result, Role


@dataclass(slots=True)
class _Sum:
    """The sum of the results about some clusters."""

    energy: float
    forces: Vectors
    virial: Matrix
    atoms: Indices
    """(n,) atoms with a site energy, ascending."""
    energies: Scalars | None
    """(n,) eV, theirs, unweighted; None if there are none."""


class EnergyMixer:
    """Asks both models for weighted site energies and adds them up.

    A site energy depends on the atoms within one receptive field, so a halo of that width around
    core and blend is exact, and no buffer is needed.

    Args:
        expensive: capabilities of the expensive model.
        cheap: the same of the cheap model.
        offsets: (N,) eV, d of each atom's element.
        halo_width: Å; None for exact.
        allow_thin: accept a halo that is thinner than exact.
        loads: forces that cancel ghost forces and turn with the cell; None for none.
        energies: whether site energies will be needed, because lambda moves or jumps.
        sizes: how many core and blend atoms an expensive job should have.
        places: (N, 3) fractional coordinates by which larger clusters are split; see `divide`.

    Raises:
        ConfigError: a model cannot weight site energies, or does not return them where they are
            needed; the halo is too thin and that was not allowed, or exact but the receptive field
            is unknown.
    """

    correction_needs_whole = False

    def __init__(
        self,
        *,
        expensive: ModelCapabilities,
        cheap: ModelCapabilities,
        offsets: Scalars,
        halo_width: float | None = None,
        allow_thin: bool = False,
        loads: DeadLoads | None = None,
        energies: bool = True,
        sizes: JobSizes = JobSizes(),  # noqa: B008 - it cannot be changed
        places: Vectors | None = None,
    ) -> None:
        for role, model in (("expensive", expensive), ("cheap", cheap)):
            check_weightable(role, model, energies)
        halo = resolve_width("halo_width", halo_width, expensive, allow_thin)
        self._offsets = offsets
        self._loads = loads
        # regions within each other's surroundings are evaluated faster together
        self.carver = Carver(0.0, halo, link_width=halo, sizes=sizes, places=places)
        self._cheap = cheap
        self._cheap_carver: Carver | None = None

    def plan(
        self, frame: Frame, region: Region, *, criterion: str = "", whole_known: bool = False
    ) -> Plan:
        """Plan site energies weighted by lambda, and cheap ones weighted by 1 - lambda.

        Raises:
            ConfigError: `whole_known`, but the cheap model's receptive field is unknown.
        """
        expensive = self._cluster_jobs("expensive", self.carver, frame, region)
        if whole_known:
            cheap = self._cluster_jobs("cheap", self._carver_of_cheap(), frame, region)
            return Plan(frame, region, None, expensive, cheap)
        job: tuple[JobKey, Evaluate] | None = None
        if criterion or _needs_cheap(region):
            job = WHOLE, _weighted_whole(frame, region, criterion)
        return Plan(frame, region, job, expensive)

    def combine(self, plan: Plan, results: Results, part: Part = "mixed") -> MixedResult:
        r"""Add up energies, forces and virials.

        A correction is :math:`\sum_i \lambda_i (e_i - d_{s(i)} - c_i)`.

        Raises:
            ValueError: a result is missing.
        """
        if plan.cheap is not None:
            correction = self._correction(plan, results)
            if part == "correction":
                return correction
            whole = results[WHOLE]
            return replace(
                correction,
                energy=whole.energy + correction.energy,
                forces=whole.forces + correction.forces,
                virial=whole.virial + correction.virial,
                diagnostics=msgspec.structs.replace(correction.diagnostics, energy_is="mixed"),
            )
        if part == "correction":
            raise ValueError("a correction needs a plan with the whole system known")
        cheap = results.get(WHOLE)
        if cheap is None and _needs_cheap(plan.region):
            raise ValueError("part of the system is cheap, but the cheap result is missing")
        expensive = cluster_results(plan.expensive, results)
        count = len(plan.frame)
        total = _added(plan.clusters, expensive, count, None if cheap is None else cheap.forces)
        cheap_energies = None
        if cheap is not None:
            total.energy += cheap.energy
            total.virial = total.virial + cheap.virial
            if cheap.energies is not None:
                cheap_energies = cheap.energies.take(total.atoms)
        return self._finished(plan, total, cheap_energies, "mixed")

    def _correction(self, plan: Plan, results: Results) -> MixedResult:
        count = len(plan.frame)
        total = _added(plan.clusters, cluster_results(plan.expensive, results), count)
        clusters = () if plan.cheap is None else plan.cheap.clusters
        less = _added(clusters, cluster_results(plan.cheap, results), count)
        total.energy -= less.energy
        total.forces -= less.forces
        total.virial = total.virial - less.virial
        return self._finished(plan, total, less.energies, "correction")

    def _finished(
        self, plan: Plan, total: _Sum, cheap_energies: Scalars | None, energy_is: Part
    ) -> MixedResult:
        """Subtract the energy offsets; add grad-lambda forces and dead loads."""
        region = plan.region
        atoms, forces, virial = total.atoms, total.forces, total.virial
        lambda_ = region.lambda_.take(atoms)
        offset = self._offsets.take(atoms)
        energy = total.energy - float(lambda_ @ offset)
        difference_max = difference_rms = gradient_max = None
        update_energy = 0.0
        if _needs_differences(region) and len(atoms):
            if total.energies is None or cheap_energies is None:
                raise ValueError("lambda moves or jumps, but a result has no site energies")
            difference = total.energies - offset - cheap_energies
            difference_max, difference_rms = max_and_rms(difference[lambda_ < 1.0] ** 2)
            if region.before is not None:
                update_energy = float((lambda_ - region.before.take(atoms)) @ difference)
            if region.gradient is not None:
                added = region.gradient.forces(difference)
                forces[added.atoms] += added.forces
                virial = virial + added.virial
                gradient_max, _ = max_and_rms(squared_lengths(added.forces))
        if self._loads is not None:
            loaded = self._loads.at(plan.frame)
            energy += loaded.energy
            forces[self._loads.atoms] += loaded.forces
            virial = virial + loaded.virial
        diagnostics = Diagnostics(
            energy_is=energy_is,
            gap_max=difference_max,
            gap_rms=difference_rms,
            pull_max=gradient_max,
            net_force=math.hypot(*forces.sum(axis=0).tolist()),
            **count_atoms(plan),
        )
        return MixedResult(energy, forces, virial, diagnostics, update_energy)

    def _cluster_jobs(
        self, role: Role, carver: Carver, frame: Frame, region: Region
    ) -> ClusterJobs:
        """Jobs about core and blend and their surroundings, weighted by lambda."""
        energies = _needs_differences(region)

        def job(cluster: Cluster) -> Evaluate:
            weight = region.lambda_.take(cluster.atoms)
            weight[cluster.sites == 0.0] = 0.0  # a cluster of nearly all atoms holds other sites
            # where lambda falls to 0 now, its update has an energy, too
            wanted = (weight == 0.0) & (cluster.sites > 0.0)
            unweighted = bool((weight == 1.0).all())
            return cluster_job(
                frame,
                cluster,
                None if unweighted else weight,
                energies=energies,
                wanted=wanted,
            )

        return ClusterJobs(role, carver, frame, _involved(region), job)

    def _carver_of_cheap(self) -> Carver:
        if self._cheap_carver is None:
            if self._cheap.known_field is None:
                raise ConfigError(
                    f"model {self._cheap.name!r} does not state its receptive field, which a part "
                    "of the mixed energy needs; state it as models.cheap.receptive_field (Å)"
                )
            halo = resolve_width("halo_width", None, self._cheap, allow_thin=False)
            self._cheap_carver = Carver(0.0, halo, link_width=halo)
        return self._cheap_carver


def _weighted_whole(frame: Frame, region: Region, criterion: str) -> Evaluate:
    """The cheap job about the whole system, weighted by 1 - lambda."""
    if not len(_involved(region).active):
        return whole_system_job(frame, criterion=criterion)
    weight = 1.0 - region.lambda_
    wanted = None
    if region.before is not None:  # where lambda rises to 1 now, its update has an energy, too
        wanted = (weight == 0.0) & (region.before != region.lambda_)
    return whole_system_job(
        frame,
        weight=weight,
        energies=_needs_differences(region),
        wanted=wanted,
        criterion=criterion,
    )


def _needs_cheap(region: Region) -> bool:
    """False if everything is expensive and stays so."""
    return region.before is not None or region.core < len(region.lambda_)


def _needs_differences(region: Region) -> bool:
    """Whether site energies of both models are needed, atom by atom."""
    return region.before is not None or (region.gradient is not None and region.blend > 0)


def _involved(region: Region) -> Region:
    """The region of all atoms that have, or had, an expensive site energy."""
    if region.before is None:
        return region
    return Region(np.maximum(region.lambda_, region.before), region.seeds)


def _added(
    clusters: Sequence[Cluster],
    results: Sequence[Result],
    count: int,
    forces: Vectors | None = None,
) -> _Sum:
    """Add up results about clusters of a frame with `count` atoms, on top of some forces."""
    total = np.zeros((count, 3)) if forces is None else forces.copy()
    virial = np.zeros((3, 3))
    for cluster, result in zip(clusters, results, strict=True):
        total[cluster.atoms] += result.forces
        virial += result.virial
    energies = [result.energies for result in results if result.energies is not None]
    known = len(energies) == len(results)
    atoms, values = gather(clusters, energies if known else [c.sites for c in clusters])
    energy = float(sum(result.energy for result in results))
    return _Sum(energy, total, virial, atoms, values if known else None)
