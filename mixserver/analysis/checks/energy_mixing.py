"""Checks of energy mixing: energy offsets, gradient of the mixed energy, halo, ghost forces."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from mixserver.analysis.checks.findings import Finding, Level
from mixserver.analysis.checks.finite_differences import TWO_MODELS, check_differences, of_mixed
from mixserver.analysis.checks.ghost_advice import check_ghost_forces
from mixserver.analysis.checks.ghost_forces import region_function
from mixserver.analysis.checks.shell_widths import check_halo
from mixserver.analysis.region_preview import RegionPreview
from mixserver.core.errors import MixserverError
from mixserver.core.frame import Frame
from mixserver.mixing.energy_reference import EnergyReference
from mixserver.server.energy_reference import ENERGY_REFERENCE
from mixserver.server.mixers import ModelPair
from mixserver.server.mixing_setup import MixingSetup

_SPREAD: Final = 2.0
"""eV; a larger spread of e - c among similar atoms is suspicious."""


async def check_energy(
    setup: MixingSetup,
    reaches: ModelPair,
    seen: RegionPreview,
    start: Frame,
    *,
    folder: Path,
    dtype: str,
    figure: Path | None,
) -> list[Finding]:
    """All checks of a mixed energy, at the structure and with random displacements (`start`).

    In `folder`, the case's, `mixserver align` may have written its state; `dtype` is the lower
    precision of both models, `figure` a PNG to draw ghost forces into.
    """
    try:
        state = await setup.state(reaches, None, folder / ENERGY_REFERENCE)
        mixer = setup.energy_mixer(reaches, state)
    except MixserverError as error:
        return [Finding("error", "mixed energy", str(error))]
    found = _offsets(state)
    if not len(seen.region.active):
        return found
    at = of_mixed(setup.dispatcher, mixer, start, region_function(setup, seen.region))
    found += await check_differences(
        "the mixed energy", at, start.positions, start.cell, dtype=dtype, causes=TWO_MODELS
    )
    try:
        found += await check_halo(setup, reaches, state, seen, start)
        found += await check_ghost_forces(setup, reaches, state, seen.region, start, figure)
    except MixserverError as error:
        found.append(Finding("warning", "ghost forces", f"not measured: {error}"))
    return found


def _offsets(state: EnergyReference) -> list[Finding]:
    found = []
    for symbol, offset in state.zeros.items():
        words = f"{symbol}: expensive site energies are {offset.value:z.6f} eV above the cheap ones"
        if not offset.atoms:
            words += ", as given in mixing.zeros"
        elif offset.bulk:
            words += f", {offset.spread:.2g} eV spread among {offset.atoms} atoms in and near "
            words += "the blend"
        else:
            words += f" among its {offset.atoms} atoms, all of them core"
        level: Level = "ok"
        if offset.spread > _SPREAD:
            level = "warning"
            words += "; atoms of one kind differ by far less where both models are valid"
        found.append(Finding(level, "zero", words, offset.value))
    return found
