"""Checks that ask the models: elements, shells against reach, finite differences, cost."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from ase.data import chemical_symbols

from mixserver.build import Parts
from mixserver.checks.cost import check_cost
from mixserver.checks.differences import check_differences, of_model, shaken
from mixserver.checks.energy import check_energy
from mixserver.checks.findings import Finding
from mixserver.checks.match import check_match
from mixserver.checks.regions import Seen, prepared
from mixserver.checks.regions import seen as look_at
from mixserver.checks.widths import check_buffer
from mixserver.config import Case
from mixserver.errors import MixserverError
from mixserver.mixing.mixer import about_all
from mixserver.prepare import carving_mixer
from mixserver.wire.worker import Evaluate, ModelCard, Role


async def check_models(case: Case, parts: Parts, figure: Path | None = None) -> list[Finding]:
    """Everything that needs workers.

    Args:
        case: the case.
        parts: its objects, with workers joined.
        figure: PNG to draw ghost forces into; None for none.
    """
    config = case.config
    roles: list[Role] = []
    if config.models.cheap is not None:
        roles.append("cheap")
    if config.models.expensive is not None:
        roles.append("expensive")
    found: list[Finding] = []
    cards = {role: await parts.dispatcher.card(role) for role in roles}
    for role, card in cards.items():
        found += _introduce(role, card, parts)
    if any(finding.level == "error" for finding in found):
        return found  # nothing can be evaluated
    start = shaken(parts.start)
    if config.region is None:
        return found + await _single(parts, roles[0], cards[roles[0]], about_all(start))
    try:
        preparation = prepared(parts)
        reaches = await preparation.reaches()
        mixer = carving_mixer(config, parts.start, reaches.expensive)
        seen = look_at(parts.start, await preparation.region(), mixer)
    except MixserverError as error:
        found.append(Finding("error", "region", str(error)))
        return found
    found += _region(seen)
    found += await _single(parts, "cheap", cards["cheap"], mixer.plain(start))
    jobs = mixer.expensive(start, seen.region, seen.cluster)
    if jobs:
        found += await _single(parts, "expensive", cards["expensive"], jobs[0])
    if config.mixing.kind == "energy":
        exact = all(card.dtype == "float64" for card in cards.values())
        found += await check_energy(
            preparation,
            reaches,
            seen,
            start,
            folder=case.folder,
            dtype="float64" if exact else "float32",
            figure=figure,
        )
    elif jobs:
        found += await check_buffer(
            config.region, parts.dispatcher, reaches.expensive, mixer, seen, start
        )
    if figure is not None and config.mixing.kind == "force":
        words = "force mixing makes no ghost forces, so none were drawn"
        found.append(Finding("warning", "picture", words))
    if any(finding.level == "error" for finding in found):
        return found  # what cannot be evaluated costs nothing, and matches nothing
    found += await check_cost(parts, mixer, seen)
    # last: a model may break at crystals it was not asked for
    return found + await check_match(case, parts, cards.values())


async def _single(parts: Parts, role: Role, card: ModelCard, question: Evaluate) -> list[Finding]:
    """One model's forces and virial against its own energy."""
    at = of_model(parts.dispatcher, role, question)
    return await check_differences(role, at, question.positions, question.cell, dtype=card.dtype)


def _introduce(role: Role, card: ModelCard, parts: Parts) -> list[Finding]:
    reach = (
        f"receptive field {card.receptive_field:.3g} Å" if card.receptive_field else "reach unknown"
    )
    found = [
        Finding(
            "ok",
            role,
            f"{card.name} ({card.engine}, {card.dtype}), {reach}, fingerprint {card.fingerprint}",
        )
    ]
    if card.species is not None:
        lacking = sorted(set(parts.topology.numbers.tolist()) - set(card.species))
        if lacking:
            found.append(
                Finding(
                    "error",
                    f"{role} elements",
                    f"{card.name} does not know {_elements(lacking)}; it knows "
                    f"{_elements(card.species)}",
                )
            )
    return found


def _elements(numbers: Iterable[int]) -> str:
    """Their symbols; what ASE does not know by number."""
    known = range(1, len(chemical_symbols))
    return ", ".join(chemical_symbols[z] if z in known else f"Z = {z}" for z in numbers)


def _region(seen: Seen) -> list[Finding]:
    found = [
        Finding(
            "ok",
            "region",
            f"seeds {seen.seeds}, core {seen.core}, blend {seen.blend}, buffer {seen.buffer}, "
            f"halo {seen.halo} of {seen.atoms} atoms; clusters: {seen.clusters}",
        )
    ]
    if not len(seen.region.active):
        found.append(
            Finding("warning", "region", "nothing is expensive at the start: look at region.seeds")
        )
    sent = sum(len(cluster.atoms) for cluster in seen.cluster)
    if sent >= seen.atoms > 0:
        found.append(
            Finding(
                "warning",
                "cell",
                "the clusters with their surroundings hold the whole cell, so mixing saves little "
                "here; a larger cell costs the expensive model no more",
            )
        )
    return found
