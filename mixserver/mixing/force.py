"""Force mixing: forces blended as plain functions of arrays, and the mixer that asks for them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal, NamedTuple, TypeAlias

import numpy as np

from mixserver.arrays import Indices, Scalars, Vectors
from mixserver.cluster import Carver, Cluster, gather
from mixserver.errors import ConfigError
from mixserver.frame import Frame
from mixserver.mixing.mixer import Mixed, Parts, Reach, about, about_all, sizes, summary, width
from mixserver.region.region import Region
from mixserver.wire.worker import Evaluate, Result

ZeroNet: TypeAlias = Literal["blended", "all", "off"]


def blend(
    cheap: Vectors, expensive: Vectors, weight: Scalars, *, zero_net: ZeroNet = "blended"
) -> Vectors:
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

    The result is not the gradient of any energy. Where lambda is 0 everywhere, nothing is mixed and
    the cheap forces come back as they are.

    Args:
        cheap: (N, 3) eV/Å.
        expensive: (N, 3) eV/Å; rows of atoms with weight 0 are ignored and may be NaN.
        weight: (N,) expensive fraction lambda, in [0, 1].
        zero_net: over which atoms the net force is taken away, so that momentum is conserved.

    Returns:
        (N, 3) eV/Å.

    References:
        N. Bernstein, J. R. Kermode, G. Csányi, Rep. Prog. Phys. 72, 026501 (2009).
    """
    seen = np.flatnonzero(weight > 0.0)
    return blend_rows(cheap, seen, expensive[seen], weight[seen], zero_net=zero_net).forces


class Blended(NamedTuple):
    """Blended forces, and what came up on the way."""

    forces: Vectors
    """(N, 3) eV/Å."""
    net_force: Vectors
    """(3,) eV/Å; see `net_force`."""
    mismatch: Vectors
    """(n, 3) eV/Å, F_expensive - F_cheap of the atoms that are not all cheap."""


def blend_rows(
    cheap: Vectors,
    atoms: Indices,
    expensive: Vectors,
    weight: Scalars,
    *,
    zero_net: ZeroNet = "blended",
) -> Blended:
    """Do what `blend` does, given expensive forces where they matter only.

    Args:
        cheap: (N, 3) eV/Å.
        atoms: (n,) those with a weight above 0.
        expensive: (n, 3) eV/Å, theirs.
        weight: (n,) theirs.
        zero_net: see `blend`.
    """
    mixed = cheap.copy()
    before = cheap.take(atoms, axis=0)
    mismatch = expensive - before
    net: Vectors = weight @ mismatch
    if len(atoms):
        share = weight.repeat(3).reshape(-1, 3)
        rows = share * expensive + (1.0 - share) * before
        if zero_net == "blended":
            rows -= share * (net / weight.sum())
        mixed[atoms] = rows
        if zero_net == "all":
            mixed -= mixed.mean(axis=0)
    return Blended(mixed, net, mismatch)


def net_force(cheap: Vectors, expensive: Vectors, weight: Scalars) -> Vectors:
    r"""Net force that blending creates: :math:`\sum_i \lambda_i (F_i^e - F_i^c)`, (3,) eV/Å."""
    seen = np.flatnonzero(weight > 0.0)
    return blend_rows(cheap, seen, expensive[seen], weight[seen]).net_force


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
            width("buffer_width", buffer_width, reach, allow_thin),
            width("halo_width", halo_width, reach, allow_thin),
        )
        self._weights = reach.weights
        self._zero_net = zero_net

    @property
    def correction_needs_plain(self) -> bool:
        """Yes: it is a difference of forces."""
        return True

    @property
    def buffer_width(self) -> float:
        """Å, as used."""
        return self._carver.buffer_width

    @property
    def halo_width(self) -> float:
        """Å, as used."""
        return self._carver.halo_width

    def plain(self, frame: Frame, criterion: str = "") -> Evaluate:
        """The question to the cheap model: everything, and a criterion's values if named."""
        return about_all(frame, criterion=criterion)

    def cheap(self, frame: Frame, region: Region, criterion: str = "") -> Evaluate:
        """The same: forces are blended here, not there."""
        return about_all(frame, criterion=criterion)

    def needs_cheap(self, region: Region) -> bool:
        """False if everything is expensive."""
        return region.core < len(region.expensive)

    def carve(self, frame: Frame, region: Region) -> tuple[Cluster, ...]:
        """Carve what the expensive model must see; see `Carver`."""
        return self._carver.carve(frame, region)

    def expensive(
        self, frame: Frame, region: Region, clusters: Sequence[Cluster]
    ) -> tuple[Evaluate, ...]:
        """The questions to the expensive model, one per cluster.

        A worker without site weights gets the same atoms, and evaluates the halo's energies too;
        that costs time but changes no force that is used.
        """
        weighted = self._weights
        return tuple(
            about(frame, cluster, cluster.sites if weighted and cluster.halo > 0 else None)
            for cluster in clusters
        )

    def parts(self, frame: Frame, region: Region) -> tuple[tuple[()], tuple[()]]:
        """None: the plain cheap answer is all it takes."""
        return (), ()

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
            cheap: the cheap model's answer; may be missing only if `needs_cheap` is False.
            expensive: one answer per cluster, in their order.
            parts: not needed.

        Raises:
            ValueError: an answer is missing.
        """
        count = len(frame)
        counts = sizes(region, clusters, count)
        if not self.needs_cheap(region):
            (only,) = expensive
            return Mixed(only.energy, only.forces, only.virial, "expensive", np.zeros(3), *counts)
        if cheap is None:
            raise ValueError("part of the system is cheap, but the cheap model did not answer")
        if not clusters:
            return Mixed(cheap.energy, cheap.forces, cheap.virial, "cheap", np.zeros(3), *counts)
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
            *counts,
            *summary(mismatch[~core]),
            *summary(mismatch[core]),
        )

    def correction(
        self,
        frame: Frame,
        region: Region,
        clusters: Sequence[Cluster],
        plain: Result | None,
        expensive: Sequence[Result],
        parts: Parts,
    ) -> Mixed:
        """What mixed forces are beyond the plain cheap ones; no energy belongs to them.

        Raises:
            ValueError: an answer is missing.
        """
        if plain is None:
            raise ValueError("a correction of forces needs the plain cheap answer")
        mixed = self.mix(frame, region, clusters, plain, expensive)
        return replace(
            mixed,
            energy=mixed.energy - plain.energy,
            forces=mixed.forces - plain.forces,
            virial=mixed.virial - plain.virial,
            energy_is="correction",
        )
