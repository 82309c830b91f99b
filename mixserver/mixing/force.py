"""Force mixing: forces blended as a plain function of arrays, and the mixer that asks for them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Literal, NamedTuple, TypeAlias

import msgspec

from mixserver.core.arrays import Indices, Scalars, Vectors
from mixserver.core.errors import ConfigError
from mixserver.core.frame import Frame
from mixserver.geometry import squared_lengths
from mixserver.mixing.clusters import Carver, Cluster, gather
from mixserver.mixing.jobs import WHOLE, ClusterJobs, Plan, cluster_job, whole_system_job
from mixserver.mixing.mixer import (
    Diagnostics,
    MixedResult,
    Part,
    Results,
    cluster_results,
    count_atoms,
    max_and_rms,
)
from mixserver.mixing.model_capabilities import ModelCapabilities, resolve_width
from mixserver.mixing.partition import JobSizes
from mixserver.region.region import Region
from mixserver.wire.worker import Evaluate, Result

ZeroNet: TypeAlias = Literal["blended", "all", "off"]


class Blended(NamedTuple):
    """Blended forces, and two measures of the mismatch."""

    forces: Vectors
    """(N, 3) eV/Å."""
    net_force: Vectors
    r"""(3,) eV/Å, the net force that blending created before it was taken away,
    :math:`\sum_i \lambda_i (F_i^e - F_i^c)`."""
    mismatch: Vectors
    """(n, 3) eV/Å, F_expensive - F_cheap of the given atoms."""


def blend(
    cheap: Vectors,
    atoms: Indices,
    expensive: Vectors,
    lambda_: Scalars,
    *,
    zero_net: ZeroNet = "blended",
) -> Blended:
    r"""Blend cheap and expensive forces.

    .. math::
        F_i = \lambda_i F_i^\mathrm{expensive} + (1 - \lambda_i) F_i^\mathrm{cheap} - f_i

    ==========  ==============================================  ==============================
    `zero_net`  :math:`f_i`                                     takes away
    ==========  ==============================================  ==============================
    blended     :math:`\lambda_i / \sum_j \lambda_j` of net_force  what blending made, where it did
    all         :math:`\frac1N \sum_j F_j`                      the mean force, as ML-MIX does
    off         0                                               nothing
    ==========  ==============================================  ==============================

    The result is not the gradient of any energy. Without any atoms nothing is mixed and the cheap
    forces come back as they are.

    Args:
        cheap: (N, 3) eV/Å.
        atoms: (n,) those with lambda > 0.
        expensive: (n, 3) eV/Å, theirs.
        lambda_: (n,) theirs, in (0, 1].
        zero_net: over which atoms the net force is taken away, so that momentum is conserved.

    References:
        N. Bernstein, J. R. Kermode, G. Csányi, Rep. Prog. Phys. 72, 026501 (2009).
    """
    mixed = cheap.copy()
    before = cheap.take(atoms, axis=0)
    mismatch = expensive - before
    net: Vectors = lambda_ @ mismatch
    if len(atoms):
        weight = lambda_.repeat(3).reshape(-1, 3)
        rows = weight * expensive + (1.0 - weight) * before
        if zero_net == "blended":
            rows -= weight * (net / lambda_.sum())
        mixed[atoms] = rows
        if zero_net == "all":
            mixed -= mixed.mean(axis=0)
    return Blended(mixed, net, mismatch)


class ForceMixer:
    """Asks both models for forces and blends them.

    A force depends on the site energies within one receptive field, and these on the atoms within
    another. So buffer and halo are exact if each is as wide as the receptive field.

    Args:
        model: the expensive one.
        buffer_width: Å; None for exact.
        halo_width: Å; None for exact.
        allow_thin: accept widths that are thinner than exact.
        zero_net: over which atoms the net force of mixing is taken away.
        sizes: how many core and blend atoms an expensive job should have.

    Raises:
        ConfigError: a width is too thin and that was not allowed, or exact but the receptive field
            is unknown.
    """

    correction_needs_whole = True

    def __init__(
        self,
        *,
        model: ModelCapabilities,
        buffer_width: float | None = None,
        halo_width: float | None = None,
        allow_thin: bool = False,
        zero_net: ZeroNet = "blended",
        sizes: JobSizes = JobSizes(),  # noqa: B008 - it cannot be changed
    ) -> None:
        if zero_net not in ("blended", "all", "off"):
            raise ConfigError(f'mixing.zero_net is "blended", "all" or "off", not {zero_net!r}')
        self.carver = Carver(
            resolve_width("buffer_width", buffer_width, model, allow_thin),
            resolve_width("halo_width", halo_width, model, allow_thin),
            sizes=sizes,
        )
        self._weights = model.weights
        self._zero_net = zero_net

    def plan(
        self, frame: Frame, region: Region, *, criterion: str = "", whole_known: bool = False
    ) -> Plan:
        """Plan unweighted forces of the whole system, and those of the clusters' sites.

        Expensive workers without site weights get the same atoms, and evaluate the energies of the
        halo too; that costs time but changes no force that is used.
        """

        def job(cluster: Cluster) -> Evaluate:
            weighted = self._weights and cluster.halo > 0
            return cluster_job(frame, cluster, cluster.sites if weighted else None)

        mixed = region.core < len(frame)  # else energy and virial of one job are the result
        needed = bool(criterion) or mixed
        whole = needed and not whole_known
        return Plan(
            frame,
            region,
            (WHOLE, whole_system_job(frame, criterion=criterion)) if whole else None,
            ClusterJobs("expensive", self.carver, frame, region, job, divisible=mixed),
        )

    def combine(self, plan: Plan, results: Results, part: Part = "mixed") -> MixedResult:
        """Blend the forces; no energy belongs to them, so energy and virial are the cheap ones.

        Raises:
            ValueError: a result is missing.
        """
        cheap = results.get(WHOLE)
        mixed = self._blended(plan, cheap, cluster_results(plan.expensive, results))
        if part == "mixed":
            return mixed
        if cheap is None:
            raise ValueError("a correction of forces needs the cheap forces of the whole system")
        return replace(
            mixed,
            energy=mixed.energy - cheap.energy,
            forces=mixed.forces - cheap.forces,
            virial=mixed.virial - cheap.virial,
            diagnostics=msgspec.structs.replace(mixed.diagnostics, energy_is="correction"),
        )

    def _blended(
        self, plan: Plan, cheap: Result | None, expensive: Sequence[Result]
    ) -> MixedResult:
        region, counts = plan.region, count_atoms(plan)
        if region.core == len(plan.frame):
            (only,) = expensive
            diagnostics = Diagnostics(energy_is="expensive", net_force=0.0, **counts)
            return MixedResult(only.energy, only.forces, only.virial, diagnostics)
        if cheap is None:
            raise ValueError("part of the system is cheap, but the cheap result is missing")
        if not plan.clusters:
            diagnostics = Diagnostics(energy_is="cheap", net_force=0.0, **counts)
            return MixedResult(cheap.energy, cheap.forces, cheap.virial, diagnostics)
        atoms, theirs = gather(plan.clusters, [result.forces for result in expensive])
        lambda_ = region.lambda_.take(atoms)
        blended = blend(cheap.forces, atoms, theirs, lambda_, zero_net=self._zero_net)
        mismatch = squared_lengths(blended.mismatch)
        core = lambda_ == 1.0
        blend_max, blend_rms = max_and_rms(mismatch[~core])
        core_max, core_rms = max_and_rms(mismatch[core])
        diagnostics = Diagnostics(
            energy_is="cheap",
            mismatch_max=blend_max,
            mismatch_rms=blend_rms,
            core_mismatch_max=core_max,
            core_mismatch_rms=core_rms,
            net_force=math.hypot(*blended.net_force.tolist()),
            **counts,
        )
        return MixedResult(cheap.energy, blended.forces, cheap.virial, diagnostics)
