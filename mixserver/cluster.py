"""Carving a frame into the clusters that expensive workers evaluate, and scattering back.

A cluster is a subset of the atoms in the same periodic cell: nothing is unwrapped or re-ordered.
Its *sites* (core, blend, buffer) have their energies evaluated; its *halo* only completes the
sites' surroundings. Knows no models: how wide buffer and halo must be is the mixer's business.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from mixserver.arrays import Indices, Mask, Scalars, Vectors
from mixserver.frame import Frame
from mixserver.geometry import Drift, Nearby, connected
from mixserver.region.region import Region

_NEARLY_ALL: Final = 0.9
"""A cluster that needs more than this fraction of the atoms gets all of them, in their order: it
costs little, and neighbour lists of the whole system are simpler."""
_STREAMS: Final = 1 << 16
"""Stream numbers per bead; the first is the whole system's."""


@dataclass(frozen=True, slots=True)
class Cluster:
    """Atoms carved for one expensive job."""

    atoms: Indices
    """(n,) atoms that are sent, ascending."""
    sites: Scalars
    """(n,) site weight of each: 1 on core, blend and buffer, 0 on the halo."""
    keep: Indices
    """(k,) rows of `atoms` whose forces are used: its core and blend. Every core or blend atom
    belongs to exactly one cluster."""
    stream: int
    """The same number for the same cluster, evaluation after evaluation. A hint only."""

    @property
    def halo(self) -> int:
        """How many of its atoms are halo."""
        return len(self.atoms) - int(np.count_nonzero(self.sites))


def whole_stream(bead: int) -> int:
    """Stream number of the whole system of a bead."""
    return bead * _STREAMS


class Carver:
    """Carves clusters around the core and blend atoms of a region.

    Regions become separate clusters when they are more than two buffers apart (or as told), so that
    no site is evaluated twice. What is remembered between evaluations makes the next one fast and
    gives the same cluster the same stream; it never changes which atoms are carved.

    Args:
        buffer_width: Å (inclusive) around core and blend in which atoms are sites.
        halo_width: Å (inclusive) around sites in which atoms are sent along.
        link_width: Å within which regions become one cluster; None for two buffers.
    """

    def __init__(
        self, buffer_width: float, halo_width: float, *, link_width: float | None = None
    ) -> None:
        self._link_width = 2.0 * buffer_width if link_width is None else link_width
        self.buffer_width = buffer_width
        self.halo_width = halo_width
        self._streams = Streams()
        self._drifts: dict[int, Drift] = {}
        self._shells: dict[int, dict[int, tuple[Nearby, Nearby]]] = {}

    def carve(self, frame: Frame, region: Region) -> tuple[Cluster, ...]:
        """Carve one frame."""
        count, active = len(frame), region.active
        if len(active) > _NEARLY_ALL * count:
            groups = [active]
        else:
            hub = int(region.seeds[0]) if len(region.seeds) else None
            groups = connected(frame, active, self._link_width, hub=hub)
        streams = self._streams.number(frame.bead, groups, count)
        drift = self._drifts.setdefault(frame.bead, Drift())
        drift.follow(frame)
        before = self._shells.get(frame.bead, {})
        shells = self._shells[frame.bead] = {
            stream: before.get(stream) or (Nearby(self.buffer_width), Nearby(self.halo_width))
            for stream in streams
        }
        return tuple(
            self._around(frame, drift, group, stream, *shells[stream])
            for group, stream in zip(groups, streams, strict=True)
        )

    def _around(
        self,
        frame: Frame,
        drift: Drift,
        group: Indices,
        stream: int,
        near: Nearby,
        far: Nearby,
    ) -> Cluster:
        count = len(frame)
        among: Mask = np.zeros(count, dtype=np.bool_)
        among[group] = True
        site = among | near.mask(frame, drift, group, among)
        sites = np.flatnonzero(site)
        if len(sites) <= _NEARLY_ALL * count:
            atoms = np.flatnonzero(site | far.mask(frame, drift, sites, site))
            if len(atoms) <= _NEARLY_ALL * count:
                keep = atoms.searchsorted(group)
                return Cluster(atoms, site.take(atoms).astype(np.float64), keep, stream)
        atoms, keep = np.arange(count), group
        return Cluster(atoms, site[atoms].astype(np.float64), keep, stream)


def gather(clusters: Sequence[Cluster], forces: Sequence[Vectors]) -> tuple[Indices, Vectors]:
    """Pick the forces that are used.

    Args:
        clusters: as carved.
        forces: for each, (n, 3) eV/Å.

    Returns:
        The core and blend atoms of all clusters, ascending, and their forces.
    """
    atoms = [cluster.atoms.take(cluster.keep) for cluster in clusters]
    kept = [f.take(c.keep, axis=0) for c, f in zip(clusters, forces, strict=True)]
    if len(clusters) == 1:
        return atoms[0], kept[0]
    if not clusters:
        return np.empty(0, dtype=np.intp), np.empty((0, 3))
    together = np.concatenate(atoms)
    order = together.argsort()
    return together[order], np.concatenate(kept)[order]


def scatter(clusters: Sequence[Cluster], forces: Sequence[Vectors], count: int) -> Vectors:
    """Put the forces that are used back in the order of the frame.

    Args:
        clusters: as carved.
        forces: for each, (n, 3) eV/Å.
        count: N, atoms of the frame.

    Returns:
        (N, 3) eV/Å, 0 outside core and blend.
    """
    scattered = np.zeros((count, 3))
    atoms, kept = gather(clusters, forces)
    scattered[atoms] = kept
    return scattered


@dataclass(slots=True)
class Streams:
    """Gives a cluster the number it had at the bead's last evaluation.

    So workers can keep its neighbour list. Clusters are told by the core and blend atoms they
    share with the old ones.
    """

    _last: dict[int, list[tuple[int, Indices]]] = field(default_factory=dict)

    def number(self, bead: int, groups: Sequence[Indices], count: int) -> list[int]:
        """Number the groups of core and blend atoms of a bead with `count` atoms."""
        if len(groups) == 1 and [number for number, _ in self._last.get(bead, ())] == [1]:
            self._last[bead] = [(1, groups[0])]  # the old one, or the first free number
            return [whole_stream(bead) + 1]
        slot = np.zeros(count, dtype=np.intp)
        for number, atoms in self._last.get(bead, ()):
            slot[atoms] = number
        slots: list[int] = []
        for group in groups:
            votes = np.bincount(slot[group])
            votes[0] = 0
            best = int(votes.argmax()) if len(votes) and votes.any() else 0
            slots.append(best if best not in slots else 0)
        taken = set(slots)
        free = (number for number in range(1, _STREAMS) if number not in taken)
        slots = [number or next(free) for number in slots]
        self._last[bead] = list(zip(slots, groups, strict=True))
        return [whole_stream(bead) + number for number in slots]
