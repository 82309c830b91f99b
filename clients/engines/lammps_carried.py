"""A pairwise potential with weighted site energies, evaluated by LAMMPS alone.

Each weight of an element has an atom type of its own, and LAMMPS multiplies by a matrix over pairs
of types that it lets us write (`lammps_carrier` says what). Types and matrix follow the weights
without a new set-up. Knows no other parts of a potential.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from clients.engines.lammps_carrier import Carrier, alone
from clients.engines.lammps_instance import Evaluated, Instance, Setup
from clients.engines.lammps_mpi import Order, Ranks
from clients.engines.lammps_snap import weights_of
from clients.engines.lammps_types import Crowded
from mixserver.arrays import Numbers, Scalars
from mixserver.private import private_folder

_ROOM: Final = 16
"""Types that each element has at least, and those it has more than were needed at first."""
_IMPOSSIBLE: Final = 1e20
"""eV or eV/Å. What the walls of the tables give is beyond it, and nothing else."""


class TooClose(Exception):
    """Two atoms are closer than the tables reach; another way is needed for these positions."""


class CarrierPart(Instance):
    """LAMMPS with pairs of elements of a pairwise potential, and weighted atoms.

    Args:
        setup: as of the plain potential; its commands are not used.
        carrier: the tables.
        order: the first evaluation, with weights.
        ranks: who evaluates.

    Raises:
        BadInput: atoms on top of each other.
        LammpsError: LAMMPS refused.
    """

    def __init__(self, setup: Setup, carrier: Carrier, order: Order, ranks: Ranks) -> None:
        self._elements = [setup.numbers[kind - 1] for kind in carrier.kinds]
        # Atoms the tables do not see have type 1, if there are such elements.
        self._unseen = int(len(self._elements) < len(setup.numbers))
        counts = different(order.numbers, weights_of(order), self._elements)
        self._room = [_room(count) for count in counts]
        self.wanted = sum(self._room)
        """Types there would be if it was made for the weights of the last evaluation."""
        names = ["NULL"] * self._unseen
        for kind, room in zip(carrier.kinds, self._room, strict=True):
            names += [f"X{kind}"] * room
        with private_folder() as folder:
            file = Path(folder, "pairs.eam.fs")
            file.write_text(carrier.text())
            many = replace(
                alone(setup, _commands(file, names)), site_energies=True, numbers=(1,) * len(names)
            )
            self._kinds, self._half = self._assign(order)
            super().__init__(many, order, ranks, kinds=self._kinds)
        self._write_scale()

    @property
    def room(self) -> int:
        """Types that there are."""
        return sum(self._room)

    def evaluate(self, order: Order) -> Evaluated:
        """Evaluate positions and weights of the same atoms.

        Raises:
            Crowded: a part with more atom types is needed.
            TooClose: two atoms are closer than the tables reach.
            BadInput: atoms on top of each other.
            LammpsError: LAMMPS refused.
        """
        weights = weights_of(order)
        self._weigh(*self._assign(order))
        full, self._fresh = self._fresh, True  # if anything goes wrong, the next has a set-up
        wanted = ["thermo_pe", "mx_v"] + (["mx_e"] if order.energies else [])
        self._advance(order, wanted, full=full)
        self._fresh = False
        found = self._results(order, "")
        largest = max(abs(found.energy), float(np.abs(found.forces).max(initial=0.0)))
        # Complete on rank 0 only. Written so that NaN is impossible, too.
        if self._ranks.any(self._ranks.rank == 0 and not largest < _IMPOSSIBLE):
            raise TooClose
        if found.energies is None:
            return found
        plain = np.divide(found.energies, weights, out=np.zeros(len(weights)), where=weights != 0.0)
        return replace(found, energies=plain)

    def _assign(self, order: Order) -> tuple[NDArray[np.int32], Scalars]:
        """The type of each atom, counted from 1, and half the weight of type 1, 2, ...

        It is NaN for types that stand for no atom.

        Raises:
            Crowded: there are not enough types.
        """
        weights = weights_of(order)
        kinds = np.ones(len(weights), np.int32)
        half = np.full(self._unseen + sum(self._room), np.nan)
        start, wanted = self._unseen, 0
        for element, room in zip(self._elements, self._room, strict=True):
            atoms = np.flatnonzero(order.numbers == element)
            values, first, which = np.unique(weights[atoms], return_index=True, return_inverse=True)
            if len(values) > room:
                raise Crowded
            # In the order of the atoms: neighbours then share cache lines, and types stay the same
            # when many weights change a little.
            order_of = np.argsort(first)
            place = np.empty(len(values), np.intp)
            place[order_of] = np.arange(len(values))
            kinds[atoms] = 1 + start + place[which]
            half[start : start + len(values)] = 0.5 * values[order_of]
            start += room
            wanted += _room(len(values))
        self.wanted = wanted
        return kinds, half

    def _weigh(self, kinds: NDArray[np.int32], half: Scalars) -> None:
        """Give LAMMPS types and weights. Ghosts have types too, which pairs look at."""
        if not np.array_equal(half, self._half, equal_nan=True):
            self._half = half
            self._write_scale()
        if not np.array_equal(kinds, self._kinds):
            self._kinds = kinds
            rows = self._library.order(ghosts=True)
            if len(rows) and rows.max() < len(kinds):  # else atoms were lost, as is found next
                self._library.kinds(ghosts=True)[:] = kinds[rows]

    def _write_scale(self) -> None:
        scale = self._library.pair_matrix("scale")[1:, 1:]
        starts = self._unseen + np.cumsum([0, *self._room])
        used = [
            slice(start, start + int(np.isfinite(self._half[start:end]).sum()))
            for start, end in itertools.pairwise(starts.tolist())
        ]
        for rows, columns in itertools.product(used, used):
            np.add.outer(self._half[rows], self._half[columns], out=scale[rows, columns])


def _room(count: int) -> int:
    """Types for an element with so many different weights."""
    return _ROOM + int(1.3 * count)


def different(numbers: Numbers, weights: Scalars, elements: Sequence[int]) -> list[int]:
    """How many different weights the atoms of each element have."""
    return [len(np.unique(weights[numbers == element])) for element in elements]


def _commands(file: Path, names: Sequence[str]) -> tuple[str, ...]:
    last = f'eam/fs "{file}" {" ".join(names)}'
    if "NULL" not in names:
        return "pair_style eam/fs", f"pair_coeff * * {last.removeprefix('eam/fs ')}"
    return "pair_style hybrid/overlay eam/fs", "pair_coeff * * none", f"pair_coeff * * {last}"
