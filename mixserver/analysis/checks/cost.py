"""The check of the time per evaluation, and whether mixing is faster than the expensive model."""

from __future__ import annotations

import statistics
from typing import Final

from mixserver.analysis.checks.findings import Finding
from mixserver.analysis.checks.finite_differences import shaken
from mixserver.analysis.region_preview import RegionPreview
from mixserver.core.errors import MixserverError
from mixserver.mixing.jobs import whole_system_job
from mixserver.mixing.mixer import Mixer
from mixserver.server.build import Parts
from mixserver.wire.worker import Role

_REPEATED: Final = 4
"""Evaluations; the first one warms up."""
_AFFORDABLE: Final = 4.0
"""The expensive model is timed with all atoms if these are up to so many times the atoms of its
clusters, so that the memory of its machine suffices."""
_CLEAR: Final = 3.0
"""The expensive model is not timed with all atoms if that should take so many times longer."""
_NOTICED: Final = 0.05
"""Seconds; shorter evaluations are toys, and noise."""
_SLOWER: Final = 1.2
"""Ratio of two times that noise does not explain."""


async def check_cost(parts: Parts, mixer: Mixer, seen: RegionPreview) -> list[Finding]:
    """Seconds per evaluation as in a run, and with the expensive model alone."""
    cheap, expensive = [], []
    for seed in range(_REPEATED):  # displaced each time: some engines cache the last positions
        frame = shaken(seen.frame, seed)
        jobs = list(mixer.plan(frame, seen.region))
        replies = await parts.dispatcher.run([(key.role, job) for key, job in jobs])
        took: dict[Role, float] = {"cheap": 0.0, "expensive": 0.0}
        for (key, _), reply in zip(jobs, replies, strict=True):
            took[key.role] = max(took[key.role], reply.waited_s + reply.took_s)
        cheap.append(took["cheap"])
        expensive.append(took["expensive"])
    c, e = statistics.median(cheap[1:]), statistics.median(expensive[1:])
    seconds = 1000.0 * max(c, e)
    lasts = f"{seconds / 60:.0f} min" if seconds < 7200.0 else f"{seconds / 3600:.1f} h"
    words = (
        f"cheap {1e3 * c:.0f} ms and expensive {1e3 * e:.0f} ms at the same time: 1000 "
        f"evaluations take about {f'{seconds:.0f} s' if seconds < 120.0 else lasts}; every bead "
        "counts"
    )
    return [
        Finding("ok", "cost", words, max(c, e)),
        *await _saved(parts, seen, min(cheap[1:]), min(expensive[1:])),
    ]


async def _saved(
    parts: Parts, seen: RegionPreview, cheap: float, expensive: float
) -> list[Finding]:
    """Whether the expensive model alone would be faster, from the shortest times of both."""
    sent = sum(len(cluster.atoms) for cluster in seen.clusters)
    mixed = max(cheap, expensive)
    if not sent or mixed < _NOTICED:
        return []
    alone, how = expensive * len(seen.frame) / sent, "by the number of atoms"
    if alone > _CLEAR * mixed:
        return []
    if len(seen.frame) <= _AFFORDABLE * sent:
        try:
            alone, how = await _whole(parts, seen), "measured"
        except MixserverError:  # too many atoms for this model: not an alternative
            return []
    if alone * _SLOWER > mixed:
        return []
    slow = "cheap" if cheap > expensive else "expensive"
    remedy = (
        "give it more threads or ranks, or use a faster one (mixserver distill)"
        if slow == "cheap"
        else "use a smaller region or a larger cell"
    )
    words = (
        f"mixing is {mixed / alone:.1f} times slower than the expensive model alone: an "
        f"evaluation takes {1e3 * mixed:.0f} ms, all {len(seen.frame)} atoms with the expensive "
        f"model about {1e3 * alone:.0f} ms ({how}). The {slow} model takes longest: "
        f"{remedy}"
    )
    return [Finding("warning", "speed", words, mixed / alone)]


async def _whole(parts: Parts, seen: RegionPreview) -> float:
    """Seconds of the expensive model for all atoms."""
    took = []
    for seed in range(_REPEATED - 1):
        question = whole_system_job(shaken(seen.frame, seed))
        (answer,) = await parts.dispatcher.run([("expensive", question)])
        took.append(answer.took_s)
    return statistics.median(took[1:])
