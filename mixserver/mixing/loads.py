r"""Dead loads: constant forces that cancel the ghost forces of energy mixing with frozen lambda.

Two models that agree on all forces may still divide the energy among atoms differently, and where
lambda changes the difference does not cancel. At a reference configuration it is known, so it is
taken away by constant forces :math:`f_i` (V. B. Shenoy et al., J. Mech. Phys. Solids 47, 611).
They have an energy:

.. math::
    E = -\sum_i f_i \cdot u_i,\qquad u_i = (s_i - s_i^\mathrm{ref})\, h,\qquad \sum_i f_i = 0

with fractional coordinates s and the cell h. So the sum stays conservative and keeps momentum,
and a cell that deforms with its atoms costs nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Final, NamedTuple

import numpy as np

from mixserver.arrays import Indices, Matrix, Vectors
from mixserver.errors import ConfigError
from mixserver.frame import Frame

_NOTHING: Final = 1e-11
"""eV/Å; smaller loads are rounding."""


class Loaded(NamedTuple):
    """What dead loads add at one frame, besides their forces."""

    energy: float
    """eV."""
    virial: Matrix
    """(3, 3) eV, -dE/dstrain, symmetric."""


@dataclass(frozen=True)
class DeadLoads:
    """Constant forces on some atoms, and where these were."""

    atoms: Indices
    """(n,) ascending."""
    forces: Vectors
    """(n, 3) eV/Å, adding up to zero."""
    places: Vectors
    """(n, 3) fractional coordinates at the reference."""

    def __post_init__(self) -> None:
        n = len(self.atoms)
        if self.forces.shape != (n, 3) or self.places.shape != (n, 3):
            raise ConfigError(
                f"dead loads on {n} atoms need as many forces and places, got "
                f"{self.forces.shape} and {self.places.shape}"
            )
        if not (np.isfinite(self.forces).all() and np.isfinite(self.places).all()):
            raise ConfigError("dead loads must be finite")
        net = np.abs(self.forces.sum(axis=0)).max(initial=0.0)
        if net > 1e-9 * max(1, n):
            raise ConfigError(f"dead loads must add up to zero, got {net:.1e} eV/Å")

    @classmethod
    def between(cls, reference: Frame, have: Vectors, want: Vectors) -> DeadLoads:
        """The loads that turn forces (N, 3) eV/Å at a reference into other forces there.

        A net force they would have is shared among them, so that momentum is conserved.
        """
        loads = want - have
        atoms = np.flatnonzero(np.abs(loads).max(axis=1) > _NOTHING)
        forces = loads[atoms]
        if len(atoms):
            forces -= forces.mean(axis=0)
        return cls(atoms, forces, reference.fractional[atoms])

    @cached_property
    def largest(self) -> float:
        """eV/Å, of one atom's load."""
        return float(np.sqrt((self.forces**2).sum(axis=1)).max(initial=0.0))

    def at(self, frame: Frame) -> Loaded:
        """Energy and virial at a frame.

        Displacements are relative to one of the loaded atoms, so that neither a common drift nor
        wrapping changes them, as long as no two of them part by half a cell.
        """
        if not len(self.atoms):
            return Loaded(0.0, np.zeros((3, 3)))
        moved = frame.fractional.take(self.atoms, axis=0) - self.places
        moved -= moved[0]
        turns = np.rint(moved)
        if not all(frame.topology.pbc):
            turns *= frame.topology.pbc
        displaced = (moved - turns) @ frame.cell
        virial = displaced.T @ self.forces
        return Loaded(-float(np.vdot(self.forces, displaced)), 0.5 * (virial + virial.T))
