"""What ghost forces mean for the user's own case, and what to do about them, in words."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

import msgspec
import numpy as np

from mixserver.checks.differences import SHAKE
from mixserver.checks.findings import Finding, Level
from mixserver.checks.ghosts import Ghosts, divider, ghosts, strain
from mixserver.frame import Frame
from mixserver.geometry import nearest
from mixserver.mixing.state import State
from mixserver.prepare import Preparation, Reaches
from mixserver.record.ghost_plot import Points, draw_ghosts
from mixserver.region.region import Region
from mixserver.selectors import build_selector

_SMALL: Final = 2e-2
"""eV/Å of ghost force that few will mind."""
_LARGE: Final = 2.0
"""eV/Å of ghost force, or eV of e - d - c, that two models of one material hardly come to."""
_STRETCHED: Final = 0.05
"""A strain at which crystals yield."""
_MOVE: Final = 0.1
"""Å, a move of an atom of the blend, for a scale of energies."""
_MOVED: Final = f"atoms moved by {SHAKE} Å"
_BEYOND: Final = 6.0
"""Å beyond the blend that are drawn."""


async def check_ghosts(
    preparation: Preparation,
    reaches: Reaches,
    state: State,
    region: Region,
    start: Frame,
    figure: Path | None,
) -> list[Finding]:
    """Measure the ghost forces of the user's own models, region and structure.

    Args:
        preparation: the case.
        reaches: of its models.
        state: zeros and dead loads.
        region: of the structure.
        start: the structure, shaken.
        figure: PNG to draw them into; None for none.

    Raises:
        MixserverError: they could not be measured.
    """
    divide = divider(preparation, region)
    bare = await ghosts(preparation, reaches, state, preparation.start, region)
    moved = await ghosts(preparation, reaches, state, start, divide(start))
    loads = state.dead_loads
    shown = {"energy mixing": bare}
    if loads is None:
        shown |= {_MOVED: moved}
        found = [_judged(preparation, bare)]
        if found[0].level != "ok":
            found += await _wider(preparation, reaches, state, bare)
        found += await _stretched(preparation, bare)
        found.append(_scale(bare))
    else:
        still, loaded = bare.loaded(loads), moved.loaded(loads)
        shown |= {"with dead loads": still, f"with them, {_MOVED}": loaded}
        found = [_judged(preparation, still, bare), _elsewhere(moved, loaded), _scale(loaded)]
    if preparation.moves:
        found.append(_spread(preparation, state, moved))
    if figure is not None:
        _draw(preparation, region, shown, figure)
        found.append(Finding("ok", "picture", f"ghost forces along the radius: {figure}"))
    return found


def _judged(preparation: Preparation, felt: Ghosts, bare: Ghosts | None = None) -> Finding:
    """The ghost forces that are felt; `bare` are those without dead loads, if there are any."""
    words = f"largest {felt.largest:.2g}, rms in the blend {felt.rms:.2g} eV/Å"
    if bare is not None:
        words = f"with dead loads {words}; without {bare.largest:.3f} and {bare.rms:.3f}"
    level: Level = "ok" if felt.largest < _SMALL else "warning"
    cure = ""
    most = felt if bare is None else bare
    if most.largest > preparation.config.limits.dead_load:
        level = "error"
        cure = (
            f": more than {preparation.config.limits.dead_load:g} eV/Å (limits.dead_load), so the "
            "models do not describe one material at this structure, or its unit is wrong"
        )
    elif bare is not None and bare.largest > _LARGE:
        level = "warning"
        cure = (
            ": dead loads hide how differently the models divide the energy; they are right at "
            "the structure alone, so look at both models there"
        )
    elif level == "warning" and preparation.moves:
        cure = ": widen region.blend_width, or take models that divide the energy alike"
    elif level == "warning":
        cure = ': set mixing.dead_loads = "structure", best at a relaxed structure'
    words = f"{words}{cure}; --figure FILE draws them"
    return Finding(level, "ghost forces", words, felt.largest)


def _elsewhere(moved: Ghosts, loaded: Ghosts) -> Finding:
    words = (
        f"{_MOVED} along each axis, ghost forces in the blend are rms {loaded.rms:.2g} eV/Å with "
        f"them, {moved.rms:.2g} without"
    )
    return Finding(_sane(loaded.rms, _LARGE), "dead loads", words, loaded.rms)


async def _wider(
    preparation: Preparation, reaches: Reaches, state: State, bare: Ghosts
) -> list[Finding]:
    """The same with a blend twice as wide."""
    width = preparation.table.blend_width
    twice = 2.0 * width if width else 4.0
    table = msgspec.structs.replace(preparation.table, blend_width=twice)
    config = msgspec.structs.replace(preparation.config, region=table)
    start = preparation.start
    wide = Preparation(config, start, lambda: build_selector(config, start), preparation.dispatcher)
    region = await wide.region()
    if len(region.active) == len(start):
        words = f"blend_width = {twice:g} Å would fill the cell, so it was not tried"
        return [Finding("ok", "wider blend", words)]
    other = await ghosts(wide, reaches, state, start, region)
    rows = (
        f"blend_width = {size:g} Å: largest {seen.largest:.3f}, rms {seen.rms:.3f} eV/Å, "
        f"{len(seen.region.active)} atoms in core and blend"
        for size, seen in ((width, bare), (twice, other))
    )
    return [Finding("ok", "wider blend", "; ".join(rows), other.largest)]


async def _stretched(preparation: Preparation, felt: Ghosts) -> list[Finding]:
    stretch = await strain(preparation, felt)
    if stretch is None:
        return []
    verb = "stretch" if stretch > 0.0 else "press"
    words = (
        f"ghost forces {verb} core and blend as a strain of {100 * abs(stretch):.3f} % would; held "
        "by their surroundings they give way less"
    )
    return [Finding(_sane(abs(stretch), _STRETCHED), "ghost strain", words, stretch)]


def _scale(felt: Ghosts) -> Finding:
    energy = 1e3 * _MOVE * felt.largest
    return Finding(
        "ok",
        "ghost energy",
        f"an atom of the blend that moves by {_MOVE} Å gains or loses up to {energy:.1f} meV by "
        "ghost forces: barriers in the blend are off by as much, those deep in the core by as much "
        "less as the blend moves less",
        energy,
    )


def _spread(preparation: Preparation, state: State, moved: Ghosts) -> Finding:
    """How far e - d - c is from zero in the blend, which is what a moving lambda does."""
    if preparation.table.follow:
        mixed = moved.mixed
        if mixed.gap_rms is None or mixed.pull_max is None:
            return Finding("ok", "e - d - c", "the blend is empty, so lambda makes no forces")
        words = (
            f"{_MOVED}, rms {mixed.gap_rms:.2g}, at most {mixed.gap_max:.2g} eV in the blend: that "
            f"makes grad-lambda forces of up to {mixed.pull_max:.2g} eV/Å there"
        )
        return Finding(_sane(mixed.gap_rms, _LARGE), "e - d - c", words, mixed.gap_rms)
    spread = max((zero.spread for zero in state.zeros.values()), default=0.0)
    words = (
        f"{spread:.2g} eV more or less: about as much each atom adds to the work (extras) when "
        "an update makes it expensive or cheap; region.hysteresis spreads it over evaluations"
    )
    return Finding(_sane(spread, _LARGE), "e - d - c", words, spread)


def _sane(value: float, bound: float) -> Level:
    """A value is reported as "ok" up to a bound that two models of one material keep."""
    return "ok" if value <= bound else "warning"


def _draw(
    preparation: Preparation, region: Region, shown: Mapping[str, Ghosts], figure: Path
) -> None:
    """Draw ghost forces against the distance to what the blend is measured from."""
    table = preparation.table
    by_seed = len(region.seeds) > 0 and table.measure_from == "seed"
    sources = region.seeds
    if not by_seed:  # a body fixed in space has no atoms; its core has
        sources = np.flatnonzero(region.expensive == region.expensive.max(initial=0.0))
    core = table.core_radius if by_seed else 0.0
    blend = core + table.blend_width
    series = {}
    for label, seen in shown.items():
        distance = nearest(seen.frame, sources, blend + _BEYOND)
        near = np.isfinite(distance)
        series[label] = Points(distance[near], seen.sizes[near])
    source = "seed" if by_seed else "core atom"
    draw_ghosts(figure, series, core=core, blend=blend, source=source)
