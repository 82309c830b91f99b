"""Pairwise potentials with weighted site energies: half of each pair's energy belongs to each atom.

LAMMPS lists every pair with its energy and force, which the two weights then scale by their mean.
So any pairwise style will do, without tables or approximations. Knows no many-body potentials: for
those LAMMPS refuses to list pairs, or the engine's check at start-up finds that it lies.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from clients.engines.lammps_instance import Evaluated, Instance, Setup
from clients.engines.lammps_mpi import Order, Ranks
from clients.engines.lammps_tables import Curve

_DEVICE: Final = ("package", "suffix")
_SWITCHES: Final = ("-k", "-kokkos", "-sf", "-suffix", "-pk", "-package")
_Table: TypeAlias = NDArray[np.float64]
_Kinds: TypeAlias = NDArray[np.int_]
_ENERGY: Final = 0
_FORCE: Final = slice(1, 4)
_APART: Final = slice(4, 7)


class PairPart(Instance):
    """LAMMPS with a pairwise potential and atoms whose site energies are weighted.

    Args:
        setup: as of the plain potential; its commands are not used.
        commands: of the pairwise potential.
        curves: energies of the atom types whose forces in LAMMPS are no gradient.
        order: the first evaluation.
        ranks: who evaluates.

    Raises:
        BadInput: atoms on top of each other.
        LammpsError: LAMMPS refused; it does if the potential is not pairwise.
    """

    def __init__(
        self,
        setup: Setup,
        commands: tuple[str, ...],
        curves: tuple[Curve, ...],
        order: Order,
        ranks: Ranks,
    ) -> None:
        here = replace(
            setup,
            before_box=tuple(t for t in setup.before_box if t.split()[0] not in _DEVICE),
            after_box=commands,
            arguments=on_host(setup.arguments),
            accelerated=False,
            site_energies=False,
        )
        super().__init__(here, order, ranks)
        kinds = {number: kind for kind, number in enumerate(setup.numbers, 1)}
        self._curves = curves
        self._kinds = np.array([kinds[int(number)] for number in order.numbers])
        try:
            self._library.command("compute mx_who all property/local patom1 patom2")
            self._library.command("compute mx_pair all pair/local eng fx fy fz dx dy dz")
        except BaseException:
            self.close()
            raise

    def evaluate(self, order: Order) -> Evaluated:
        """Evaluate positions and weights of the same atoms.

        Raises:
            BadInput: atoms on top of each other.
            LammpsError: LAMMPS refused.
        """
        self._advance(order, ["thermo_pe"], full=self._fresh or not self._lean)
        self._fresh = False
        n = len(order.positions)
        first, second = self._library.local("mx_who").astype(np.intp).T - 1
        pair = self._library.local("mx_pair")
        if self._curves:
            pair = self._smooth(pair.copy(), self._kinds[first], self._kinds[second])
        weight = np.ones(n) if order.weight is None else order.weight
        mean = 0.5 * (weight[first] + weight[second])
        force = pair[:, _FORCE] * mean[:, None]
        sums = np.empty((n + 4, 4))
        for axis in range(3):
            along = force[:, axis]
            sums[:n, axis] = np.bincount(first, along, n) - np.bincount(second, along, n)
        energy = pair[:, _ENERGY]
        sums[:n, 3] = 0.5 * (np.bincount(first, energy, n) + np.bincount(second, energy, n))
        sums[n : n + 3, :3] = pair[:, _APART].T @ force
        sums[n : n + 3, 3] = 0.0
        sums[n + 3] = mean @ energy
        sums = self._ranks.total(sums)
        virial = sums[n : n + 3, :3]
        return Evaluated(
            energy=float(sums[-1, 0]),
            forces=np.ascontiguousarray(self._box.outward(sums[:n, :3])),
            virial=self._box.virial_outward(0.5 * (virial + virial.T)),
            energies=sums[:n, 3].copy() if order.energies else None,
            values=None,
        )

    def _smooth(self, pair: _Table, one: _Kinds, other: _Kinds) -> _Table:
        """Put energies and forces of the curves in their places."""
        for curve in self._curves:
            a, b = curve.kinds
            rows = np.flatnonzero(((one == a) & (other == b)) | ((one == b) & (other == a)))
            apart = pair[rows, _APART]
            distance = np.sqrt(np.square(apart).sum(axis=1))
            known = distance >= curve.start
            rows, apart, distance = rows[known], apart[known], distance[known]
            pair[rows, _ENERGY], slope = curve.at(distance)
            pair[rows, _FORCE] = apart * (-slope / distance)[:, None]
        return pair


def on_host(arguments: Sequence[str]) -> tuple[str, ...]:
    """Command line switches for LAMMPS without accelerators, which list no pairs."""
    kept: list[str] = []
    dropping = False
    for word in arguments:
        if word.startswith("-") and not word[1:2].isdigit():
            dropping = word in _SWITCHES
        if not dropping:
            kept.append(word)
    return tuple(kept)
