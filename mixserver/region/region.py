"""The division of one frame between the two potentials, as a value."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple, Protocol

import numpy as np

from mixserver.arrays import Indices, Matrix, Scalars, Vectors


class Pulled(NamedTuple):
    """What pulls on atoms because lambda depends on where they are."""

    atoms: Indices
    """(m,) ascending, each once."""
    forces: Vectors
    """(m, 3) eV/Å on them; the forces on all others are zero."""
    virial: Matrix
    """(3, 3) eV, -dE/dstrain, symmetric."""


class Pull(Protocol):
    r"""The pull-back of lambda: from what lambda multiplies to forces."""

    def back(self, gap: Scalars) -> Pulled:
        r"""Minus the gradient of :math:`\sum_i g_i \lambda_i(r)` at constant g.

        Args:
            gap: (n,) eV, g of the atoms `Region.active`, in their order.
        """


@dataclass(frozen=True)
class Region:
    """How one frame is divided between the two potentials.

    ``expensive`` is lambda: 1 in the core, falls smoothly to 0 across the blend, 0 elsewhere.
    """

    expensive: Scalars
    """(N,) expensive fraction lambda of each atom, in [0, 1]."""
    seeds: Indices
    """(s,) atoms that are seeds; empty for regions fixed in space."""
    pull: Pull | None = field(default=None, compare=False)
    """How lambda follows the atoms; None where it is constant in between updates."""
    before: Scalars | None = field(default=None, compare=False)
    """(N,) lambda up to this evaluation, where an update changes it in a jump; None elsewhere."""

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
