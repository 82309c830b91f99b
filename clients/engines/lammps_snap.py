"""One SNAP with weighted site energies: every weight has an atom type of its own.

PairSNAP multiplies site energy and forces of an atom by scale[t][t], t its atom type; LAMMPS lets
us write that matrix. The SNAP of Kokkos does not look at it: there the coefficients themselves are
multiplied, and read again whenever a weight has changed.
Knows weights and types of one SNAP; knows no other parts.
"""

from __future__ import annotations

import contextlib
from dataclasses import replace
from pathlib import Path
from typing import Final, Literal, TypeAlias

import numpy as np

from clients.engines.lammps_instance import Evaluated, Instance, Setup
from clients.engines.lammps_mpi import Order, Ranks
from clients.engines.lammps_parts import Snap
from clients.engines.lammps_types import Assigned, Types
from clients.engines.lammps_words import words_of
from mixserver.arrays import Scalars
from mixserver.private import private_folder

Way: TypeAlias = Literal["scale", "coefficients"]
_NOTHING: Final = 1e-150
"""Smaller weights are 0: their site energies could not be divided by them."""


class SnapPart(Instance):
    """LAMMPS with one SNAP and atoms whose site energies are weighted.

    Args:
        setup: as of the plain potential; its commands are not used.
        snap: the SNAP.
        way: how LAMMPS gets the weights.
        reach: Å, its cutoff or more.
        order: the first evaluation, with weights.
        ranks: who evaluates.

    Raises:
        BadInput: atoms on top of each other.
        LammpsError: LAMMPS refused.
    """

    def __init__(
        self, setup: Setup, snap: Snap, way: Way, reach: float, order: Order, ranks: Ranks
    ) -> None:
        weights = weights_of(order)
        elements = [setup.numbers[kind] for kind in snap.seen]
        self._types = Types(elements, order.numbers, weights, reach)
        self._snap, self._now = snap, self._types.assign(order, weights)
        self._table = _Table(snap, self._types.room) if way == "coefficients" else None
        many = replace(
            setup,
            after_box=(*snap.styles(), *self._coefficients(self._now.scale)),
            numbers=(1,) * (len(self._now.scale) - 1),
        )
        try:
            super().__init__(many, order, ranks, kinds=self._now.kinds)
        except BaseException:
            if self._table is not None:
                self._table.close()
            raise

    @property
    def room(self) -> int:
        """Atom types of any weight that there are."""
        return sum(self._types.room)

    @property
    def wanted(self) -> int:
        """Those that there would be if it was made for the weights now."""
        return self._types.wanted

    def close(self) -> None:
        """End LAMMPS."""
        super().close()
        if self._table is not None:
            self._table.close()

    def evaluate(self, order: Order) -> Evaluated:
        """Evaluate positions and weights of the same atoms.

        Raises:
            Crowded: a part with more atom types is needed.
            BadInput: atoms on top of each other.
            LammpsError: LAMMPS refused.
        """
        weights = weights_of(order)
        full = self._weigh(self._types.assign(order, weights)) or self._fresh or not self._lean
        self._fresh = True  # should anything go wrong, the next evaluation starts with a set-up
        wanted = ["thermo_pe", "mx_v"] + (["mx_e"] if order.energies else [])
        self._advance(order, wanted, full=full)
        self._fresh = False
        found = self._results(order, "")
        if found.energies is None:
            return found
        plain = np.divide(found.energies, weights, out=np.zeros(len(weights)), where=weights != 0.0)
        return replace(found, energies=plain)

    def _weigh(self, new: Assigned) -> bool:
        """Give LAMMPS types and weights; whether it needs a full set-up for them."""
        old, self._now = self._now, new
        # LAMMPS chose the neighbours by class; among the types of one class it does not matter.
        anew = not np.array_equal(new.classes, old.classes)
        rows = self._library.order()
        if len(rows) and rows.max() < len(new.kinds):  # else atoms were lost, as is found next
            self._library.kinds()[:] = new.kinds[rows]
        if self._table is None:
            np.fill_diagonal(self._library.pair_matrix("scale"), new.scale)
            return anew
        if np.array_equal(new.scale, old.scale) and np.array_equal(new.kinds, old.kinds):
            return anew
        for text in self._coefficients(new.scale):
            self._library.command(text)
        return True

    def _coefficients(self, scale: Scalars) -> tuple[str, ...]:
        if self._table is None:
            return self._snap.coefficients(self._types.room)
        return self._snap.coefficients(self._types.room, *self._table.write(scale))


class _Table:
    """A file of coefficients with a block for each atom type, multiplied by its weight."""

    def __init__(self, snap: Snap, room: tuple[int, ...]) -> None:
        self._folder = contextlib.ExitStack()
        self._file = Path(self._folder.enter_context(private_folder()), "weighted.snapcoeff")
        source, self._parameters = words_of(snap.files)
        lines = [line.split("#")[0].split() for line in Path(source).read_text().splitlines()]
        words = [word for line in lines for word in line]
        elements, width = int(words[0]), 3 + int(words[1])
        starts = range(2, 2 + elements * width, width)
        blocks = {words[at]: words[at + 1 : at + width] for at in starts}
        names = snap.spread(room)
        self._heads = [" ".join(blocks[name][:2]) for name in names]
        values = {name: np.array([float(word) for word in blocks[name][2:]]) for name in blocks}
        self._values = np.array([values[name] for name in names])

    def write(self, scale: Scalars) -> tuple[str, tuple[str, ...]]:
        """Files for pair_coeff, and the names of the blocks of the types from 2 on."""
        weighted = self._values * scale[2:, None]
        names = tuple(f"t{k}" for k in range(2, len(scale)))
        text = [f"# weighted\n{len(names)} {weighted.shape[1]}\n"]
        for name, head, row in zip(names, self._heads, weighted.tolist(), strict=True):
            text.append(f"{name} {head}\n" + "\n".join(map(repr, row)) + "\n")
        self._file.write_text("".join(text))
        return f'"{self._file}" "{self._parameters}"', names

    def close(self) -> None:
        """Remove the file."""
        self._folder.close()


def weights_of(order: Order) -> Scalars:
    """The weights of an evaluation, tiny ones made 0."""
    if order.weight is None:
        return np.ones(len(order.positions))
    return np.where(np.abs(order.weight) < _NOTHING, 0.0, order.weight)
