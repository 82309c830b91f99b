"""The division of one frame between the two potentials, as a value."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from mixserver.arrays import Indices, Scalars


@dataclass(frozen=True)
class Region:
    """How one frame is divided between the two potentials.

    ``expensive`` is lambda: 1 in the core, falls smoothly to 0 across the blend, 0 elsewhere.
    """

    expensive: Scalars
    """(N,) expensive fraction lambda of each atom, in [0, 1]."""
    seeds: Indices
    """(s,) atoms that are seeds; empty for regions fixed in space."""

    def __post_init__(self) -> None:
        if self.expensive.ndim != 1:
            raise ValueError(f"Region.expensive must be (N,), got {self.expensive.shape}")
        # NaN is the least and the greatest of all numbers here, and lies in no interval
        if self.expensive.size and not 0.0 <= self.expensive.min() <= self.expensive.max() <= 1.0:
            raise ValueError("Region.expensive must be finite numbers in [0, 1]")

    @cached_property
    def active(self) -> Indices:
        """(n,) atoms with lambda > 0: core and blend."""
        return np.flatnonzero(self.expensive)

    @cached_property
    def core(self) -> int:
        """How many atoms have lambda = 1."""
        return int(np.count_nonzero(self.expensive == 1.0))

    @property
    def blend(self) -> int:
        """How many atoms have 0 < lambda < 1."""
        return len(self.active) - self.core
