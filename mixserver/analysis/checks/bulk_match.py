"""The check that compares both models of a case in the bulk crystal of its structure."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from mixserver.analysis.bulk.evaluate import model_evaluator
from mixserver.analysis.bulk.lattice import check_bulk, lattice_name
from mixserver.analysis.bulk.model_comparison import (
    ModelComparison,
    compare_models,
    largest_strain,
)
from mixserver.analysis.bulk.primitive_cell import PrimitiveCell, find_primitive_cell
from mixserver.analysis.checks.findings import Finding, Level
from mixserver.analysis.checks.pressure import check_pressure
from mixserver.config import Case
from mixserver.core.errors import ConfigError, MixserverError
from mixserver.core.frame import Frame
from mixserver.core.labels import unknown_elements
from mixserver.core.structures import read_structure
from mixserver.server.build import Parts
from mixserver.wire.worker import ModelCard

_MISFIT: Final = 0.002
"""A strain; in silicon it puts 0.6 GPa on a region that its surroundings constrain."""
_STRAINED: Final = 0.01
"""A strain; thermal expansion of most crystals is smaller."""
_LARGEST: Final = 64
"""Atoms in a cell that is relaxed without reducing it."""
_STIFFNESS: Final = 0.15
_FORCES: Final = 0.15
"""Of the rms force. In silicon at 300 K, a stock potential that was fitted to other data than the
expensive model reaches 0.12, one distilled from it 0.05."""
_REMEDY: Final = "; distil a cheap potential from the expensive model (mixserver distill)"


async def check_bulk_match(case: Case, parts: Parts, cards: Iterable[ModelCard]) -> list[Finding]:
    """Compare both models in the structure's primitive cell, or in the one in `mixing.bulk`.

    Of the structure's own crystal also the pressure.

    Workers of both roles have joined; the cards are of both models.
    """
    named = case.config.mixing.bulk
    exact = False
    try:
        if named is not None:
            start, found = await asyncio.to_thread(_read_bulk, case.folder / named, cards)
        else:
            primitive = await asyncio.to_thread(find_primitive_cell, parts.start)
            start, exact, found = primitive.crystal, primitive.exact, _describe(primitive)
    except ConfigError as error:
        if named is not None:
            return [Finding("error", "bulk", f"mixing.bulk = {named!r}: {error}")]
        words = f"the models were not compared: {error}. Name a bulk cell in mixing.bulk"
        return [Finding("ok", "bulk", words)]
    expensive = model_evaluator(parts.dispatcher, "expensive")
    cheap = model_evaluator(parts.dispatcher, "cheap")
    try:
        models = await compare_models(expensive, cheap, start)
        findings = comparison_findings(models, start if exact else None, case.config.mixing.kind)
        if exact:
            lattice = models.expensive.lattice
            findings.append(await check_pressure(case, expensive, cheap, start, lattice))
    except MixserverError as error:
        words = f"the models were not compared in this cell: {error}"
        return [found, Finding("warning", "bulk match", words)]
    return [found, *findings]


def _read_bulk(file: Path, cards: Iterable[ModelCard]) -> tuple[Frame, Finding]:
    """Read a crystal from a file and reduce it to its primitive cell if it has one.

    Raises:
        ConfigError: the file cannot be read, holds no bulk crystal or too many atoms, or has
            elements that a model does not know.
    """
    frame = read_structure(file)[1]
    check_bulk(frame)
    for card in cards:
        if unknown := unknown_elements(frame.topology.numbers, card.species):
            raise ConfigError(f"{card.name} does not know {', '.join(unknown)}")
    words = f"{file.name}: {_count_atoms(len(frame))}, from mixing.bulk"
    try:
        crystal = find_primitive_cell(frame).crystal
    except ConfigError as error:
        if len(frame) > _LARGEST:
            raise ConfigError(
                f"{_count_atoms(len(frame))} are too many to relax with both models, and {error}. "
                f"Give a primitive or conventional cell of up to {_LARGEST} atoms"
            ) from error
        return frame, Finding("ok", "bulk", f"{words}, {lattice_name(frame)}")
    words += f"; primitive cell of {_count_atoms(len(crystal))}, {lattice_name(crystal)}"
    return crystal, Finding("ok", "bulk", words)


def _describe(primitive: PrimitiveCell) -> Finding:
    crystal = primitive.crystal
    words = (
        f"a primitive cell of {_count_atoms(len(crystal))}, {lattice_name(crystal)}, "
        f"describes {100.0 * primitive.fraction:.1f} % of the structure's atoms"
    )
    return Finding("ok", "bulk", words, primitive.fraction)


def _count_atoms(atoms: int) -> str:
    return "1 atom" if atoms == 1 else f"{atoms} atoms"


def comparison_findings(
    models: ModelComparison, structure: Frame | None, kind: str
) -> list[Finding]:
    """Findings about the agreement of two models under a kind of mixing.

    `structure` is the crystal with the strain that it has in the structure, if that is known.
    """
    return [_lattice(models, structure), _elastic(models), _forces(models), _energy(models, kind)]


def _lattice(models: ModelComparison, structure: Frame | None) -> Finding:
    expensive, cheap, misfit = models.expensive, models.cheap, models.misfit
    words = (
        f"relaxed, expensive: {expensive.lattice}; cheap: {cheap.lattice}. The cheap crystal is "
        f"strained by {_percent(misfit)} against the expensive one"
    )
    level: Level = "ok"
    if structure is not None:
        strains = [largest_strain(one.frame, structure) for one in (expensive, cheap)]
        words += (
            f"; the structure's own by {_percent(strains[0])} against the expensive and "
            f"{_percent(strains[1])} against the cheap one"
        )
        if abs(strains[0]) > _STRAINED:
            level = "warning"
            words += ". If the structure is not meant to be strained, use the expensive model's "
            words += "lattice constants"
    if abs(misfit) > _MISFIT:
        level = "warning"
        sense = "compressed" if models.pressure > 0.0 else "stretched"
        words += (
            f". A region in a relaxed cheap crystal is {sense} by {abs(models.pressure):.2g} GPa, "
            f"which affects all that is measured in it{_REMEDY}, which reproduces the lattice"
        )
    return Finding(level, "bulk lattice", words, misfit)


def _elastic(models: ModelComparison) -> Finding:
    listed = ", ".join(
        f"{name} {expensive:.4g} and {cheap:.4g}"
        for name, (expensive, cheap) in models.constants.items()
    )
    words = (
        f"expensive and cheap, GPa: {listed}; the cheap one is stiffer by "
        f"{_percent(models.stiffness)} for the strain for which they differ most"
    )
    level: Level = "ok"
    if abs(models.stiffness) > _STIFFNESS:
        level = "warning"
        words += (
            ". The interface distorts strain fields, so defects with long-range fields are "
            f"affected{_REMEDY}, which reproduces the elastic constants"
        )
    return Finding(level, "bulk elastic", words, models.stiffness)


def _forces(models: ModelComparison) -> Finding:
    fraction = models.force_difference / models.force_scale
    words = (
        f"at displacements of the size that 300 K cause, forces differ by "
        f"{models.force_difference:.3f} eV/Å rms, {100.0 * fraction:.0f} % of their own rms"
    )
    level: Level = "ok"
    if fraction > _FORCES:
        level = "warning"
        words += f". The blend joins two crystals that vibrate differently{_REMEDY}"
    return Finding(level, "bulk forces", words, models.force_difference)


def _energy(models: ModelComparison, kind: str) -> Finding:
    effect = (
        "the energy offsets remove it" if kind == "energy" else "force mixing does not depend on it"
    )
    words = f"expensive minus cheap {models.energy:z.4f} eV per atom, both relaxed; {effect}"
    return Finding("ok", "bulk energy", words, models.energy)


def _percent(fraction: float) -> str:
    """Signed, in %; rounding noise is shown as 0."""
    percent = 100.0 * fraction
    return "0 %" if abs(percent) < 5e-4 else f"{percent:+.2g} %"
