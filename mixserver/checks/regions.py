"""Who would be core, blend, buffer and halo at the structure's own positions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from ase.io import write

from mixserver.arrays import Scalars
from mixserver.build import Parts, build_mixer, build_selector
from mixserver.checks.pool import pool
from mixserver.cluster import Cluster
from mixserver.config import Case, CriterionSeeds
from mixserver.errors import ConfigError
from mixserver.frame import Frame
from mixserver.mixing.mixer import ForceMixer
from mixserver.record.structures import read_structure, with_region
from mixserver.region.region import Region
from mixserver.wire.worker import ModelCard

CORE, BLEND, BUFFER, BULK, HALO = 3, 2, 1, 0, -1


@dataclass(frozen=True)
class Seen:
    """The regions of one frame."""

    frame: Frame
    region: Region
    cluster: tuple[Cluster, ...]
    shell: Scalars
    """(N,) 3 core, 2 blend, 1 buffer, 0 bulk, -1 halo."""

    @property
    def atoms(self) -> int:
        """All of them."""
        return len(self.frame)

    @property
    def seeds(self) -> int:
        """Seed atoms."""
        return len(self.region.seeds)

    @property
    def core(self) -> int:
        """Atoms with lambda = 1."""
        return self.region.core

    @property
    def blend(self) -> int:
        """Atoms with 0 < lambda < 1."""
        return self.region.blend

    @property
    def buffer(self) -> int:
        """Further atoms with expensive site energies."""
        return int(np.count_nonzero(self.shell == BUFFER))

    @property
    def halo(self) -> int:
        """Further atoms sent along."""
        return int(np.count_nonzero(self.shell == HALO))

    @property
    def clusters(self) -> int:
        """Expensive jobs per evaluation."""
        return len(self.cluster)

    def write(self, file: Path) -> None:
        """Write an extxyz with lambda, shell and seed per atom.

        Raises:
            ConfigError: the file cannot be written.
        """
        try:
            write(file, with_region(self.frame, self.region, self.shell), format="extxyz")
        except OSError as error:
            raise ConfigError(f"{file} cannot be written: {error.strerror}") from error


async def look(case: Case, *, receptive_field: float | None = None) -> Seen:
    """Find the regions at the structure's positions, asking local workers only where needed.

    Args:
        case: the case; it must have a region.
        receptive_field: Å, instead of asking the expensive model.

    Raises:
        ConfigError: no region, or nobody to ask.
    """
    region = case.config.region
    if region is None:
        raise ConfigError(f"{case.file} has no [region]")
    fixed = region.buffer_width != "exact" and region.halo_width != "exact"
    if receptive_field is not None or (fixed and region.allow_thin_buffer):
        card = ModelCard(
            engine="",
            name="as stated",
            fingerprint="",
            receptive_field=receptive_field,
            weights=True,
        )
        if not isinstance(region.seeds, CriterionSeeds):
            topology, frame = read_structure(case.structure)
            selector = build_selector(region, topology)
            selector.due(0)
            return seen(frame, selector.select(frame), build_mixer(case.config, card))
    async with pool(case) as parts:
        mixer = build_mixer(case.config, await parts.dispatcher.card("expensive"))
        return await find(case, parts, mixer)


async def find(case: Case, parts: Parts, mixer: ForceMixer) -> Seen:
    """The same with workers at hand."""
    if case.config.region is None:
        raise ConfigError(f"{case.file} has no [region]")
    selector = build_selector(case.config.region, parts.topology)
    due = selector.due(0)
    if due.choose:
        question = mixer.cheap(parts.start, due.criterion)
        (answer,) = await parts.dispatcher.run([("cheap", question)])
        if answer.result.values is not None:
            selector.observe(0, answer.result.values)
    return seen(parts.start, selector.select(parts.start), mixer)


def seen(frame: Frame, region: Region, mixer: ForceMixer) -> Seen:
    """Carve a frame and name every atom's shell."""
    clusters = mixer.carve(frame, region)
    return Seen(frame, region, clusters, shells(frame, region, clusters))


def shells(frame: Frame, region: Region, clusters: Sequence[Cluster]) -> Scalars:
    """(N,) 3 core, 2 blend, 1 buffer, 0 bulk, -1 halo."""
    shell = np.full(len(frame), float(BULK))
    for cluster in clusters:
        shell[cluster.atoms[shell[cluster.atoms] == BULK]] = HALO
    for cluster in clusters:
        shell[cluster.atoms[cluster.sites > 0.0]] = BUFFER
    shell[region.active] = BLEND
    shell[region.expensive == 1.0] = CORE
    return shell
