"""Findings about the ghost forces of a case: their size, their effects, and what to do."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

import msgspec
import numpy as np

from mixserver.analysis.checks.findings import Finding, Level
from mixserver.analysis.checks.finite_differences import SHAKE
from mixserver.analysis.checks.ghost_forces import (
    NEGLIGIBLE,
    GhostForces,
    ghost_strain,
    measure_ghost_forces,
    region_function,
)
from mixserver.analysis.ghost_plot import Points, draw_ghost_forces
from mixserver.core.frame import Frame
from mixserver.geometry import nearest_distances
from mixserver.mixing.energy_reference import EnergyReference
from mixserver.region.region import Region
from mixserver.server.mixers import ModelPair
from mixserver.server.mixing_setup import MixingSetup
from mixserver.server.regions import build_region_model

_LARGE: Final = 2.0
"""eV/Å of ghost force, or eV of e - d - c; two models of one material seldom reach it."""
_YIELD_STRAIN: Final = 0.05
"""A strain at which crystals yield."""
_MOVE: Final = 0.1
"""Å, the displacement for which an energy scale is reported."""
_MOVED: Final = f"atoms moved by {SHAKE} Å"
_BEYOND: Final = 6.0
"""Å beyond the blend that the figure shows."""


async def check_ghost_forces(
    setup: MixingSetup,
    reaches: ModelPair,
    state: EnergyReference,
    region: Region,
    start: Frame,
    figure: Path | None,
) -> list[Finding]:
    """Measure the ghost forces of the user's own models, region and structure.

    `start` is the structure with random displacements, `figure` a PNG to draw into.

    Raises:
        MixserverError: they could not be measured.
    """
    divide = region_function(setup, region)
    bare = await measure_ghost_forces(setup, reaches, state, setup.start, region)
    moved = await measure_ghost_forces(setup, reaches, state, start, divide(start))
    loads = state.dead_loads
    shown = {"energy mixing": bare}
    if loads is None:
        shown |= {_MOVED: moved}
        found = [_size(setup, bare)]
        if found[0].level != "ok":
            found += await _with_wider_blend(setup, reaches, state, bare)
        found += await _strain(setup, bare)
        found.append(_energy_scale(bare))
    else:
        still, loaded = bare.with_dead_loads(loads), moved.with_dead_loads(loads)
        shown |= {"with dead loads": still, f"with them, {_MOVED}": loaded}
        found = [
            _size(setup, still, bare),
            _away_from_reference(moved, loaded),
            _energy_scale(loaded),
        ]
    if setup.moves:
        found.append(_offset_spread(setup, state, moved))
    if figure is not None:
        _draw(setup, region, shown, figure)
        found.append(Finding("ok", "picture", f"ghost forces along the radius: {figure}"))
    return found


def _size(setup: MixingSetup, ghost: GhostForces, bare: GhostForces | None = None) -> Finding:
    """The remaining ghost forces; `bare` are those without dead loads, if there are dead loads."""
    words = f"largest {ghost.largest:.2g}, rms in the blend {ghost.rms:.2g} eV/Å"
    if bare is not None:
        words = f"with dead loads {words}; without {bare.largest:.3f} and {bare.rms:.3f}"
    level: Level = "ok" if ghost.largest <= NEGLIGIBLE else "warning"
    remedy = ""
    most = ghost if bare is None else bare
    if most.largest > setup.config.limits.dead_load:
        level = "error"
        remedy = (
            f": more than {setup.config.limits.dead_load:g} eV/Å (limits.dead_load), so the "
            "models do not describe one material at this structure, or its unit is wrong"
        )
    elif bare is not None and bare.largest > _LARGE:
        level = "warning"
        remedy = (
            ": dead loads hide how differently the models divide the energy; they cancel ghost "
            "forces at the structure alone, so examine both models there"
        )
    elif level == "warning" and setup.moves:
        remedy = ": widen region.blend_width, or use models that divide the energy in similar ways"
    elif level == "warning":
        remedy = ': set mixing.dead_loads = "structure", best at a relaxed structure'
    words = f"{words}{remedy}; --figure FILE draws them"
    return Finding(level, "ghost forces", words, ghost.largest)


def _away_from_reference(moved: GhostForces, loaded: GhostForces) -> Finding:
    words = (
        f"{_MOVED} along each axis, ghost forces in the blend are rms {loaded.rms:.2g} eV/Å with "
        f"them, {moved.rms:.2g} without"
    )
    return Finding(_level(loaded.rms, _LARGE), "dead loads", words, loaded.rms)


async def _with_wider_blend(
    setup: MixingSetup, reaches: ModelPair, state: EnergyReference, bare: GhostForces
) -> list[Finding]:
    """Ghost forces with a blend twice as wide."""
    width = setup.table.blend_width
    twice = 2.0 * width if width else 4.0
    table = msgspec.structs.replace(setup.table, blend_width=twice)
    config = msgspec.structs.replace(setup.config, region=table)
    start = setup.start
    wide = MixingSetup(config, start, lambda: build_region_model(config, start), setup.dispatcher)
    region = await wide.region()
    if len(region.active) == len(start):
        words = f"blend_width = {twice:g} Å would fill the cell, so it was not tried"
        return [Finding("ok", "wider blend", words)]
    other = await measure_ghost_forces(wide, reaches, state, start, region)
    rows = (
        f"blend_width = {size:g} Å: largest {seen.largest:.3f}, rms {seen.rms:.3f} eV/Å, "
        f"{len(seen.region.active)} atoms in core and blend"
        for size, seen in ((width, bare), (twice, other))
    )
    return [Finding("ok", "wider blend", "; ".join(rows), other.largest)]


async def _strain(setup: MixingSetup, ghost: GhostForces) -> list[Finding]:
    stretch = await ghost_strain(setup, ghost)
    if stretch is None:
        return []
    words = (
        f"the ghost forces on core and blend are equivalent to a strain of {100 * stretch:+.3f} %; "
        "the surrounding crystal constrains them, so the actual strain is smaller"
    )
    return [Finding(_level(abs(stretch), _YIELD_STRAIN), "ghost strain", words, stretch)]


def _energy_scale(ghost: GhostForces) -> Finding:
    energy = 1e3 * _MOVE * ghost.largest
    words = (
        f"ghost forces change the energy of a blend atom that moves by {_MOVE} Å by up to "
        f"{energy:.1f} meV: barriers in the blend have errors of that size, barriers deep in the "
        "core smaller ones"
    )
    return Finding("ok", "ghost energy", words, energy)


def _offset_spread(setup: MixingSetup, state: EnergyReference, moved: GhostForces) -> Finding:
    """The deviation of e - d - c from zero in the blend, which drives changes of lambda."""
    if setup.table.follow:
        mixed = moved.mixed.diagnostics
        if mixed.gap_rms is None or mixed.pull_max is None:
            words = "the blend is empty, so there are no grad-lambda forces"
            return Finding("ok", "e - d - c", words)
        words = (
            f"{_MOVED}, rms {mixed.gap_rms:.2g}, at most {mixed.gap_max:.2g} eV in the blend: "
            f"this causes grad-lambda forces of up to {mixed.pull_max:.2g} eV/Å there"
        )
        return Finding(_level(mixed.gap_rms, _LARGE), "e - d - c", words, mixed.gap_rms)
    spread = max((zero.spread for zero in state.zeros.values()), default=0.0)
    words = (
        f"spread {spread:.2g} eV: about the work (extras) that each atom adds when an update makes "
        "it expensive or cheap; region.hysteresis distributes it over several evaluations"
    )
    return Finding(_level(spread, _LARGE), "e - d - c", words, spread)


def _level(value: float, bound: float) -> Level:
    """Ok up to a bound that two models of one material seldom exceed."""
    return "ok" if value <= bound else "warning"


def _draw(
    setup: MixingSetup, region: Region, shown: Mapping[str, GhostForces], figure: Path
) -> None:
    """Draw ghost forces against the distance from the origin of the shells."""
    table = setup.table
    by_seed = len(region.seeds) > 0 and table.measure_from == "seed"
    sources = region.seeds
    if not by_seed:  # shapes fixed in space have no seed atoms, but core atoms
        sources = np.flatnonzero(region.lambda_ == region.lambda_.max(initial=0.0))
    core = table.core_radius if by_seed else 0.0
    blend = core + table.blend_width
    series = {}
    for label, seen in shown.items():
        distance = nearest_distances(seen.frame, sources, blend + _BEYOND)
        near = np.isfinite(distance)
        series[label] = Points(distance[near], seen.sizes[near])
    source = "seed" if by_seed else "core atom"
    draw_ghost_forces(figure, series, core=core, blend=blend, source=source)
