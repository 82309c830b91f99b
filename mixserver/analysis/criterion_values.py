"""The values of a region's criterion at one frame, and their histogram with the bounds in it."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np

from mixserver.core.arrays import Indices, Mask, Scalars
from mixserver.core.errors import ConfigError
from mixserver.mixing.jobs import whole_system_job
from mixserver.region.seeds import CriterionSeeds
from mixserver.region.shell_region import ShellRegion
from mixserver.server.mixing_setup import MixingSetup

_BINS: Final = 24
_MOST_WHOLE: Final = 30
"""Whole numbers get a bin each if they are up to so many."""


class Bin(NamedTuple):
    """One bin of a histogram."""

    low: float
    high: float
    atoms: int
    seeds: int
    """Atoms in it whose value lies within the bounds."""

    @property
    def middle(self) -> float:
        """The middle of the bin."""
        return 0.5 * (self.low + self.high)

    @property
    def whole(self) -> bool:
        """Whether it is the bin of one whole number."""
        return self.high - self.low == 1.0 and self.middle == round(self.middle)


@dataclass(frozen=True)
class CriterionValues:
    """What a criterion says of every atom at one frame, without a time average."""

    seeds: CriterionSeeds
    values: Scalars
    """(N,) in the compute's own unit; NaN where it is not defined."""

    @property
    def eligible(self) -> Mask:
        """(N,) atoms that may become seeds and have a value."""
        known = np.isfinite(self.values)
        allowed: Mask = known if self.seeds.eligible is None else known & self.seeds.eligible
        return allowed

    @property
    def selected(self) -> Indices:
        """(s,) atoms whose value lies within the bounds."""
        return self.seeds.select(self.values)

    @property
    def bounds(self) -> dict[str, float]:
        """The finite bounds by name, "low" and "high"."""
        named = {"low": self.seeds.low, "high": self.seeds.high}
        return {name: bound for name, bound in named.items() if math.isfinite(bound)}

    def histogram(self) -> list[Bin]:
        """Bins of the eligible atoms, ascending; a bound lies on no bin's inside.

        Whole numbers, such as coordinations, get a bin each, with the number in its middle.
        """
        values = self.values[self.eligible]
        if not len(values):
            return []
        edges = self._edges(values)
        seeds = self.values[self.selected]
        counts, _ = np.histogram(values, edges)
        chosen, _ = np.histogram(seeds, edges)
        rows = zip(edges[:-1], edges[1:], counts, chosen, strict=True)
        return [Bin(float(a), float(b), int(n), int(s)) for a, b, n, s in rows]

    def _edges(self, values: Scalars) -> Scalars:
        low, high = float(values.min()), float(values.max())
        whole = np.array_equal(values, np.round(values))
        if whole and high - low < _MOST_WHOLE:
            return np.arange(low - 0.5, high + 1.0)
        if high == low:
            width = max(1e-3 * abs(low), 1e-6)
            return np.array([low - width, low + width])
        inside = sorted(bound for bound in self.bounds.values() if low < bound < high)
        ends = [low, *inside, high]
        parts = [
            np.linspace(a, b, max(1, round(_BINS * (b - a) / (high - low))) + 1)[:-1]
            for a, b in itertools.pairwise(ends)
            if b > a
        ]
        return np.append(np.concatenate(parts), high)


async def criterion_values(setup: MixingSetup) -> CriterionValues | None:
    """Let a cheap worker evaluate the criterion at the structure; None if the case has none.

    Raises:
        ConfigError: the cheap model's workers compute no criteria.
        EvaluationError: the compute failed.
    """
    region_model = setup.fresh()
    if not isinstance(region_model, ShellRegion):
        return None
    seeds = region_model.seeds
    if not isinstance(seeds, CriterionSeeds):
        return None
    job = whole_system_job(setup.start, criterion=seeds.compute)
    (reply,) = await setup.dispatcher.run([("cheap", job)])
    if reply.result.values is None:
        raise ConfigError(
            f"the cheap worker returned no values of {seeds.compute!r}: only LAMMPS workers "
            "compute criteria"
        )
    return CriterionValues(seeds, reply.result.values)
