"""The check of what it costs that a criterion chooses the seeds as a run goes."""

from __future__ import annotations

from typing import Final

from mixserver.analysis.checks.cost import in_time
from mixserver.analysis.checks.findings import Finding
from mixserver.analysis.checks.finite_differences import shaken
from mixserver.config import CriterionSeeds
from mixserver.core.frame import Frame
from mixserver.dispatch.dispatcher import Dispatcher
from mixserver.mixing.jobs import whole_system_job

_REPEATED: Final = 4
"""Pairs of evaluations, with and without; the first one warms up."""


async def check_criterion_cost(
    dispatcher: Dispatcher, seeds: CriterionSeeds, start: Frame
) -> list[Finding]:
    """Time the cheap model with and without the criterion, in turn.

    Raises:
        MixserverError: an evaluation failed.
    """
    took: dict[str, list[float]] = {"": [], seeds.compute: []}
    for seed in range(_REPEATED):
        for compute, seconds in took.items():
            job = whole_system_job(shaken(start, seed), criterion=compute)
            (reply,) = await dispatcher.run([("cheap", job)])
            seconds.append(reply.took_s)
    without, with_it = (min(seconds[1:]) for seconds in took.values())
    more = max(0.0, with_it - without)
    share = seeds.samples / seeds.every
    words = (
        f"{seeds.compute} takes {in_time(more)} of the cheap model's worker, beside "
        f"{in_time(without)} for its forces, in {_how_often(seeds)}; seeds that are named cost "
        "nothing"
    )
    return [Finding("ok", "criterion cost", words, share * more)]


def _how_often(seeds: CriterionSeeds) -> str:
    if seeds.samples == seeds.every:
        return "every evaluation"
    evaluations = "evaluation" if seeds.samples == 1 else "evaluations"
    return f"{seeds.samples} {evaluations} of every {seeds.every}"
