"""A mixer makes jobs for two models and combines their results into one energy, forces and virial.

`ForceMixer` blends forces, `EnergyMixer` mixes energies, `SingleModel` mixes nothing.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol, TypeAlias

import msgspec
import numpy as np

from mixserver.core.arrays import Matrix, Scalars, Vectors
from mixserver.core.frame import Frame
from mixserver.mixing.clusters import Cluster
from mixserver.mixing.jobs import ClusterJobs, JobKey, Plan
from mixserver.region.region import Region
from mixserver.wire.worker import Result

Part: TypeAlias = Literal["mixed", "correction"]
"""All of the mixed potential, or what it adds to the cheap one."""
Results: TypeAlias = Mapping[JobKey, Result]


class Diagnostics(msgspec.Struct, frozen=True, kw_only=True):
    """What a mixer learns besides energy, forces and virial: for reports only.

    None is for what was not measured: there is no such atom, or the other kind of mixing measures
    it.
    """

    energy_is: str = ""
    """To which potential energy and virial belong: "mixed" where the forces belong to them,
    "cheap" or "expensive" under force mixing, "correction"."""
    seeds: int = 0
    core: int = 0
    """Atoms with lambda = 1."""
    blend: int = 0
    """Atoms with 0 < lambda < 1."""
    buffer: int = 0
    """Further atoms with expensive site energies."""
    halo: int = 0
    """Further atoms sent along as surroundings."""
    clusters: int = 0
    """Expensive jobs."""
    mismatch_max: float | None = None
    """eV/Å, largest |F_expensive - F_cheap| in the blend, where the models meet."""
    mismatch_rms: float | None = None
    """eV/Å, root mean square of the same."""
    core_mismatch_max: float | None = None
    """eV/Å, largest |F_expensive - F_cheap| in the core: what the expensive model is for."""
    core_mismatch_rms: float | None = None
    """eV/Å, root mean square of the same."""
    gap_max: float | None = None
    """eV, largest site-energy difference |e_i - d - c_i| in the blend: the size of the grad-lambda
    forces."""
    gap_rms: float | None = None
    """eV, root mean square of the same."""
    pull_max: float | None = None
    """eV/Å, largest grad-lambda force."""
    net_force: float | None = None
    """eV/Å, |sum of the mixed forces| before the momentum correction."""


@dataclass(frozen=True, slots=True)
class MixedResult:
    """One potential's energy, forces and virial, made of the results of both models."""

    energy: float
    """eV. Under force mixing that of `Diagnostics.energy_is`, which the forces do not conserve."""
    forces: Vectors = field(repr=False)
    """(N, 3) eV/Å."""
    virial: Matrix
    """(3, 3) eV, that of `energy`."""
    diagnostics: Diagnostics
    lambda_update_energy: float = 0.0
    """eV by which an update of lambda changed the energy at these positions."""
    extras: str | None = None
    """Text for i-PI of a single model, which is passed on as it is; None where models are mixed."""


class Mixer(Protocol):
    """Plans the jobs of an evaluation, and combines their results."""

    @property
    def correction_needs_whole(self) -> bool:
        """Whether a correction needs the cheap result about the whole system."""

    def plan(
        self, frame: Frame, region: Region, *, criterion: str = "", whole_known: bool = False
    ) -> Plan:
        """Plan an evaluation.

        Args:
            frame: what is evaluated.
            region: its division.
            criterion: the compute whose values must come with the whole system; "" for none.
            whole_known: the cheap result about the whole system is known without weights, or
                evaluated elsewhere; the plan then has no such job.
        """

    def combine(self, plan: Plan, results: Results, part: Part = "mixed") -> MixedResult:
        """Combine the results of a plan.

        Args:
            plan: made by this mixer.
            results: of all its jobs; with `whole_known` also `WHOLE`, unless a correction does
                without.
            part: what is wanted. A correction needs a plan with `whole_known`.

        Raises:
            ValueError: a result is missing.
        """


def cluster_results(jobs: ClusterJobs | None, results: Results) -> list[Result]:
    """The results of some cluster jobs, in the order of the clusters.

    Raises:
        ValueError: one is missing.
    """
    if jobs is None:
        raise ValueError("the plan has no such jobs")
    try:
        return [results[key] for key in jobs.keys]
    except KeyError as error:
        raise ValueError(f"the result of {error} is missing") from error


def max_and_rms(squared: Scalars) -> tuple[float, float] | tuple[None, None]:
    """Largest and root mean square of some lengths, given squared; None if there are none."""
    if not len(squared):
        return None, None
    return math.sqrt(squared.max()), math.sqrt(squared.sum() / len(squared))


def count_atoms(plan: Plan) -> dict[str, int]:
    """How many seeds, core, blend, buffer and halo atoms and clusters there are.

    An atom in two halos counts once.
    """
    region, clusters = plan.region, plan.clusters
    sent, sites = _count_sent(clusters, len(plan.frame))
    active = len(region.active)
    return {
        "seeds": len(region.seeds),
        "core": region.core,
        "blend": region.blend,
        "buffer": sites - active,
        "halo": sent - sites,
        "clusters": len(clusters),
    }


def _count_sent(clusters: Sequence[Cluster], count: int) -> tuple[int, int]:
    """Atoms in clusters, and those of them that are sites."""
    if len(clusters) == 1:
        sent = len(clusters[0].atoms)
        return sent, sent - clusters[0].halo
    seen = np.zeros(count, dtype=np.int8)
    for cluster in clusters:
        seen[cluster.atoms] |= 1 + (cluster.sites > 0.0)
    return int(np.count_nonzero(seen)), int(np.count_nonzero(seen & 2))
