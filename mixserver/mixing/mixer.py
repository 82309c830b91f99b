"""Force mixing: which questions go to the two models, and how the answers become one."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, Literal

import numpy as np

from mixserver.arrays import Matrix, Scalars, Vectors
from mixserver.cluster import Carver, Cluster, gather, whole_stream
from mixserver.errors import ConfigError
from mixserver.frame import Frame
from mixserver.mixing.force import ZeroNet, blend_rows
from mixserver.region.region import Region
from mixserver.wire.worker import Evaluate, Result

_ROUNDING: Final = 1e-6
"""Å added to exact widths: workers compute distances in their own order, and an atom exactly at
the cutoff of a potential that is not smooth there must not be lost."""


@dataclass(frozen=True, slots=True)
class Reach:
    """How far the expensive model looks, and whether it can be asked for some sites only."""

    receptive_field: float | None
    """Å that a site energy looks; None if unknown."""
    weights: bool = False
    """True if its workers honour site weights."""
    name: str = "expensive"
    """What a person calls the model, for messages only."""


@dataclass(frozen=True, slots=True)
class Mixed:
    """One answer made of two."""

    energy: float
    """eV. The energy of `energy_is` for the whole system; not conserved by the mixed forces."""
    forces: Vectors = field(repr=False)
    """(N, 3) eV/Å."""
    virial: Matrix
    """(3, 3) eV, of `energy_is` too; not that of the mixed forces."""
    energy_is: Literal["cheap", "expensive"]
    """Whose energy and virial these are: "expensive" only where everything is."""
    net_force: Vectors
    """(3,) eV/Å that mixing created, before it was taken away."""
    core: int
    blend: int
    buffer: int
    """Further atoms with expensive site energies."""
    halo: int
    """Further atoms sent along."""
    mismatch_max: float = 0.0
    """eV/Å, largest |F_expensive - F_cheap| in the blend; 0 if there is none."""
    mismatch_rms: float = 0.0
    """eV/Å, root mean square of the same."""
    core_mismatch_max: float = 0.0
    """eV/Å, largest |F_expensive - F_cheap| in the core: what the expensive model is there for."""
    core_mismatch_rms: float = 0.0
    """eV/Å, root mean square of the same."""


class ForceMixer:
    """Asks both models and blends their forces.

    A force depends on the site energies within one receptive field, and these on the atoms within
    another. So buffer and halo are exact if each is as wide as the receptive field.

    Args:
        reach: of the expensive model.
        buffer_width: Å; None for exact.
        halo_width: Å; None for exact.
        allow_thin: accept widths that are thinner than exact.
        zero_net: over which atoms the net force of mixing is taken away.

    Raises:
        ConfigError: a width is too thin and that was not allowed, or exact and nobody knows what
            that is.
    """

    def __init__(
        self,
        *,
        reach: Reach,
        buffer_width: float | None = None,
        halo_width: float | None = None,
        allow_thin: bool = False,
        zero_net: ZeroNet = "blended",
    ) -> None:
        if zero_net not in ("blended", "all", "off"):
            raise ConfigError(f'mixing.zero_net is "blended", "all" or "off", not {zero_net!r}')
        self._carver = Carver(
            _width("buffer_width", buffer_width, reach, allow_thin),
            _width("halo_width", halo_width, reach, allow_thin),
        )
        self._weights = reach.weights
        self._zero_net = zero_net

    @property
    def buffer_width(self) -> float:
        """Å, as used."""
        return self._carver.buffer_width

    @property
    def halo_width(self) -> float:
        """Å, as used."""
        return self._carver.halo_width

    def cheap(self, frame: Frame, criterion: str = "") -> Evaluate:
        """The question to the cheap model: everything, and a criterion's values if named."""
        topology = frame.topology
        return Evaluate(
            job=0,
            stream=whole_stream(frame.bead),
            positions=frame.wrapped,
            numbers=topology.numbers,
            cell=frame.cell,
            pbc=topology.pbc,
            criterion=criterion,
        )

    def needs_cheap(self, region: Region) -> bool:
        """False if everything is expensive."""
        return region.core < len(region.expensive)

    def carve(self, frame: Frame, region: Region) -> tuple[Cluster, ...]:
        """Carve what the expensive model must see; see `Carver`."""
        return self._carver.carve(frame, region)

    def expensive(self, frame: Frame, clusters: Sequence[Cluster]) -> tuple[Evaluate, ...]:
        """The questions to the expensive model, one per cluster.

        A worker without site weights gets the same atoms, and evaluates the halo's energies too;
        that costs time but changes no force that is used.
        """
        return tuple(self._question(frame, cluster) for cluster in clusters)

    def _question(self, frame: Frame, cluster: Cluster) -> Evaluate:
        topology = frame.topology
        whole = len(cluster.atoms) == len(frame)
        weighted = self._weights and cluster.halo > 0
        return Evaluate(
            job=0,
            stream=cluster.stream,
            positions=frame.wrapped if whole else frame.wrapped.take(cluster.atoms, axis=0),
            numbers=topology.numbers if whole else topology.numbers.take(cluster.atoms),
            cell=frame.cell,
            pbc=topology.pbc,
            weight=cluster.sites if weighted else None,
        )

    def mix(
        self,
        frame: Frame,
        region: Region,
        clusters: Sequence[Cluster],
        cheap: Result | None,
        expensive: Sequence[Result],
    ) -> Mixed:
        """Make one answer of all.

        Args:
            frame: what was asked about.
            region: its division.
            clusters: as carved from both.
            cheap: the cheap model's answer; may be missing only if `needs_cheap` is False.
            expensive: one answer per cluster, in their order.

        Raises:
            ValueError: an answer is missing.
        """
        count = len(frame)
        sizes = _sizes(region, clusters, count)
        if not self.needs_cheap(region):
            (only,) = expensive
            return Mixed(only.energy, only.forces, only.virial, "expensive", np.zeros(3), *sizes)
        if cheap is None:
            raise ValueError("part of the system is cheap, but the cheap model did not answer")
        if not clusters:
            return Mixed(cheap.energy, cheap.forces, cheap.virial, "cheap", np.zeros(3), *sizes)
        atoms, theirs = gather(clusters, [result.forces for result in expensive])
        weight = region.expensive.take(atoms)
        blended = blend_rows(cheap.forces, atoms, theirs, weight, zero_net=self._zero_net)
        mismatch = np.einsum("ij,ij->i", blended.mismatch, blended.mismatch)
        core = weight == 1.0
        return Mixed(
            cheap.energy,
            blended.forces,
            cheap.virial,
            "cheap",
            blended.net_force,
            *sizes,
            *_summary(mismatch[~core]),
            *_summary(mismatch[core]),
        )


