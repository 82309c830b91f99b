"""How well the two models of a case match in the bulk of its structure, and what to do about it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from ase.data import chemical_symbols

from mixserver.build import Parts
from mixserver.checks.findings import Finding, Level
from mixserver.config import Case
from mixserver.crystal.asking import asking
from mixserver.crystal.lattice import refuse_no_bulk
from mixserver.crystal.matching import Match, largest_strain, lattice_name, match
from mixserver.crystal.repeating import Repeating, repeating_cell
from mixserver.errors import ConfigError, MixserverError
from mixserver.frame import Frame
from mixserver.record.structures import read_structure
from mixserver.wire.worker import ModelCard

_MISFIT: Final = 0.002
"""A strain; in silicon, 0.6 GPa in a region that is held by its surroundings."""
_STRAINED: Final = 0.01
"""A strain; more than heat makes of most crystals."""
_LARGEST: Final = 64
"""Atoms of a cell that is relaxed as it is."""
_STIFFNESS: Final = 0.15
_FORCES: Final = 0.15
"""Of the forces themselves: at 300 K a stock potential that was fitted to other data than the
expensive model comes to 0.12 in silicon; one distilled from it to 0.05."""
_CURE: Final = "; distil a cheap potential from the expensive model (mixserver distill)"


async def check_match(case: Case, parts: Parts, cards: Iterable[ModelCard]) -> list[Finding]:
    """Compare both models in the crystal that repeats in the structure, or in `mixing.bulk`.

    Args:
        case: has both models.
        parts: its objects, with workers of both joined.
        cards: of both.
    """
    named = case.config.mixing.bulk
    exact = False
    try:
        if named is not None:
            start, found = await asyncio.to_thread(_given, case.folder / named, cards)
        else:
            repeating = await asyncio.to_thread(repeating_cell, parts.start)
            start, exact, found = repeating.crystal, repeating.exact, _introduce(repeating)
    except ConfigError as error:
        if named is not None:
            return [Finding("error", "bulk", f"mixing.bulk = {named!r}: {error}")]
        words = f"the models were not compared: {error}. Name a bulk cell in mixing.bulk"
        return [Finding("ok", "bulk", words)]
    try:
        both = await match(
            asking(parts.dispatcher, "expensive"), asking(parts.dispatcher, "cheap"), start
        )
    except MixserverError as error:
        words = f"the models were not compared in this cell: {error}"
        return [found, Finding("warning", "bulk match", words)]
    return [found, *told(both, start if exact else None, case.config.mixing.kind)]


def _given(file: Path, cards: Iterable[ModelCard]) -> tuple[Frame, Finding]:
    """The crystal of a file, or the smallest cell that repeats in it.

    Raises:
        ConfigError: it cannot be read, is not bulk, is too large, or has elements that a model
            does not know.
    """
    frame = read_structure(file)[1]
    refuse_no_bulk(frame)
    know(cards, frame)
    words = f"{file.name}: {_counted(len(frame))}, as mixing.bulk says"
    try:
        crystal = repeating_cell(frame).crystal
    except ConfigError as error:
        if len(frame) > _LARGEST:
            raise ConfigError(
                f"{_counted(len(frame))} are too many to relax with both models, and {error}. "
                f"Give a primitive or conventional cell of up to {_LARGEST}"
            ) from error
        return frame, Finding("ok", "bulk", f"{words}, {lattice_name(frame)}")
    words += f"; {_counted(len(crystal))} of them repeat, {lattice_name(crystal)}"
    return crystal, Finding("ok", "bulk", words)


def know(cards: Iterable[ModelCard], frame: Frame) -> None:
    """Refuse elements that a model does not know.

    Raises:
        ConfigError: there are some.
    """
    for card in cards:
        if card.species is None:
            continue
        lacking = sorted(set(frame.topology.numbers.tolist()) - set(card.species))
        if lacking:
            names = ", ".join(chemical_symbols[number] for number in lacking)
            raise ConfigError(f"{card.name} does not know {names}")


def _introduce(repeating: Repeating) -> Finding:
    crystal = repeating.crystal
    words = (
        f"a cell of {_counted(len(crystal))} repeats in the structure, {lattice_name(crystal)}, "
        f"with {100.0 * repeating.share:.1f} % of its atoms"
    )
    return Finding("ok", "bulk", words, repeating.share)


def _counted(atoms: int) -> str:
    return "1 atom" if atoms == 1 else f"{atoms} atoms"


def told(both: Match, structure: Frame | None, kind: str) -> list[Finding]:
    """Findings about a match.

    Args:
        both: what was measured.
        structure: the crystal as the structure has it, where its strain is known.
        kind: of mixing.
    """
    return [_lattice(both, structure), _elastic(both), _forces(both), _energy(both, kind)]


def _lattice(both: Match, structure: Frame | None) -> Finding:
    misfit = both.misfit
    words = (
        f"expensive {both.expensive.lattice}, cheap {both.cheap.lattice}, at rest: the cheap one "
        f"is strained by {_percent(misfit)} against the expensive one"
    )
    if structure is not None:
        apart = [largest_strain(one.frame, structure) for one in (both.expensive, both.cheap)]
        words += (
            f"; the structure's own by {_percent(apart[0])} against the expensive and "
            f"{_percent(apart[1])} against the cheap one"
        )
    level: Level = "ok"
    if structure is not None and abs(apart[0]) > _STRAINED:
        level = "warning"
        words += ". If the structure is not meant to be strained, take the expensive model's cell"
    if abs(misfit) > _MISFIT:
        level = "warning"
        done = "squeezed" if both.pressure > 0.0 else "pulled"
        words += (
            f". A region in a cheap crystal at rest is {done} by {abs(both.pressure):.2g} GPa, and "
            f"so is what is measured in it{_CURE}, which pins the lattice"
        )
    return Finding(level, "bulk lattice", words, misfit)


def _elastic(both: Match) -> Finding:
    listed = ", ".join(
        f"{name} {expensive:.4g} and {cheap:.4g}"
        for name, (expensive, cheap) in both.constants.items()
    )
    words = (
        f"expensive and cheap, GPa: {listed}; the cheap one is stiffer by "
        f"{_percent(both.stiffness)} for the strain for which they differ most"
    )
    level: Level = "ok"
    if abs(both.stiffness) > _STIFFNESS:
        level = "warning"
        words += (
            ". Strain fields bend at the interface, so defects with long-ranged fields feel it"
            f"{_CURE}, which pins the elastic constants"
        )
    return Finding(level, "bulk elastic", words, both.stiffness)


def _forces(both: Match) -> Finding:
    part = both.forces / both.pull
    words = (
        f"at displacements that cost what 300 K cost, forces differ by {both.forces:.3f} eV/Å rms, "
        f"{100.0 * part:.0f} % of themselves"
    )
    level: Level = "ok"
    if part > _FORCES:
        level = "warning"
        words += f". The blend is between two crystals that vibrate differently{_CURE}"
    return Finding(level, "bulk forces", words, both.forces)


def _energy(both: Match, kind: str) -> Finding:
    aligned = "zeros take it away" if kind == "energy" else "mixed forces know nothing of it"
    words = f"expensive less cheap {both.energy:z.4f} eV per atom at rest; {aligned}"
    return Finding("ok", "bulk energy", words, both.energy)


def _percent(part: float) -> str:
    """Signed; what is nothing but noise is 0."""
    percent = 100.0 * part
    return "0 %" if abs(percent) < 5e-4 else f"{percent:+.2g} %"
