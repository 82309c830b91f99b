"""What an evaluation costs, and whether mixing saves anything."""

from __future__ import annotations

import statistics
from typing import Final

from mixserver.build import Parts
from mixserver.checks.differences import shaken
from mixserver.checks.findings import Finding
from mixserver.checks.regions import Seen
from mixserver.errors import MixserverError
from mixserver.mixing.mixer import Mixer, about_all
from mixserver.wire.worker import Evaluate, Role

_REPEATED: Final = 4
"""Evaluations, the first of which warms up."""
_AFFORDABLE: Final = 4.0
"""The expensive model is asked about everything if that is up to so many times the atoms it is sent
anyway: no more memory than it has shown to have, about."""
_CLEAR: Final = 3.0
"""If everything would take so many times longer by the size of the clusters, it is not tried."""
_NOTICED: Final = 0.05
"""Seconds; less is toys, and noise."""
_SLOWER: Final = 1.2
"""What noise does not make of two times."""


async def check_cost(parts: Parts, mixer: Mixer, seen: Seen) -> list[Finding]:
    """Seconds per evaluation, as a run would make them, and by the expensive model alone.

    Args:
        parts: with workers of both models joined.
        mixer: as in a run.
        seen: the regions of the structure.
    """
    cheap, expensive = [], []
    for seed in range(_REPEATED):  # moved each time: some engines remember the last positions
        frame = shaken(seen.frame, seed)
        questions: list[tuple[Role, Evaluate]] = [("cheap", mixer.cheap(frame, seen.region))]
        questions += [
            ("expensive", job) for job in mixer.expensive(frame, seen.region, seen.cluster)
        ]
        answers = await parts.dispatcher.run(questions)
        cheap.append(answers[0].took_s)
        expensive.append(max((a.waited_s + a.took_s for a in answers[1:]), default=0.0))
    c, e = statistics.median(cheap[1:]), statistics.median(expensive[1:])
    cost = Finding(
        "ok",
        "cost",
        f"cheap {1e3 * c:.0f} ms and expensive {1e3 * e:.0f} ms at the same time: 1000 "
        f"evaluations take about {_duration(1000 * max(c, e))}; every bead counts",
        max(c, e),
    )
    return [cost, *await _saved(parts, seen, min(cheap[1:]), min(expensive[1:]))]


async def _saved(parts: Parts, seen: Seen, cheap: float, expensive: float) -> list[Finding]:
    """Whether the expensive model alone would be faster, given the least seconds of both."""
    sent = sum(len(cluster.atoms) for cluster in seen.cluster)
    mixed = max(cheap, expensive)
    if not sent or mixed < _NOTICED:
        return []
    alone, how = expensive * seen.atoms / sent, "by the number of atoms"
    if alone > _CLEAR * mixed:
        return []
    if seen.atoms <= _AFFORDABLE * sent:
        try:
            alone, how = await _whole(parts, seen), "measured"
        except MixserverError:  # too many atoms for it: then it is no choice
            return []
    if alone * _SLOWER > mixed:
        return []
    slow = "cheap" if cheap > expensive else "expensive"
    cure = (
        "give it more threads or ranks, or take a cheaper one (mixserver distill)"
        if slow == "cheap"
        else "take a smaller region, or a larger cell"
    )
    return [
        Finding(
            "warning",
            "speed",
            f"mixing is {mixed / alone:.1f} times slower than the expensive model alone: an "
            f"evaluation takes {1e3 * mixed:.0f} ms, all {seen.atoms} atoms with the expensive "
            f"model about {1e3 * alone:.0f} ms ({how}). What takes so long is the {slow} model: "
            f"{cure}",
            mixed / alone,
        )
    ]


async def _whole(parts: Parts, seen: Seen) -> float:
    """Seconds that the expensive model takes for all atoms."""
    took = []
    for seed in range(_REPEATED - 1):
        question = about_all(shaken(seen.frame, seed))
        (answer,) = await parts.dispatcher.run([("expensive", question)])
        took.append(answer.took_s)
    return statistics.median(took[1:])


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
