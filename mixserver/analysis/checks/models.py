"""Checks that evaluate the models: elements, regions, finite differences, shells, cost."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from mixserver.analysis.checks.bulk_match import check_bulk_match
from mixserver.analysis.checks.cost import check_cost
from mixserver.analysis.checks.criterion_cost import check_criterion_cost
from mixserver.analysis.checks.energy_mixing import check_energy
from mixserver.analysis.checks.findings import Finding
from mixserver.analysis.checks.finite_differences import check_differences, of_model, shaken
from mixserver.analysis.checks.shell_widths import check_buffer
from mixserver.analysis.region_preview import RegionPreview, preview_parts, required_setup
from mixserver.config import Case, CriterionSeeds
from mixserver.config import Region as RegionTable
from mixserver.core.errors import MixserverError
from mixserver.core.labels import element_symbols, unknown_elements
from mixserver.mixing.jobs import whole_system_job
from mixserver.server.build import Parts
from mixserver.server.mixers import carving_mixer
from mixserver.wire.worker import Evaluate, ModelCard, Role


async def check_models(case: Case, parts: Parts, figure: Path | None = None) -> list[Finding]:
    """All checks that need workers, which have joined; ghost forces are drawn into a PNG."""
    models = case.config.models
    roles: list[Role] = [] if models.cheap is None else ["cheap"]
    if models.expensive is not None:
        roles.append("expensive")
    cards = {role: await parts.dispatcher.card(role) for role in roles}
    found = [finding for role in cards for finding in _describe(role, cards[role], parts)]
    if _errors(found):
        return found  # nothing can be evaluated
    if case.config.region is None:
        (role, card), *_ = cards.items()
        return found + await _single(parts, role, card, whole_system_job(shaken(parts.start)))
    found += await _check_mixing(case, case.config.region, parts, cards, figure)
    if _errors(found):
        return found
    # last: a model may fail for crystals that are not part of the run
    return found + await check_bulk_match(case, parts, cards.values())


async def _check_mixing(
    case: Case,
    table: RegionTable,
    parts: Parts,
    cards: Mapping[Role, ModelCard],
    figure: Path | None,
) -> list[Finding]:
    """Region, forces of both models, mixed energy or buffer, and cost."""
    config, start = case.config, shaken(parts.start)
    try:
        setup = required_setup(parts)
        reaches = await setup.reaches()
        mixer = carving_mixer(config, parts.start, reaches.expensive)
        seen = await preview_parts(parts)
    except MixserverError as error:
        return [Finding("error", "region", str(error))]
    found = _region(seen)
    found += await _single(parts, "cheap", cards["cheap"], whole_system_job(start))
    jobs = [job for key, job in mixer.plan(start, seen.region) if key.role == "expensive"]
    if jobs:
        found += await _single(parts, "expensive", cards["expensive"], jobs[0])
    if config.mixing.kind == "energy":
        exact = all(card.dtype == "float64" for card in cards.values())
        dtype = "float64" if exact else "float32"
        found += await check_energy(
            setup, reaches, seen, start, folder=case.folder, dtype=dtype, figure=figure
        )
    else:
        if jobs:
            found += await check_buffer(
                table, parts.dispatcher, reaches.expensive, mixer, seen, start
            )
        if figure is not None:
            words = "force mixing has no ghost forces, so none were drawn"
            found.append(Finding("warning", "picture", words))
    if _errors(found):
        return found
    found += await check_cost(parts, mixer, seen)
    if isinstance(table.seeds, CriterionSeeds):
        found += await check_criterion_cost(parts.dispatcher, table.seeds, parts.start)
    return found


def _errors(findings: Iterable[Finding]) -> bool:
    return any(finding.level == "error" for finding in findings)


async def _single(parts: Parts, role: Role, card: ModelCard, job: Evaluate) -> list[Finding]:
    """One model's forces and virial against its own energy."""
    at = of_model(parts.dispatcher, role, job)
    return await check_differences(role, at, job.positions, job.cell, dtype=card.dtype)


def _describe(role: Role, card: ModelCard, parts: Parts) -> list[Finding]:
    reach = (
        f"receptive field {card.receptive_field:.3g} Å"
        if card.receptive_field
        else "receptive field unknown"
    )
    words = f"{card.name} ({card.engine}, {card.dtype}), {reach}, fingerprint {card.fingerprint}"
    found = [Finding("ok", role, words)]
    if unknown := unknown_elements(parts.topology.numbers, card.species):
        words = (
            f"{card.name} does not know {', '.join(unknown)}; it knows "
            f"{', '.join(element_symbols(card.species or ()))}"
        )
        found.append(Finding("error", f"{role} elements", words))
    return found


def _region(seen: RegionPreview) -> list[Finding]:
    found = [Finding("ok", "region", str(seen))]
    return found + [Finding("warning", "region", words) for words in seen.warnings()]
