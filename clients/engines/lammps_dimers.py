"""Energy of two atoms over their distance, as LAMMPS computes it: many isolated pairs at once.

Knows the commands of a pairwise potential and one pair of atom types; keeps nothing.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

import numpy as np

from clients.engines.lammps_instance import Instance, Setup
from clients.engines.lammps_library import LammpsError
from clients.engines.lammps_mpi import Order, Ranks
from mixserver.arrays import Scalars
from mixserver.errors import BadInput

_SIDE: Final = 14
"""Pairs along each edge of the box."""
_NEAREST: Final = 0.3
"""Å. Nobody asks for closer pairs."""
_FINE: Final = 1e-4
"""Å, between distances at which LAMMPS knows the energy and at which it does not."""


class Dimers:
    """Isolated pairs of atoms of two types.

    Args:
        setup: of the pairwise potential alone.
        kinds: the two atom types, counted from 1.
        cutoff: Å, at least that of the potential.

    Raises:
        BadInput, LammpsError: LAMMPS refused.
    """

    def __init__(self, setup: Setup, kinds: tuple[int, int], cutoff: float) -> None:
        self._setup, self._cutoff = setup, cutoff
        self._numbers = np.array([setup.numbers[kind - 1] for kind in kinds], np.int32)
        self._many: Instance | None = None

    def close(self) -> None:
        """End LAMMPS."""
        if self._many is not None:
            self._many.close()
        self._many = None

    def energies(self, distances: Scalars) -> Scalars:
        """Energies at ascending distances, (m,) eV.

        Raises:
            BadInput, LammpsError: LAMMPS has none for one of them.
        """
        wanted = np.asarray(distances, float).ravel()
        size = _SIDE**3
        passes = -(-len(wanted) // size)
        # Every pair takes neighbouring distances in turn: LAMMPS's neighbour lists then last.
        padded = np.append(wanted, np.full(passes * size - len(wanted), wanted[-1]))
        table = padded.reshape(size, passes)
        columns = [self._pass(table[:, k]) for k in range(passes)]
        return np.column_stack(columns).ravel()[: len(wanted)]

    def innermost(self) -> float:
        """The smallest distance LAMMPS has an energy for, Å."""
        if self._known(_NEAREST):
            return _NEAREST
        low, high = _NEAREST, 0.999 * self._cutoff
        while high - low > _FINE:
            middle = 0.5 * (low + high)
            low, high = (low, middle) if self._known(middle) else (middle, high)
        return high

    def outermost(self, inner: float) -> float | None:
        """The distance from which on the energy is 0, Å; None if it is nowhere else."""
        low, high = inner, self._cutoff * (1.0 + 1e-9)
        while True:
            grid = np.linspace(low, high, _SIDE**3)
            there = np.flatnonzero(self.energies(grid) != 0.0)
            if not len(there):
                return None if low == inner else high
            last = int(there[-1])
            if last == len(grid) - 1:
                return high
            if high - low < 1e-12 * high:
                return float(grid[last + 1])
            low, high = float(grid[last]), float(grid[last + 1])

    def _pass(self, distances: Scalars) -> Scalars:
        spacing = 2.0 * self._cutoff + 3.0
        if self._many is None:
            self._many = Instance(self._setup, self._order(distances, spacing), Ranks())
        found = self._many.evaluate(self._order(distances, spacing)).energies
        if found is None:
            raise LammpsError("LAMMPS gives no site energies for it")
        return np.asarray(found.reshape(-1, 2).sum(axis=1))

    def _order(self, distances: Scalars, spacing: float) -> Order:
        side = round(len(distances) ** (1 / 3))
        steps = np.stack(np.meshgrid(*[np.arange(float(side))] * 3, indexing="ij"), -1)
        first = spacing * steps.reshape(-1, 3)
        second = first.copy()
        second[:, 2] += distances
        return Order(
            stream=0,
            positions=np.stack([first, second], 1).reshape(-1, 3),
            numbers=np.tile(self._numbers, len(first)),
            cell=np.eye(3) * spacing * side,
            pbc=(True, True, True),
            energies=True,
            criterion="",
        )

    def _known(self, distance: float) -> bool:
        one = replace(self._setup, accelerated=False)
        alone = self._order(np.array([distance]), 4.0 * self._cutoff)
        try:
            instance = Instance(one, alone, Ranks())
            try:
                return bool(np.isfinite(instance.evaluate(alone).energy))
            finally:
                instance.close()
        except (LammpsError, BadInput):
            return False
