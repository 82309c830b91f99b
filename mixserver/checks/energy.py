"""Checks of energy mixing: zeros, the mixed energy's own gradient, the halo, ghost forces."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from mixserver.checks.differences import TWO_MODELS, check_differences, of_mixed
from mixserver.checks.findings import Finding, Level
from mixserver.checks.ghost_words import check_ghosts
from mixserver.checks.ghosts import divider
from mixserver.checks.regions import Seen
from mixserver.checks.widths import check_halo
from mixserver.errors import MixserverError
from mixserver.frame import Frame
from mixserver.mixing.state import State
from mixserver.prepare import STATE, Preparation, Reaches

_SPREAD: Final = 2.0
"""eV of e - c among atoms that should be alike."""


async def check_energy(
    preparation: Preparation,
    reaches: Reaches,
    seen: Seen,
    start: Frame,
    *,
    folder: Path,
    dtype: str,
    figure: Path | None,
) -> list[Finding]:
    """Everything that is asked about a mixed energy.

    Args:
        preparation: the case.
        reaches: of its models.
        seen: the regions of its structure.
        start: the structure, shaken.
        folder: of the case, where `mixserver align` may have written its state.
        dtype: the lower precision of both models.
        figure: PNG to draw ghost forces into; None for none.
    """
    try:
        state = await preparation.state(reaches, None, folder / STATE)
        mixer = preparation.energy_mixer(reaches, state)
    except MixserverError as error:
        return [Finding("error", "mixed energy", str(error))]
    found = _zeros(state)
    if not len(seen.region.active):
        return found
    at = of_mixed(preparation.dispatcher, mixer, start, divider(preparation, seen.region))
    found += await check_differences(
        "the mixed energy", at, start.positions, start.cell, dtype=dtype, behind=TWO_MODELS
    )
    try:
        found += await check_halo(preparation, reaches, state, seen, start)
        found += await check_ghosts(preparation, reaches, state, seen.region, start, figure)
    except MixserverError as error:
        found.append(Finding("warning", "ghost forces", f"not measured: {error}"))
    return found


def _zeros(state: State) -> list[Finding]:
    found = []
    for symbol, zero in state.zeros.items():
        words = f"{symbol}: expensive site energies lie {zero.value:z.6f} eV above the cheap ones"
        if not zero.atoms:
            words += ", as given in mixing.zeros"
        elif zero.bulk:
            words += f", {zero.spread:.2g} eV more or less among {zero.atoms} atoms in and near "
            words += "the blend"
        else:
            words += f" among its {zero.atoms} atoms, all of them core"
        level: Level = "ok"
        if zero.spread > _SPREAD:
            level = "warning"
            words += "; atoms of one kind differ by far less where both models are at home"
        found.append(Finding(level, "zero", words, zero.value))
    return found
