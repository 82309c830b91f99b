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

from mixserver.core.arrays import Indices, Scalars, Vectors, mask_of
from mixserver.core.frame import Frame
from mixserver.geometry import DisplacementTracker, VerletList, connected_components
from mixserver.mixing.partition import JobSizes, divide
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


def whole_system_stream(bead: int) -> int:
    """Stream number of the whole system of a bead."""
    return bead * _STREAMS


class Carver:
    """Carves clusters around the core and blend atoms of a region.

    Regions become separate clusters when they are more than two buffers apart (or as told), so that
    no site is evaluated twice; except that one which is too large for a job is split. What is
    remembered between evaluations makes the next one fast and gives the same cluster the same
    stream; it never changes which atoms are carved.

    Args:
        buffer_width: Å (inclusive) around core and blend in which atoms are sites.
        halo_width: Å (inclusive) around sites in which atoms are sent along.
        link_width: Å within which regions become one cluster; None for two buffers.
        sizes: how many core and blend atoms a cluster should have.
        places: (N, 3) fractional coordinates by which too large ones are split; None for those of
            each frame. See `divide`.
    """

    def __init__(
        self,
        buffer_width: float,
        halo_width: float,
        *,
        link_width: float | None = None,
        sizes: JobSizes = JobSizes(),  # noqa: B008 - it cannot be changed
        places: Vectors | None = None,
    ) -> None:
        self._link_width = 2.0 * buffer_width if link_width is None else link_width
        self.buffer_width = buffer_width
        self.halo_width = halo_width
        self._sizes = sizes
        self._places = places
        self._streams = Streams()
        self._trackers: dict[int, DisplacementTracker] = {}
        self._shells: dict[int, dict[int, tuple[VerletList, VerletList]]] = {}

    def carve(self, frame: Frame, region: Region, *, divisible: bool = True) -> tuple[Cluster, ...]:
        """Carve one frame; not `divisible` leaves connected clusters as they are."""
        count, active = len(frame), region.active
        if len(active) > _NEARLY_ALL * count:
            groups = [active]
        else:
            centre = int(region.seeds[0]) if len(region.seeds) else None
            groups = connected_components(frame, active, self._link_width, centre=centre)
        if divisible:
            groups = divide(frame, groups, self._sizes, self._places)
        streams = self._streams.number(frame.bead, groups, count)
        tracker = self._trackers.setdefault(frame.bead, DisplacementTracker())
        tracker.update(frame)
        before = self._shells.get(frame.bead, {})
        shells = self._shells[frame.bead] = {
            stream: before.get(stream)
            or (VerletList(self.buffer_width), VerletList(self.halo_width))
            for stream in streams
        }
        return tuple(
            self._around(frame, tracker, group, stream, *shells[stream])
            for group, stream in zip(groups, streams, strict=True)
        )

    def _around(
        self,
        frame: Frame,
        tracker: DisplacementTracker,
        group: Indices,
        stream: int,
        near: VerletList,
        far: VerletList,
    ) -> Cluster:
        count = len(frame)
        among = mask_of(group, count)
        site = among | near.mask(frame, tracker, group, among)
        sites = site.nonzero()[0]
        if len(sites) <= _NEARLY_ALL * count:
            atoms = (site | far.mask(frame, tracker, sites, site)).nonzero()[0]
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
            return [whole_system_stream(bead) + 1]
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
        return [whole_system_stream(bead) + number for number in slots]
