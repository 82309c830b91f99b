"""Preview of a case's regions: core, blend, buffer and halo at the positions of its structure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from ase.io import write

from mixserver.analysis.case_workers import case_workers
from mixserver.config import Case, CriterionSeeds
from mixserver.core.arrays import Scalars
from mixserver.core.errors import ConfigError
from mixserver.core.frame import Frame
from mixserver.mixing.clusters import Cluster
from mixserver.mixing.mixer import Mixer
from mixserver.mixing.model_capabilities import ModelCapabilities
from mixserver.region.region import Region
from mixserver.server.build import Parts
from mixserver.server.mixers import carving_mixer
from mixserver.server.mixing_setup import MixingSetup
from mixserver.server.records.region_frames import with_region
from mixserver.server.reference.structure import read_reference
from mixserver.server.regions import build_region_model

CORE, BLEND, BUFFER, BULK, HALO = 3, 2, 1, 0, -1


@dataclass(frozen=True)
class RegionPreview:
    """The regions of one frame."""

    frame: Frame
    region: Region
    clusters: tuple[Cluster, ...]
    """One for each expensive job of an evaluation."""
    shell: Scalars
    """(N,) 3 core, 2 blend, 1 buffer, 0 bulk, -1 halo."""

    def __str__(self) -> str:
        """The numbers of atoms in each shell."""
        buffer, halo = (int(np.count_nonzero(self.shell == shell)) for shell in (BUFFER, HALO))
        region = self.region
        return (
            f"seeds {len(region.seeds)}, core {region.core}, blend {region.blend}, "
            f"buffer {buffer}, halo {halo} of {len(self.frame)} atoms; "
            f"clusters: {len(self.clusters)}"
        )

    def write(self, file: Path) -> None:
        """Write an extxyz with lambda, shell and seed per atom.

        Raises:
            ConfigError: the file cannot be written.
        """
        try:
            write(file, with_region(self.frame, self.region, self.shell), format="extxyz")
        except OSError as error:
            raise ConfigError(f"{file} cannot be written: {error.strerror}") from error


async def preview_region(case: Case, *, receptive_field: float | None = None) -> RegionPreview:
    """Find the regions at the structure's positions; starts local workers only if needed.

    A receptive field (Å) takes the place of the expensive model's own.

    Raises:
        ConfigError: there is no region, or no worker for a model that is needed.
    """
    region = case.config.region
    if region is None:
        raise ConfigError(f"{case.file} has no [region]")
    by_energy = case.config.mixing.kind == "energy"
    fixed = region.halo_width != "exact" and (by_energy or region.buffer_width != "exact")
    if receptive_field is not None or (fixed and region.allow_thin_buffer):
        reach = ModelCapabilities(receptive_field, weights=True, name="as stated", energies=True)
        if not isinstance(region.seeds, CriterionSeeds):
            _, frame = read_reference(case)
            region_model = build_region_model(case.config, frame)
            mixer = carving_mixer(case.config, frame, reach)
            return carve_preview(frame, region_model.evaluation(frame).region(), mixer)
    async with case_workers(case) as parts:
        setup = required_setup(parts)
        reaches = await setup.reaches()
        mixer = carving_mixer(case.config, parts.start, reaches.expensive)
        return carve_preview(parts.start, await setup.region(), mixer)


def required_setup(parts: Parts) -> MixingSetup:
    """The setup of a case with a region.

    Raises:
        ConfigError: it has no region.
    """
    if parts.setup is None:
        raise ConfigError("there is no [region], so no atom is expensive")
    return parts.setup


def carve_preview(frame: Frame, region: Region, mixer: Mixer) -> RegionPreview:
    """Carve a frame and assign every atom to a shell."""
    clusters = mixer.plan(frame, region).clusters
    return RegionPreview(frame, region, clusters, shells(frame, region, clusters))


def shells(frame: Frame, region: Region, clusters: Sequence[Cluster]) -> Scalars:
    """The shell (N,) of each atom: 3 core, 2 blend, 1 buffer, 0 bulk, -1 halo."""
    shell = np.full(len(frame), float(BULK))
    for cluster in clusters:
        shell[cluster.atoms[shell[cluster.atoms] == BULK]] = HALO
    for cluster in clusters:
        shell[cluster.atoms[cluster.sites > 0.0]] = BUFFER
    shell[region.active] = BLEND
    shell[region.lambda_ == 1.0] = CORE
    return shell
