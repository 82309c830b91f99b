"""Preview of a case's regions: core, blend, buffer and halo at the positions of its structure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np
from ase.io import write

from mixserver.analysis.case_workers import case_workers
from mixserver.analysis.criterion_values import CriterionValues, criterion_values
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
_MOST: Final = 0.5
"""Share of the atoms in core and blend beyond which mixing can save little."""


@dataclass(frozen=True)
class RegionPreview:
    """The regions of one frame."""

    frame: Frame
    region: Region
    clusters: tuple[Cluster, ...]
    """One for each expensive job of an evaluation."""
    shell: Scalars
    """(N,) 3 core, 2 blend, 1 buffer, 0 bulk, -1 halo."""
    criterion: CriterionValues | None = None
    """What the criterion of the seeds says of every atom; None if there is none."""

    def counts(self) -> dict[str, int]:
        """The number of atoms in core, blend, buffer, halo and bulk; they add up to all."""
        names = {"core": CORE, "blend": BLEND, "buffer": BUFFER, "halo": HALO, "bulk": BULK}
        return {name: int(np.count_nonzero(self.shell == shell)) for name, shell in names.items()}

    def __str__(self) -> str:
        """The numbers of atoms in each shell."""
        count = self.counts()
        return (
            f"seeds {len(self.region.seeds)}, core {count['core']}, blend {count['blend']}, "
            f"buffer {count['buffer']}, halo {count['halo']}, bulk {count['bulk']} of "
            f"{len(self.frame)} atoms; clusters: {len(self.clusters)}"
        )

    def warnings(self) -> list[str]:
        """What is probably not meant: no seeds, or a region of most of the atoms; with the cure."""
        atoms, active = len(self.frame), len(self.region.active)
        if not active:
            return [f"no atom is expensive at the start: {self._why_empty()}"]
        found = []
        if active > _MOST * atoms:
            found.append(
                f"core and blend are {100.0 * active / atoms:.0f} % of all atoms, so mixing can "
                "save little: take smaller radii (`mixserver region CASE --scan` shows what they "
                "cost in accuracy), fewer seeds, or a larger cell"
            )
        if sum(len(cluster.atoms) for cluster in self.clusters) >= atoms:
            found.append(
                "the clusters with their surroundings hold the whole cell; a larger cell costs the "
                "expensive model no more"
            )
        return found

    def _why_empty(self) -> str:
        if self.criterion is None:
            return "check region.seeds"
        seeds, values = self.criterion.seeds, self.criterion.values[self.criterion.eligible]
        if not len(values):
            return f"{seeds.compute} has no value for any atom that may be a seed"
        bounds = " and ".join(f"{name} = {b:g}" for name, b in self.criterion.bounds.items())
        return (
            f"the values of {seeds.compute} go from {values.min():.4g} to {values.max():.4g}, and "
            f"none fits {bounds or 'them'}; change region.seeds.low or high, or name "
            "region.seeds.initial"
        )

    def write(self, file: Path) -> None:
        """Write an extxyz with lambda, shell, seed and the criterion's value per atom.

        Raises:
            ConfigError: the file cannot be written.
        """
        atoms = with_region(self.frame, self.region, self.shell)
        if self.criterion is not None:
            atoms.set_array("criterion", self.criterion.values)
        try:
            write(file, atoms, format="extxyz")
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
        return await preview_parts(parts)


async def preview_parts(parts: Parts) -> RegionPreview:
    """Find the regions at the structure's positions; workers of both roles have joined.

    Raises:
        ConfigError: there is no region, or buffers or halo are too thin.
        EvaluationError: the criterion could not be evaluated.
    """
    setup = required_setup(parts)
    reaches = await setup.reaches()
    mixer = carving_mixer(parts.config, parts.start, reaches.expensive)
    seen = carve_preview(parts.start, await setup.region(), mixer)
    return replace(seen, criterion=await criterion_values(setup))


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
