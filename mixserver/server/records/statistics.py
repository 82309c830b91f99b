"""Running counts of a server's evaluations: how many, how fast, and how their times spread.

An evaluation costs one append; histograms are kept only where they are asked for.
"""

from __future__ import annotations

import time
from bisect import bisect_left
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Final

from mixserver.server.records.report import Report

_RECENT: Final = 64
"""Evaluations that a rate is taken from."""
BOUNDS_S: Final = (
    *(1e-4, 2e-4, 5e-4, 1e-3, 2e-3, 5e-3, 1e-2, 2e-2, 5e-2, 0.1, 0.2, 0.5),
    *(1.0, 2.0, 5.0, 10.0, 20.0, 60.0, 120.0, 300.0, 1800.0),
)
"""Upper bounds of the histograms' buckets in seconds; one more bucket is without bound."""
PARTS: Final = ("total", "cheap", "expensive", "waiting", "own")
"""Parts of an evaluation's time, as in `Report`'s ms_... fields."""


_times: Final = attrgetter(*(f"ms_{part}" for part in PARTS))


@dataclass(slots=True)
class Histogram:
    """How often a time fell into which bucket."""

    counts: list[int] = field(default_factory=lambda: [0] * (len(BOUNDS_S) + 1))
    sum_s: float = 0.0

    def add(self, seconds: float) -> None:
        """Count a time; a bound belongs to the bucket below it."""
        self.counts[bisect_left(BOUNDS_S, seconds)] += 1
        self.sum_s += seconds


class EvaluationStatistics:
    """Counts of the evaluations since the server started.

    Args:
        clock: seconds that never go backwards.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._started = clock()
        self._recent: deque[float] = deque(maxlen=_RECENT)
        self._append = self._recent.append
        self.histograms: Mapping[str, Histogram] | None = None
        """By part of the time; None unless `keep_histograms` was called."""

        self._kept: tuple[Histogram, ...] = ()

    def keep_histograms(self) -> None:
        """Keep histograms of the times from now on (2 us per evaluation)."""
        self.histograms = {part: Histogram() for part in PARTS}
        self._kept = tuple(self.histograms.values())

    def add(self, report: Report) -> None:
        """An evaluation was made."""
        self._append(self._clock())
        if not self._kept:
            return
        for histogram, milliseconds in zip(self._kept, _times(report), strict=True):
            if milliseconds is not None:
                histogram.add(1e-3 * milliseconds)

    @property
    def up_s(self) -> float:
        """Seconds since the server started."""
        return self._clock() - self._started

    @property
    def age_s(self) -> float | None:
        """Seconds since the latest evaluation; None before the first."""
        return self._clock() - self._recent[-1] if self._recent else None

    @property
    def per_s(self) -> float | None:
        """Evaluations per second, of the latest; falls while none comes. None before the second."""
        if len(self._recent) < 2:
            return None
        return (len(self._recent) - 1) / max(self._clock() - self._recent[0], 1e-9)
