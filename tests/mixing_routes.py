"""Mixed evaluations with models that are functions of a job."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, TypeAlias

from mixserver.core.frame import Frame
from mixserver.mixing import MixedResult, Mixer
from mixserver.mixing.jobs import WHOLE, JobKey, Plan, whole_system_job
from mixserver.mixing.mixer import Part
from mixserver.region import Region
from mixserver.wire.worker import Evaluate, Result

Model: TypeAlias = Callable[[Evaluate], Result]
Route: TypeAlias = Literal["weights", "parts"]
"""The whole system weighted, or without weights beside weighted parts."""


def evaluate_plan(plan: Plan, cheap: Model, expensive: Model) -> dict[JobKey, Result]:
    """The results of a plan."""
    return {key: (cheap if key.role == "cheap" else expensive)(job) for key, job in plan}


def mix(
    mixer: Mixer,
    frame: Frame,
    region: Region,
    cheap: Model,
    expensive: Model,
    route: Route = "weights",
    part: Part = "mixed",
) -> MixedResult:
    """One mixed evaluation."""
    plan = mixer.plan(frame, region, whole_known=route == "parts")
    results = evaluate_plan(plan, cheap, expensive)
    if route == "parts" and (part == "mixed" or mixer.correction_needs_whole):
        results[WHOLE] = cheap(whole_system_job(frame))
    return mixer.combine(plan, results, part)


def shells(mixed: MixedResult) -> tuple[int, int, int, int]:
    """Core, blend, buffer and halo atoms."""
    d = mixed.diagnostics
    return d.core, d.blend, d.buffer, d.halo
