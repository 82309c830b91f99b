"""The check of the time per evaluation, and whether mixing is faster than the expensive model."""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np

from mixserver.analysis.checks.findings import Finding
from mixserver.analysis.checks.finite_differences import shaken
from mixserver.analysis.region_preview import RegionPreview
from mixserver.analysis.timed_evaluation import Times, timed_results
from mixserver.core.errors import MixserverError
from mixserver.mixing.jobs import whole_system_job
from mixserver.mixing.mixer import Mixer
from mixserver.server.build import Parts
from mixserver.wire.worker import Role

_REPEATED: Final = 4
"""Evaluations; the first one warms up."""
_AFFORDABLE: Final = 30.0
"""The expensive model is timed with all atoms if these are up to so many times the atoms of its
clusters, so that the memory of its machine suffices,"""
_PATIENCE_S: Final = 30.0
"""and if one evaluation should take no longer than this."""
_NOTICED: Final = 0.05
"""Seconds; shorter evaluations are toys, and noise."""
_SLOWER: Final = 1.2
"""Ratio of two times that noise does not explain."""


class Alone(NamedTuple):
    """Seconds of a model that evaluates all atoms."""

    seconds: float
    how: str
    """"measured", or how it was estimated."""


async def check_cost(parts: Parts, mixer: Mixer, seen: RegionPreview) -> list[Finding]:
    """Seconds per evaluation as in a run, and with each model alone."""
    found = []
    for seed in range(_REPEATED):  # displaced each time: some engines cache the last positions
        plan = mixer.plan(shaken(seen.frame, seed), seen.region)
        found.append((await timed_results(parts.dispatcher, plan))[1])
    cheap, expensive = np.median(found[1:], axis=0).tolist()
    seconds = max(cheap, expensive)
    words = (
        f"an evaluation takes {in_time(seconds)}: cheap {1e3 * cheap:.0f} ms and expensive "
        f"{1e3 * expensive:.0f} ms at the same time; every bead counts"
    )
    shortest = Times(*np.min(found[1:], axis=0).tolist())
    return [Finding("ok", "cost", words, seconds), *await _compare(parts, seen, shortest)]


async def _compare(parts: Parts, seen: RegionPreview, mixed: Times) -> list[Finding]:
    """Whether the expensive model alone would be faster, from the shortest times of all."""
    if not seen.clusters:
        return []
    expensive = await _expensive_alone(parts, seen, mixed)
    cheap = await _timed(parts, "cheap", seen)
    sent = sum(len(cluster.atoms) for cluster in seen.clusters)
    return [speed_finding(len(seen.frame), sent, mixed, expensive, cheap)]


def speed_finding(atoms: int, sent: int, mixed: Times, expensive: Alone, cheap: float) -> Finding:
    """Whether mixing is faster than the expensive model alone; if not, what to change.

    Args:
        atoms: all of them.
        sent: those in expensive jobs.
        mixed: seconds of a mixed evaluation.
        expensive: of the expensive model for all atoms.
        cheap: seconds of the cheap model for all atoms.
    """
    took = (
        f"mixed {in_time(mixed.longest)}, all {atoms} atoms with the expensive model "
        f"{in_time(expensive.seconds)} ({expensive.how}), with the cheap model {in_time(cheap)}"
    )
    gain = expensive.seconds / mixed.longest
    if max(mixed.longest, expensive.seconds) < _NOTICED:
        words = f"too short to tell whether mixing pays: {took}"
        return Finding("ok", "speed", words, gain)
    if gain > _SLOWER:
        words = f"mixing is {gain:.1f} times faster than the expensive model alone: {took}"
        return Finding("ok", "speed", words, gain)
    verdict = (
        f"mixing is {1.0 / gain:.1f} times slower than the expensive model alone"
        if gain * _SLOWER < 1.0
        else "mixing is no faster than the expensive model alone"
    )
    words = f"{verdict}: {took}. {_advice(atoms, sent, mixed, gain)}"
    return Finding("warning", "speed", words, gain)


def _advice(atoms: int, sent: int, mixed: Times, gain: float) -> str:
    """What to change so that mixing becomes faster than the expensive model."""
    if mixed.cheap > mixed.expensive:
        return (
            "The cheap model takes longest: give it more threads or ranks (threads or mpi in its "
            "[[local]] table), or use a faster one (mixserver distill)"
        )
    words = (
        f"The expensive model takes longest, with {sent} atoms in its jobs: take smaller radii "
        "(`mixserver region CASE --scan core=3:8 blend=2:8` measures what they cost in accuracy)"
    )
    if sent < atoms:
        return (
            f"{words} or a larger cell: with these radii mixing pays with more than about "
            f"{_SLOWER * atoms / gain:.0f} atoms"
        )
    return f"{words} or a larger cell, whose other atoms are then cheap"


async def _expensive_alone(parts: Parts, seen: RegionPreview, mixed: Times) -> Alone:
    """Seconds of the expensive model for all atoms: measured, unless that takes too much."""
    atoms = len(seen.frame)
    sent = sum(len(cluster.atoms) for cluster in seen.clusters)
    estimate = mixed.expensive * atoms / sent
    if atoms > _AFFORDABLE * sent or estimate > _PATIENCE_S:
        return Alone(estimate, "estimated from the number of atoms")
    try:
        return Alone(await _timed(parts, "expensive", seen), "measured")
    except MixserverError:
        return Alone(estimate, "estimated from the number of atoms: it failed for all of them")


async def _timed(parts: Parts, role: Role, seen: RegionPreview) -> float:
    """Shortest seconds of one model for all atoms; the first evaluation warms up."""
    took = []
    for seed in range(_REPEATED - 1):
        question = whole_system_job(shaken(seen.frame, seed))
        (answer,) = await parts.dispatcher.run([(role, question)])
        took.append(answer.took_s)
    return min(took[1:])


def in_time(seconds: float) -> str:
    """A time with the unit that people use: "35 ms", "1.4 s", "12 min", "97 h"."""
    if seconds < 0.9995:
        return f"{1e3 * seconds:.3g} ms"
    for unit, size, most in (("s", 1.0, 120.0), ("min", 60.0, 7200.0), ("h", 3600.0, 172800.0)):
        if seconds < most:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds / 3600.0:.0f} h ({seconds / 86400.0:.3g} days)"
