"""What mixing makes of the workers' answers, and what it must know of their models, as values."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from mixserver.arrays import Mask, Matrix, Scalars, Vectors
from mixserver.cluster import Cluster, whole_stream
from mixserver.errors import ConfigError
from mixserver.frame import Frame
from mixserver.region.region import Region
from mixserver.wire.worker import Evaluate, ModelCard, Result

EnergyIs: TypeAlias = Literal["cheap", "expensive", "mixed", "correction"]

ROUNDING = 1e-6
"""Å added to exact widths: workers compute distances in their own order, and an atom exactly at
the cutoff of a potential that is not smooth there must not be lost."""


@dataclass(frozen=True, slots=True)
class Reach:
    """How far a model looks, and whether it can be asked for some sites only."""

    receptive_field: float | None
    """Å that a site energy looks; None if unknown."""
    weights: bool = False
    """True if its workers honour site weights."""
    name: str = "expensive"
    """What a person calls the model, for messages only."""
    energies: bool = False
    """True if its workers return site energies."""
    no_weights: str = ""
    """Why its workers do not honour site weights, if they say."""

    @classmethod
    def of(cls, card: ModelCard, stated: float | None = None) -> Reach:
        """What a model's card says; `stated` (Å) where it does not tell its receptive field."""
        field = card.receptive_field if card.receptive_field is not None else stated
        return cls(field, card.weights, card.name, card.energies, card.no_weights)


@dataclass(frozen=True, slots=True)
class Mixed:
    """One answer made of two."""

    energy: float
    """eV. Under force mixing the energy of `energy_is`, which the forces do not conserve."""
    forces: Vectors = field(repr=False)
    """(N, 3) eV/Å."""
    virial: Matrix
    """(3, 3) eV, that of `energy`."""
    energy_is: EnergyIs
    """Whose energy and virial these are: "mixed" is the one to which the forces belong."""
    net_force: Vectors
    """(3,) eV/Å that mixing created, before it was taken away."""
    core: int
    blend: int
    buffer: int
    """Further atoms with expensive site energies."""
    halo: int
    """Further atoms sent along."""
    mismatch_max: float | None = None
    """eV/Å, largest |F_expensive - F_cheap| in the blend. Here and below, None is for what was not
    measured: there is no such atom, or the other kind of mixing measures it."""
    mismatch_rms: float | None = None
    """eV/Å, root mean square of the same."""
    core_mismatch_max: float | None = None
    """eV/Å, largest |F_expensive - F_cheap| in the core: what the expensive model is there for."""
    core_mismatch_rms: float | None = None
    """eV/Å, root mean square of the same."""
    gap_max: float | None = None
    """eV, largest |e_i - d - c_i| in the blend, the size of grad-lambda forces."""
    gap_rms: float | None = None
    """eV, root mean square of the same."""
    pull_max: float | None = None
    """eV/Å, largest grad-lambda force."""
    jump: float = 0.0
    """eV by which an update of lambda changed the energy at these positions."""


class Mixer(Protocol):
    """Knows which questions go to the two models and how the answers become one."""

    @property
    def correction_needs_plain(self) -> bool:
        """Whether `correction` needs the plain cheap answer about everything."""

    def plain(self, frame: Frame, criterion: str = "") -> Evaluate:
        """The question to the cheap model about everything, without weights."""

    def cheap(self, frame: Frame, region: Region, criterion: str = "") -> Evaluate:
        """The question to the cheap model about everything, with the weights of a region."""

    def needs_cheap(self, region: Region) -> bool:
        """False if everything is expensive."""

    def carve(self, frame: Frame, region: Region) -> tuple[Cluster, ...]:
        """Carve what the expensive model must see."""

    def expensive(
        self, frame: Frame, region: Region, clusters: Sequence[Cluster]
    ) -> tuple[Evaluate, ...]:
        """The questions to the expensive model, one per cluster."""

    def parts(
        self, frame: Frame, region: Region
    ) -> tuple[tuple[Cluster, ...], tuple[Evaluate, ...]]:
        """The questions to the cheap model that make a plain answer a weighted one."""

    def mix(
        self,
        frame: Frame,
        region: Region,
        clusters: Sequence[Cluster],
        cheap: Result | None,
        expensive: Sequence[Result],
        parts: Parts | None = None,
    ) -> Mixed:
        """Make one answer of all."""

    def correction(
        self,
        frame: Frame,
        region: Region,
        clusters: Sequence[Cluster],
        plain: Result | None,
        expensive: Sequence[Result],
        parts: Parts,
    ) -> Mixed:
        """What mixed is beyond the plain cheap answer."""


Parts: TypeAlias = tuple[Sequence[Cluster], Sequence[Result]]
"""Clusters asked of the cheap model, and its answers."""


def about_all(
    frame: Frame,
    *,
    weight: Scalars | None = None,
    energies: bool = False,
    wanted: Mask | None = None,
    criterion: str = "",
) -> Evaluate:
    """A question about all atoms of a frame; `wanted` as in `Evaluate`."""
    topology = frame.topology
    return Evaluate(
        job=0,
        stream=whole_stream(frame.bead),
        positions=frame.wrapped,
        numbers=topology.numbers,
        cell=frame.cell,
        pbc=topology.pbc,
        weight=weight,
        energies=energies,
        wanted=_marked(wanted),
        criterion=criterion,
    )


def about(
    frame: Frame,
    cluster: Cluster,
    weight: Scalars | None,
    *,
    energies: bool = False,
    wanted: Mask | None = None,
) -> Evaluate:
    """A question about the atoms of a cluster; `wanted` as in `Evaluate`."""
    topology = frame.topology
    whole = len(cluster.atoms) == len(frame)
    return Evaluate(
        job=0,
        stream=cluster.stream,
        positions=frame.wrapped if whole else frame.wrapped.take(cluster.atoms, axis=0),
        numbers=topology.numbers if whole else topology.numbers.take(cluster.atoms),
        cell=frame.cell,
        pbc=topology.pbc,
        weight=weight,
        energies=energies,
        wanted=_marked(wanted),
    )


def _marked(wanted: Mask | None) -> NDArray[np.int32] | None:
    """Sites as the wire marks them; None if there are none."""
    return wanted.astype(np.int32) if wanted is not None and wanted.any() else None


def summary(squared: Scalars) -> tuple[float, float] | tuple[None, None]:
    """Largest and root mean square of some lengths, given squared; None of none."""
    if not len(squared):
        return None, None
    return math.sqrt(squared.max()), math.sqrt(squared.sum() / len(squared))


def sizes(region: Region, clusters: Sequence[Cluster], count: int) -> tuple[int, int, int, int]:
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


def width(key: str, width: float | None, reach: Reach, allow_thin: bool) -> float:
    """The width to use, in Å; None asks for one receptive field.

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
        return field + ROUNDING
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
