"""Energies of isolated pairs of atoms from LAMMPS, many at once, for `eam_tables`."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace
from typing import Final

import numpy as np

from mixserver.core.arrays import Scalars
from mixserver.core.errors import BadInput
from mixserver_worker.engines.lammps.instance import LammpsInstance
from mixserver_worker.engines.lammps.library import LammpsError
from mixserver_worker.engines.lammps.mpi import RankJob, Ranks
from mixserver_worker.engines.lammps.setup import PotentialSetup
from mixserver_worker.engines.lammps.weighting.tables import smallest_distance

_SIDE: Final = 14
"""Pairs along each edge of the box."""
_NEAREST: Final = 0.3
"""Å. Closer pairs are not sampled."""
_FINE: Final = 1e-4
"""Å, accuracy of the smallest distance for which LAMMPS has an energy."""


class Dimers:
    """Isolated pairs of atoms of two types.

    Args:
        setup: of the pairwise potential alone.
        types: the two atom types, from 1.
        cutoff: Å, at least that of the potential.

    Raises:
        BadInput, LammpsError: LAMMPS refused.
    """

    def __init__(self, setup: PotentialSetup, types: tuple[int, int], cutoff: float) -> None:
        self._setup, self._cutoff = setup, cutoff
        self._numbers = np.array([setup.numbers[type_ - 1] for type_ in types], np.int32)
        self._many: LammpsInstance | None = None

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
        # Each pair goes through neighbouring distances, so that neighbour lists stay valid.
        padded = np.append(wanted, np.full(passes * size - len(wanted), wanted[-1]))
        table = padded.reshape(size, passes)
        columns = [self._pass(table[:, k]) for k in range(passes)]
        return np.column_stack(columns).ravel()[: len(wanted)]

    def innermost(self) -> float:
        """The smallest distance for which LAMMPS has an energy, Å."""
        return smallest_distance(self._has_energy, _NEAREST, self._cutoff, _FINE)

    def outermost(self, inner: float) -> float | None:
        """The distance from which on the energy is 0, Å; None if it is 0 everywhere."""
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
            self._many = LammpsInstance(self._setup, self._job(distances, spacing), Ranks())
        found = self._many.evaluate(self._job(distances, spacing)).energies
        if found is None:
            raise LammpsError("LAMMPS has no site energies for it")
        return np.asarray(found.reshape(-1, 2).sum(axis=1))

    def _job(self, distances: Scalars, spacing: float) -> RankJob:
        side = round(len(distances) ** (1 / 3))
        steps = np.stack(np.meshgrid(*[np.arange(float(side))] * 3, indexing="ij"), -1)
        first = spacing * steps.reshape(-1, 3)
        second = first.copy()
        second[:, 2] += distances
        return RankJob(
            stream=0,
            positions=np.stack([first, second], 1).reshape(-1, 3),
            numbers=np.tile(self._numbers, len(first)),
            cell=np.eye(3) * spacing * side,
            pbc=(True, True, True),
            energies=True,
        )

    def _has_energy(self, distance: float) -> bool:
        one = replace(self._setup, accelerated=False)
        alone = self._job(np.array([distance]), 4.0 * self._cutoff)
        try:
            with closing(LammpsInstance(one, alone, Ranks())) as instance:
                return bool(np.isfinite(instance.evaluate(alone).energy))
        except (LammpsError, BadInput):
            return False
