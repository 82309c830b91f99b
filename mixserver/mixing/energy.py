r"""Energy mixing: one potential energy of two models, with its exact gradient and virial.

.. math::
    E = \sum_i \lambda_i (e_i - d_{s(i)}) + (1 - \lambda_i)\, c_i

.. math::
    F = -\sum_i \lambda_i \nabla e_i + (1 - \lambda_i) \nabla c_i
        + (e_i - d_{s(i)} - c_i) \nabla \lambda_i

with site energies e (expensive) and c (cheap), and a constant d per element that aligns their
zeros. The cheap model is asked about everything with the weights 1 - lambda; or, where its plain
answer is there anyway, about the surroundings of core and blend with the weights lambda, which is
the same because energies are linear in the weights.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from mixserver.arrays import Indices, Scalars, Vectors
from mixserver.cluster import Carver, Cluster, gather
from mixserver.errors import ConfigError
from mixserver.frame import Frame
from mixserver.mixing.loads import DeadLoads
from mixserver.mixing.mixer import Mixed, Parts, Reach, about, about_all, sizes, summary, width
from mixserver.region.region import Region
from mixserver.wire.worker import Evaluate, Result


@dataclass(slots=True)
class _Sum:
    """What the answers about some clusters add up to."""

    energy: float
    forces: Vectors
    virial: Vectors
    atoms: Indices
    """(n,) atoms with a site energy, ascending."""
    energies: Scalars | None
    """(n,) eV, theirs, unweighted; None if they were not asked for."""


class EnergyMixer:
    """Asks both models for weighted site energies and adds them up.

    A site energy depends on the atoms within one receptive field, so a halo of that width around
    core and blend is exact, and no buffer is needed.

    Args:
        expensive: reach of the expensive model.
        cheap: reach of the cheap model.
        zeros: (N,) eV, d of each atom's element.
        halo_width: Å; None for exact.
        allow_thin: accept a halo that is thinner than exact.
        loads: forces that cancel ghost forces and turn with the cell; None for none.
        energies: whether site energies will be needed, because lambda moves or jumps.

    Raises:
        ConfigError: a model cannot weight site energies, or does not give them where they are
            needed; the halo is too thin and that was not allowed, or exact and nobody knows what
            that is.
    """

    def __init__(
        self,
        *,
        expensive: Reach,
        cheap: Reach,
        zeros: Scalars,
        halo_width: float | None = None,
        allow_thin: bool = False,
        loads: DeadLoads | None = None,
        energies: bool = True,
    ) -> None:
        for role, reach in (("expensive", expensive), ("cheap", cheap)):
            refuse_unable(role, reach, energies)
        halo = width("halo_width", halo_width, expensive, allow_thin)
        self._zeros = zeros
        self._loads = loads
        # regions within each other's surroundings are evaluated faster together
        self._carver = Carver(0.0, halo, link_width=halo)
        self._cheap = cheap
        self._cheap_carver: Carver | None = None

    @property
    def correction_needs_plain(self) -> bool:
        """No: it is made of core, blend and their surroundings alone."""
        return False

    @property
    def buffer_width(self) -> float:
        """Å: none."""
        return self._carver.buffer_width

    @property
    def halo_width(self) -> float:
        """Å, as used."""
        return self._carver.halo_width

    def plain(self, frame: Frame, criterion: str = "") -> Evaluate:
        """The question to the cheap model about everything, without weights."""
        return about_all(frame, criterion=criterion)

    def cheap(self, frame: Frame, region: Region, criterion: str = "") -> Evaluate:
        """The question to the cheap model about everything, weighted by 1 - lambda."""
        if not len(_involved(region).active):
            return about_all(frame, criterion=criterion)
        weight = 1.0 - region.expensive
        wanted = None
        if region.before is not None:  # whose lambda jumps to 1 has a gap, too
            wanted = (weight == 0.0) & (region.before != region.expensive)
        return about_all(
            frame, weight=weight, energies=_gaps(region), wanted=wanted, criterion=criterion
        )

    def needs_cheap(self, region: Region) -> bool:
        """False if everything is expensive and stays so."""
        return region.before is not None or region.core < len(region.expensive)

    def carve(self, frame: Frame, region: Region) -> tuple[Cluster, ...]:
        """Carve core and blend with their surroundings."""
        return self._carver.carve(frame, _involved(region))

    def expensive(
        self, frame: Frame, region: Region, clusters: Sequence[Cluster]
    ) -> tuple[Evaluate, ...]:
        """The questions to the expensive model, one per cluster, weighted by lambda."""
        return _questions(frame, region, clusters)

    def parts(
        self, frame: Frame, region: Region
    ) -> tuple[tuple[Cluster, ...], tuple[Evaluate, ...]]:
        """The questions to the cheap model about core and blend alone, weighted by lambda.

        Raises:
            ConfigError: nobody knows how far the cheap model looks.
        """
        if self._cheap_carver is None:
            field = self._cheap.receptive_field
            if field is None or not math.isfinite(field):
                raise ConfigError(
                    f"model {self._cheap.name!r} does not tell its receptive field, which a part "
                    "of the mixed energy needs; state it as models.cheap.receptive_field (Å)"
                )
            halo = width("halo_width", None, self._cheap, allow_thin=False)
            self._cheap_carver = Carver(0.0, halo, link_width=halo)
        clusters = self._cheap_carver.carve(frame, _involved(region))
        return clusters, _questions(frame, region, clusters)

    def mix(
        self,
        frame: Frame,
        region: Region,
        clusters: Sequence[Cluster],
        cheap: Result | None,
        expensive: Sequence[Result],
        parts: Parts | None = None,
    ) -> Mixed:
        """Make one answer of all.

        Args:
            frame: what was asked about.
            region: its division.
            clusters: as carved from both.
            cheap: the answer to `cheap`, or, with `parts`, to `plain`; may be missing only if
                `needs_cheap` is False.
            expensive: one answer per cluster, in their order.
            parts: clusters and answers of `parts`, if `cheap` is plain.

        Raises:
            ValueError: an answer is missing.
        """
        if cheap is None and self.needs_cheap(region):
            raise ValueError("part of the system is cheap, but the cheap model did not answer")
        if parts is not None and cheap is not None:
            mixed = self.correction(frame, region, clusters, None, expensive, parts)
            return replace(
                mixed,
                energy=cheap.energy + mixed.energy,
                forces=cheap.forces + mixed.forces,
                virial=cheap.virial + mixed.virial,
                energy_is="mixed",
            )
        total = _added(clusters, expensive, len(frame), None if cheap is None else cheap.forces)
        theirs = None
        if cheap is not None:
            total.energy += cheap.energy
            total.virial = total.virial + cheap.virial
            if cheap.energies is not None:
                theirs = cheap.energies.take(total.atoms)
        return self._finished(frame, region, clusters, total, theirs)

    def correction(
        self,
        frame: Frame,
        region: Region,
        clusters: Sequence[Cluster],
        plain: Result | None,
        expensive: Sequence[Result],
        parts: Parts,
    ) -> Mixed:
        r"""What the mixed energy is beyond the plain cheap one: sum_i lambda_i (e_i - d - c_i)."""
        total = _added(clusters, expensive, len(frame))
        less = _added(parts[0], parts[1], len(frame))
        total.energy -= less.energy
        total.forces -= less.forces
        total.virial = total.virial - less.virial
        mixed = self._finished(frame, region, clusters, total, less.energies)
        return replace(mixed, energy_is="correction")

    def _finished(
        self,
        frame: Frame,
        region: Region,
        clusters: Sequence[Cluster],
        total: _Sum,
        theirs: Scalars | None,
    ) -> Mixed:
        """Align the zeros, and add what comes from a lambda that moves and from dead loads."""
        atoms, forces, virial = total.atoms, total.forces, total.virial
        share = region.expensive.take(atoms)
        zero = self._zeros.take(atoms)
        energy = total.energy - float(share @ zero)
        gap_max = gap_rms = pull_max = None
        jump = 0.0
        if _gaps(region) and len(atoms):
            if total.energies is None or theirs is None:
                raise ValueError("lambda moves or jumps, but an answer has no site energies")
            gap = total.energies - zero - theirs
            gap_max, gap_rms = summary(gap[share < 1.0] ** 2)
            if region.before is not None:
                jump = float((share - region.before.take(atoms)) @ gap)
            if region.pull is not None:
                pulled = region.pull.back(gap)
                forces[pulled.atoms] += pulled.forces
                virial = virial + pulled.virial
                pull_max, _ = summary(np.einsum("ij,ij->i", pulled.forces, pulled.forces))
        if self._loads is not None:
            loaded = self._loads.at(frame)
            energy += loaded.energy
            forces[self._loads.atoms] += loaded.forces
            virial = virial + loaded.virial
        return Mixed(
            energy,
            forces,
            virial,
            "mixed",
            forces.sum(axis=0),
            *sizes(region, clusters, len(frame)),
            gap_max=gap_max,
            gap_rms=gap_rms,
            pull_max=pull_max,
            jump=jump,
        )


def refuse_unable(role: str, reach: Reach, energies: bool) -> None:
    """Refuse a model that cannot be mixed by energies.

    Args:
        role: whose model it is, for the message.
        reach: what the model says of itself.
        energies: whether its site energies will be needed.

    Raises:
        ConfigError: it cannot.
    """
    lacking = "" if reach.weights else "weight site energies"
    if not lacking and energies and not reach.energies:
        lacking = "return site energies, which a lambda that moves or jumps needs"
    if lacking:
        why = f": {reach.no_weights}" if reach.no_weights and not reach.weights else ""
        raise ConfigError(
            f"mixing.kind = 'energy' needs site energies of both models, but the {role} model "
            f"{reach.name!r} cannot {lacking}{why}. Take a model that can (SNAP and pairwise "
            "styles in LAMMPS, MACE), or mixing.kind = 'force'."
        )


def _gaps(region: Region) -> bool:
    """Whether site energies of both models are needed, atom by atom."""
    return region.before is not None or (region.pull is not None and region.blend > 0)


def _involved(region: Region) -> Region:
    """The region of all atoms that have, or had, an expensive site energy."""
    if region.before is None:
        return region
    return Region(np.maximum(region.expensive, region.before), region.seeds)


def _questions(frame: Frame, region: Region, clusters: Sequence[Cluster]) -> tuple[Evaluate, ...]:
    """Questions about clusters, weighted by lambda."""
    asked: list[Evaluate] = []
    for cluster in clusters:
        weight = region.expensive.take(cluster.atoms)
        weight[cluster.sites == 0.0] = 0.0  # a cluster of nearly all atoms holds those of others
        wanted = (weight == 0.0) & (cluster.sites > 0.0)  # whose lambda jumps to 0 has a gap, too
        plain = bool((weight == 1.0).all())
        asked.append(
            about(
                frame,
                cluster,
                None if plain else weight,
                energies=_gaps(region),
                wanted=wanted,
            )
        )
    return tuple(asked)


def _added(
    clusters: Sequence[Cluster],
    results: Sequence[Result],
    count: int,
    forces: Vectors | None = None,
) -> _Sum:
    """Add up answers about clusters of a frame with `count` atoms, on top of some forces."""
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
