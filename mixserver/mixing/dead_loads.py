r"""Dead loads: forces, constant but for turns of the cell, that cancel ghost forces.

Two models that agree on all forces may still divide the energy among atoms differently, and where a
frozen lambda changes from atom to atom the difference does not cancel. At a reference configuration
it is known, so it is taken away by forces :math:`f_i` (V. B. Shenoy et al., J. Mech. Phys. Solids
47, 611) that are vectors of the cell: they turn with it by the rotation Q of its polar
decomposition (see `geometry.deformation`) and do not stretch. They have an energy:

.. math::
    E = -\sum_i (f_i Q) \cdot u_i,\qquad u_i = (s_i - s_i^\mathrm{ref})\, h,\qquad \sum_i f_i = 0

with fractional coordinates s and the cell h. So the sum stays conservative, keeps momentum and does
not depend on the orientation, and a cell that deforms with its atoms costs nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Final, NamedTuple

import numpy as np

from mixserver.core.arrays import Indices, Matrix, Vectors
from mixserver.core.cell import has_volume
from mixserver.core.errors import ConfigError
from mixserver.core.frame import Frame
from mixserver.geometry import Deformation

_NOTHING: Final = 1e-11
"""eV/Å; smaller loads are rounding."""


class Loaded(NamedTuple):
    """What dead loads add at one frame."""

    energy: float
    """eV."""
    forces: Vectors
    """(n, 3) eV/Å on the loaded atoms, adding up to zero."""
    virial: Matrix
    """(3, 3) eV, -dE/dstrain, symmetric."""


@dataclass(frozen=True)
class DeadLoads:
    """Forces on some atoms, where these were, and the cell they are vectors of."""

    atoms: Indices
    """(n,) ascending."""
    forces: Vectors
    """(n, 3) eV/Å in the orientation of the reference, adding up to zero."""
    places: Vectors
    """(n, 3) fractional coordinates at the reference."""
    cell: Matrix
    """(3, 3) Å, rows are the lattice vectors of the reference."""

    def __post_init__(self) -> None:
        n = len(self.atoms)
        if self.forces.shape != (n, 3) or self.places.shape != (n, 3):
            raise ConfigError(
                f"dead loads on {n} atoms need as many forces and places, got "
                f"{self.forces.shape} and {self.places.shape}"
            )
        if not (np.isfinite(self.forces).all() and np.isfinite(self.places).all()):
            raise ConfigError("dead loads must be finite")
        if not has_volume(self.cell):
            raise ConfigError(
                f"dead loads need the cell of their reference, with a volume, got {self.cell}"
            )
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
        return cls(atoms, forces, reference.fractional[atoms], reference.cell)

    @cached_property
    def largest(self) -> float:
        """The largest load of an atom, eV/Å."""
        return float(np.sqrt((self.forces**2).sum(axis=1)).max(initial=0.0))

    def at(self, frame: Frame) -> Loaded:
        """Energy, forces and virial at a frame.

        Displacements are relative to one of the loaded atoms, so that neither a common drift nor
        wrapping changes them, as long as no two of them part by half a cell.
        """
        if not len(self.atoms):
            return Loaded(0.0, np.zeros((0, 3)), np.zeros((3, 3)))
        moved = frame.fractional.take(self.atoms, axis=0) - self.places
        moved -= moved[0]
        turns = np.rint(moved)
        if not all(frame.topology.pbc):
            turns *= frame.topology.pbc
        displaced = (moved - turns) @ frame.cell
        deformation = Deformation.between(self.cell, frame.cell)
        forces = deformation.rotate(self.forces)
        moments = displaced.T @ forces
        return Loaded(-float(np.trace(moments)), forces, deformation.virial(moments))
