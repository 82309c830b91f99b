"""The division of one frame between the two potentials, as a value."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple, Protocol

import numpy as np

from mixserver.core.arrays import Indices, Matrix, Scalars, Vectors


class GradLambdaForces(NamedTuple):
    """Forces on atoms because lambda depends on where they are."""

    atoms: Indices
    """(m,) ascending, each once."""
    forces: Vectors
    """(m, 3) eV/Å on them; the forces on all others are zero."""
    virial: Matrix
    """(3, 3) eV, -dE/dstrain, symmetric."""


class LambdaGradient(Protocol):
    r"""The vector-Jacobian product of lambda: from what lambda multiplies to forces."""

    def forces(self, difference: Scalars) -> GradLambdaForces:
        r"""Minus the gradient of :math:`\sum_i g_i \lambda_i(r)` at constant g.

        Args:
            difference: (n,) eV, the site-energy differences g of the atoms `Region.active`, in
                their order.
        """


@dataclass(frozen=True)
class Region:
    """How one frame is divided between the two potentials."""

    lambda_: Scalars
    """(N,) expensive fraction of each atom, in [0, 1]: 1 in the core, falls smoothly to 0 across
    the blend, 0 elsewhere."""
    seeds: Indices
    """(s,) atoms that are seeds; empty for regions fixed in space."""
    gradient: LambdaGradient | None = field(default=None, compare=False)
    """How lambda follows the atoms; None where it is constant in between updates."""
    before: Scalars | None = field(default=None, compare=False)
    """(N,) lambda up to this evaluation, where an update changes it in a jump; None elsewhere."""

    def __post_init__(self) -> None:
        if self.lambda_.ndim != 1:
            raise ValueError(f"Region.lambda_ must be (N,), got {self.lambda_.shape}")
        # NaN is the least and the greatest of all numbers here, and lies in no interval
        if self.lambda_.size and not 0.0 <= self.lambda_.min() <= self.lambda_.max() <= 1.0:
            raise ValueError("Region.lambda_ must be finite numbers in [0, 1]")

    @cached_property
    def active(self) -> Indices:
        """(n,) atoms with lambda > 0: core and blend."""
        return self.lambda_.nonzero()[0]

    @cached_property
    def core(self) -> int:
        """Number of atoms with lambda = 1."""
        return int(np.count_nonzero(self.lambda_ == 1.0))

    @property
    def blend(self) -> int:
        """Number of atoms with 0 < lambda < 1."""
        return len(self.active) - self.core
