"""The jobs of one evaluation, by key: the whole system, and clusters carved from it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mixserver.core.arrays import Mask, Scalars
from mixserver.core.frame import Frame
from mixserver.mixing.clusters import Carver, Cluster, whole_system_stream
from mixserver.region.region import Region
from mixserver.wire.worker import Evaluate, Role


class JobKey(NamedTuple):
    """Which model evaluates what."""

    role: Role
    cluster: int | None = None
    """Counts the clusters of this role; None for the whole system."""


WHOLE: Final = JobKey("cheap")
"""The whole system, by the cheap model."""


@dataclass(frozen=True)
class ClusterJobs:
    """The jobs of one role about clusters, which are carved when they are first asked for."""

    role: Role
    carver: Carver
    frame: Frame
    carved: Region
    """Clusters are carved around its core and blend."""
    job: Callable[[Cluster], Evaluate]
    """Makes the job of one cluster."""
    divisible: bool = True
    """Whether a large cluster may be split."""

    @cached_property
    def clusters(self) -> tuple[Cluster, ...]:
        """One for each job."""
        return self.carver.carve(self.frame, self.carved, divisible=self.divisible)

    @property
    def keys(self) -> list[JobKey]:
        """The keys of the jobs, in the order of the clusters."""
        return [JobKey(self.role, index) for index in range(len(self.clusters))]

    def __iter__(self) -> Iterator[tuple[JobKey, Evaluate]]:
        for index, cluster in enumerate(self.clusters):
            yield JobKey(self.role, index), self.job(cluster)


@dataclass(frozen=True, slots=True)
class Plan:
    """The jobs of one evaluation.

    Iterate over it once and hand each job out at once: the job about the whole system comes first,
    so that it is evaluated while the clusters are carved.
    """

    frame: Frame
    region: Region
    whole: tuple[JobKey, Evaluate] | None
    """None where the whole system is evaluated elsewhere, or not needed."""
    expensive: ClusterJobs | None = None
    cheap: ClusterJobs | None = None
    """What makes the unweighted job about the whole system a weighted one; None if that is weighted
    already."""

    def __iter__(self) -> Iterator[tuple[JobKey, Evaluate]]:
        if self.whole is not None:
            yield self.whole
        for jobs in (self.expensive, self.cheap):
            if jobs is not None:
                yield from jobs

    @property
    def clusters(self) -> tuple[Cluster, ...]:
        """What the expensive model evaluates."""
        return () if self.expensive is None else self.expensive.clusters


def whole_system_job(
    frame: Frame,
    *,
    weight: Scalars | None = None,
    energies: bool = False,
    wanted: Mask | None = None,
    criterion: str = "",
    stream: int | None = None,
) -> Evaluate:
    """A job about all atoms of a frame; `wanted` as in `Evaluate`, `stream` None as in a run."""
    topology = frame.topology
    return Evaluate(
        job=0,
        stream=whole_system_stream(frame.bead) if stream is None else stream,
        positions=frame.wrapped,
        numbers=topology.numbers,
        cell=frame.cell,
        pbc=topology.pbc,
        weight=weight,
        energies=energies,
        wanted=_marked(wanted),
        criterion=criterion,
    )


def cluster_job(
    frame: Frame,
    cluster: Cluster,
    weight: Scalars | None,
    *,
    energies: bool = False,
    wanted: Mask | None = None,
) -> Evaluate:
    """A job about the atoms of a cluster; `wanted` as in `Evaluate`."""
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