def _summary(squared: Scalars) -> tuple[float, float]:
    """Largest and root mean square of some lengths, given squared."""
    if not len(squared):
        return 0.0, 0.0
    return math.sqrt(squared.max()), math.sqrt(squared.sum() / len(squared))


def _sizes(region: Region, clusters: Sequence[Cluster], count: int) -> tuple[int, int, int, int]:
    """How many atoms are core, blend, buffer and halo; an atom in two halos counts once."""
    if len(clusters) == 1:
        sent = len(clusters[0].atoms)
        sites = sent - clusters[0].halo
    else:
        seen = np.zeros(count, dtype=np.int8)
        for cluster in clusters:
            seen[cluster.atoms] |= 1 + (cluster.sites > 0.0)
        sent, sites = int(np.count_nonzero(seen)), int(np.count_nonzero(seen & 2))
    active = len(region.active)
    return region.core, region.blend, sites - active, sent - sites


def _width(key: str, width: float | None, reach: Reach, allow_thin: bool) -> float:
    """The width to use, in Å.

    Raises:
        ConfigError: it is too thin or unknown.
    """
    field = reach.receptive_field
    known = field is not None and math.isfinite(field)
    if width is None:
        if field is None or not known:
            raise ConfigError(
                f'region.{key} = "exact" needs the receptive field of model {reach.name!r}, which '
                "it does not tell. State it as models.expensive.receptive_field (Å), or give "
                f"region.{key} in Å."
            )
        return field + _ROUNDING
    if not (math.isfinite(width) and width >= 0.0):
        raise ConfigError(f"region.{key} must be 0 Å or more, got {width}")
    if field is not None and known and width < field and not allow_thin:
        raise ConfigError(
            f"region.{key} = {width} Å is thinner than the receptive field of model "
            f"{reach.name!r} ({field} Å), so forces would depend on where the cluster was cut. Set "
            f'it to "exact" or to {field} or more, or say region.allow_thin_buffer = true if you '
            "have measured the error (mixserver check does)."
        )
    return width
