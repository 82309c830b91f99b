"""Running potentials as a simulation would, all side by side, next to the expensive model.

What cannot be looked at of one is told of it, and the others are looked at all the same. Workers
are started for it; no engine is imported.
"""

from __future__ import annotations

import contextlib
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

from mixserver.arrays import Scalars
from mixserver.crystal.asking import asking
from mixserver.crystal.portrait import portrait
from mixserver.dispatch.dispatcher import Dispatcher
from mixserver.distill.answers import Answers, telling
from mixserver.distill.dealing import splits
from mixserver.distill.inclusion import (
    Inclusion,
    inclusion,
    relaxed_inclusion,
    strain_error,
)
from mixserver.distill.judge import Cost, cost, site_energies, spread
from mixserver.distill.material import Material
from mixserver.distill.pool import cheap_workers
from mixserver.distill.reading import Order
from mixserver.distill.results import Candidate
from mixserver.errors import MixserverError

Show = Callable[[str, int, int], None]

_ROUNDS: Final = 3
_TROUBLE: Final = (MixserverError, ValueError, ArithmeticError)
"""What a potential may end in that is looked at; numpy's own errors are among them. All others are
still told of, and so is what was fitted."""
_LOOKED_AT: Final = 4
"""Hot structures whose site energies are compared."""


@dataclass(frozen=True, eq=False)
class Judged:
    """A candidate and the file of its potential."""

    candidate: Candidate
    commands: Path


async def judged(
    listed: Sequence[Judged],
    order: Order,
    material: Material,
    expensive: Dispatcher,
    folder: Path,
    show: Show,
    *,
    step: str,
    thorough: bool = True,
) -> list[Candidate]:
    """Run all potentials side by side and look at what they do.

    Args:
        listed: what rows say of each, and its file.
        order: the distillation.
        material: what the expensive model says.
        expensive: has the expensive model.
        folder: for logs.
        show: told how far it is.
        step: by this name.
        thorough: vacancy, phonons, site energies and an inclusion too.

    Returns:
        The candidates; where one could not be looked at, `trouble` says why.
    """
    test = [
        material.labels(name).structure
        for name, use in splits(material.soft, order.recipe.fit.validation).items()
        if use == "test"
    ]
    hot = [structure for structure in test if structure.kind == "hot"][:_LOOKED_AT]
    answers = Answers(show, step)
    ball: Inclusion | None = None
    theirs: list[Scalars] = []
    trouble = ""
    if thorough:
        try:
            theirs = await site_energies(expensive, "expensive", hot) if hot else []
            if material.card.weights:
                ball = await inclusion(expensive, material.crystal, told=answers.one)
        except _TROUBLE as error:
            trouble = f"expensive model: {error}"
    done, total = 0, len(listed) * (1 + _ROUNDS)
    show(step, done, total)
    found: list[Candidate] = []
    async with contextlib.AsyncExitStack() as stack:
        dispatchers: list[Dispatcher | None] = []
        for at, one in enumerate(listed):
            changes: dict[str, object] = {"trouble": trouble} if trouble else {}
            dispatcher: Dispatcher | None = None
            try:
                dispatcher = await stack.enter_async_context(
                    cheap_workers(order, one.commands, folder / f"workers-{at}")
                )
                changes["portrait"] = await portrait(
                    telling(asking(dispatcher, "cheap"), answers.one),
                    material.crystal,
                    vacancy=200 if thorough else 0,
                    length=10.0 if thorough else 0.0,
                )
                if theirs:
                    ours = await site_energies(dispatcher, "cheap", hot)
                    changes["spread"] = spread(theirs, ours, hot)
                if ball is not None and (await dispatcher.card("cheap")).weights:
                    found_at = await relaxed_inclusion(
                        expensive, dispatcher, ball, told=answers.one
                    )
                    changes["inclusion"] = strain_error(ball, found_at)
            except _TROUBLE as error:  # a bad fit may have no crystal; that is what is told
                changes["trouble"] = str(error)
            dispatchers.append(dispatcher)
            found.append(_changed(one.candidate, changes))
            done += 1
            show(step, done, total)
        times: list[list[Cost]] = [[] for _ in listed]
        for _ in range(_ROUNDS):  # in turns, so that a busy machine is busy for all
            for at, dispatcher in enumerate(dispatchers):
                if dispatcher is not None:
                    with contextlib.suppress(MixserverError):
                        times[at].append(await cost(dispatcher, "cheap", material.crystal))
                done += 1
                show(step, done, total)
    return [_timed(candidate, costs) for candidate, costs in zip(found, times, strict=True)]


def _timed(candidate: Candidate, costs: Sequence[Cost]) -> Candidate:
    if not costs:
        return candidate
    middle = statistics.median(cost.microseconds for cost in costs)
    error = statistics.median(cost.spread for cost in costs)
    return _changed(candidate, {"microseconds": middle, "microseconds_error": error})


def _changed(candidate: Candidate, changes: Mapping[str, object]) -> Candidate:
    return msgspec.structs.replace(candidate, **changes)
