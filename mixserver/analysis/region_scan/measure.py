"""Measures a scan: the all-expensive answer once, then every pair of radii.

Positions are displaced at random: forces of a perfect crystal vanish, and would hide all errors.
Energy offsets are determined once, at the case's own radii; dead loads at every point.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec
import numpy as np

from mixserver.analysis.case_workers import case_workers
from mixserver.analysis.checks.ghost_forces import region_function
from mixserver.analysis.region_preview import RegionPreview, preview_parts, required_setup
from mixserver.analysis.region_scan.grid import Radii, with_radii
from mixserver.analysis.region_scan.results import Errors, Scan, ScanPoint
from mixserver.analysis.timed_evaluation import timed_evaluation
from mixserver.config import Case, Config
from mixserver.core.arrays import Mask, Vectors
from mixserver.core.errors import ConfigError, Implausible, MixserverError
from mixserver.core.frame import Frame
from mixserver.mixing.clusters import Cluster
from mixserver.mixing.jobs import whole_system_job
from mixserver.mixing.mixer import Mixer
from mixserver.region.region import Region
from mixserver.server.energy_reference import ENERGY_REFERENCE
from mixserver.server.mixers import ModelPair
from mixserver.server.mixing_setup import MixingSetup
from mixserver.server.regions import build_region_model
from mixserver.wire.worker import Role

_SEED: Final = 7
REPEATS: Final = 3
"""Timed evaluations of a point; the median counts."""


@dataclass(frozen=True)
class _Point:
    """A point with its region at the structure."""

    radii: Radii
    setup: MixingSetup
    region: Region


@dataclass(frozen=True)
class _Groups:
    """The atoms (N,) over which errors are averaged; see `Errors`."""

    seeds: Mask
    inner: Mask
    outer: Mask

    def errors(self, forces: Vectors, exact: Vectors) -> Errors:
        """Errors of forces (N, 3) eV/Å."""
        squared = ((forces - exact) ** 2).sum(axis=1)

        def rms(some: Mask) -> float | None:
            return float(np.sqrt(squared[some].mean())) if some.any() else None

        everywhere = float(np.sqrt(squared.mean()))
        return Errors(rms(self.seeds), rms(self.inner), rms(self.outer), everywhere)


async def measure_scan(
    setup: MixingSetup,
    folder: Path,
    grid: Sequence[Radii],
    *,
    displacement: float,
    on_progress: Callable[[int], object] = lambda done: None,
) -> Scan:
    """Measure all pairs of radii against the expensive model for all atoms.

    Args:
        setup: of the case, whose workers have joined.
        folder: the case's, where `mixserver align` may have written energy offsets.
        grid: the pairs.
        displacement: Å, standard deviation of the random displacements; 0 for none.
        on_progress: called with the number of pairs that were measured.

    Raises:
        ConfigError: the models cannot be mixed; or the expensive one cannot evaluate all atoms.
        EvaluationError: a worker failed.
    """
    dispatcher, start = setup.dispatcher, setup.start
    reaches = await setup.reaches()
    config = await _with_offsets(setup, reaches, folder)
    points = [await _point(setup, config, radii) for radii in grid]
    groups = _groups(points, len(start))
    frames = [_displaced(start, displacement, _SEED + at) for at in range(REPEATS)]
    own = await _point(setup, config, Radii(setup.table.core_radius, setup.table.blend_width))
    warm = await _mixer(own.setup, reaches)
    await timed_evaluation(dispatcher, warm, frames[-1], own.region)
    exact, expensive_s = await _alone(setup, "expensive", frames[0])
    cheap, cheap_s = await _alone(setup, "cheap", frames[0])
    found = []
    on_progress(0)
    for done, point in enumerate(points, start=1):
        found.append(await _measure(point, reaches, frames, groups, exact))
        on_progress(done)
    return Scan(
        atoms=len(start),
        kind=config.mixing.kind,
        displacement=displacement,
        case=(setup.table.core_radius, setup.table.blend_width),
        expensive_ms=1e3 * expensive_s,
        cheap_ms=1e3 * cheap_s,
        cheap_errors=groups.errors(cheap, exact),
        points=tuple(found),
    )


async def scan_case(
    case: Case,
    grid: Sequence[Radii],
    *,
    displacement: float,
    on_preview: Callable[[RegionPreview], object],
    on_progress: Callable[[int], object],
) -> Scan:
    """Start the case's local workers, and measure a scan; see `measure_scan`.

    `on_preview` gets the regions of the case itself, as soon as they are known.

    Raises:
        ConfigError: as `measure_scan`; there is no region, or no worker for a model.
        MixserverError: a worker could not start, or failed.
    """
    async with case_workers(case) as parts:
        on_preview(await preview_parts(parts))
        return await measure_scan(
            required_setup(parts),
            case.folder,
            grid,
            displacement=displacement,
            on_progress=on_progress,
        )


async def _with_offsets(setup: MixingSetup, reaches: ModelPair, folder: Path) -> Config:
    """The settings with energy offsets as numbers, and with dead loads at the structure."""
    config, mixing = setup.config, setup.config.mixing
    if mixing.kind == "force":
        return config
    if mixing.dead_loads == "relaxed":  # to relax at each point would take hours
        mixing = msgspec.structs.replace(mixing, dead_loads="structure")
    state = await setup.state(reaches, None, folder / ENERGY_REFERENCE)
    zeros = {symbol: zero.value for symbol, zero in state.zeros.items()}
    return msgspec.structs.replace(config, mixing=msgspec.structs.replace(mixing, zeros=zeros))


async def _point(setup: MixingSetup, config: Config, radii: Radii) -> _Point:
    some, start = with_radii(config, radii), setup.start
    one = MixingSetup(some, start, lambda: build_region_model(some, start), setup.dispatcher)
    return _Point(radii, one, await one.region())


async def _mixer(setup: MixingSetup, reaches: ModelPair) -> Mixer:
    if setup.config.mixing.kind == "force":
        return setup.force_mixer(reaches)
    return setup.energy_mixer(reaches, await setup.determine(reaches))


def _groups(points: Sequence[_Point], atoms: int) -> _Groups:
    seeds, inner, outer = np.zeros(atoms, bool), np.ones(atoms, bool), np.zeros(atoms, bool)
    for point in points:
        seeds[point.region.seeds] = True
        inner &= point.region.lambda_ == 1.0
        outer |= point.region.lambda_ > 0.0
    return _Groups(seeds, inner, outer)


def _displaced(start: Frame, displacement: float, seed: int) -> Frame:
    rng = np.random.default_rng(seed)
    moved = start.positions + rng.normal(scale=displacement, size=start.positions.shape)
    return start.topology.frame(moved, start.cell)


async def _alone(setup: MixingSetup, role: Role, frame: Frame) -> tuple[Vectors, float]:
    """Forces (N, 3) eV/Å on all atoms by one model alone, and its seconds.

    Raises:
        ConfigError: it cannot evaluate so many atoms.
    """
    try:
        (reply,) = await setup.dispatcher.run([(role, whole_system_job(frame))])
    except MixserverError as error:
        raise ConfigError(
            f"the {role} model could not evaluate all {len(frame)} atoms, against which a scan "
            f"compares: {error}. Scan a smaller cell with the same defect: errors near it are the "
            "same"
        ) from error
    return reply.result.forces, reply.took_s


async def _measure(
    point: _Point,
    reaches: ModelPair,
    frames: Sequence[Frame],
    groups: _Groups,
    exact: Vectors,
) -> ScanPoint:
    """Time and errors of one pair of radii; errors at the first frame."""
    region, radii = point.region, point.radii
    divide = region_function(point.setup, region)
    clusters: tuple[Cluster, ...] = ()
    cheap, expensive, longest, forces = [], [], [], []
    problem = ""
    try:
        mixer = await _mixer(point.setup, reaches)
        clusters = mixer.plan(point.setup.start, region).clusters
        for frame in frames:
            found, times = await timed_evaluation(
                point.setup.dispatcher, mixer, frame, divide(frame)
            )
            cheap.append(times.cheap)
            expensive.append(times.expensive)
            longest.append(times.longest)
            forces.append(found.forces)
    except (ConfigError, Implausible) as error:  # of these radii; the others may do
        problem = str(error)
    measured = len(forces) == len(frames)
    return ScanPoint(
        core_radius=radii.core,
        blend_width=radii.blend,
        core=region.core,
        blend=region.blend,
        sent=sum(len(cluster.atoms) for cluster in clusters),
        ms_cheap=1e3 * statistics.median(cheap) if measured else None,
        ms_expensive=1e3 * statistics.median(expensive) if measured else None,
        ms=1e3 * statistics.median(longest) if measured else None,
        errors=groups.errors(forces[0], exact) if measured else None,
        problem=problem,
    )
