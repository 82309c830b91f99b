"""Who would be core, blend, buffer and halo at the structure's own positions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from ase.io import write

from mixserver.arrays import Scalars
from mixserver.build import Parts
from mixserver.checks.pool import pool
from mixserver.cluster import Cluster
from mixserver.config import Case, CriterionSeeds
from mixserver.errors import ConfigError
from mixserver.frame import Frame
from mixserver.mixing.mixer import Mixer, Reach
from mixserver.prepare import Preparation, carving_mixer
from mixserver.record.structures import with_region
from mixserver.reference import read_reference
from mixserver.region.region import Region
from mixserver.selectors import build_selector

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
    by_energy = case.config.mixing.kind == "energy"
    fixed = region.halo_width != "exact" and (by_energy or region.buffer_width != "exact")
    if receptive_field is not None or (fixed and region.allow_thin_buffer):
        reach = Reach(receptive_field, weights=True, name="as stated", energies=True)
        if not isinstance(region.seeds, CriterionSeeds):
            _, frame = read_reference(case)
            selector = build_selector(case.config, frame)
            mixer = carving_mixer(case.config, frame, reach)
            return seen(frame, selector.select(frame), mixer)
    async with pool(case) as parts:
        preparation = prepared(parts)
        reaches = await preparation.reaches()
        mixer = carving_mixer(case.config, parts.start, reaches.expensive)
        return seen(parts.start, await preparation.region(), mixer)


def prepared(parts: Parts) -> Preparation:
    """The preparation of a case with a region.

    Raises:
        ConfigError: it has none.
    """
    if parts.preparation is None:
        raise ConfigError("there is no [region], so no atom is expensive")
    return parts.preparation


def seen(frame: Frame, region: Region, mixer: Mixer) -> Seen:
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
