"""One SNAP with weighted site energies, through LAMMPS's `scale` matrix.

PairSNAP multiplies site energy and forces of an atom by scale[t][t], t its atom type. So atoms of
different weights get different types of the same element. Atoms of weight 0 next to a weighted
one do not see each other; those farther away are invisible to LAMMPS and cost nothing.
Knows weights and types of one SNAP; knows no other parts.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from clients.engines.lammps_instance import Evaluated, Instance, Setup
from clients.engines.lammps_mpi import Order, Ranks
from clients.engines.lammps_parts import Snap
from clients.engines.neighbours import completed, pairs, wrap
from mixserver.arrays import Indices, Mask, Matrix, Scalars, Vectors
from mixserver.errors import BadInput

MOST_TYPES: Final = 4000
"""LAMMPS's tables grow with the square: 4000 types are about 1 GB."""
_NOTHING: Final = 1e-150
"""Smaller weights are 0: their site energies could not be divided by them."""
_HEAD_ROOM: Final = 1.3
_LEAST_ROOM: Final = 16
_MARGIN: Final = 1.5
"""Å beyond the cutoff within which atoms of weight 0 stay visible, so that most steps need no new
search."""
_HIDDEN, _ZERO, _ONE, _OTHER = 0, 1, 2, 3


class Crowded(Exception):
    """There are more different weights than atom types; an instance with more is needed."""


class SnapPart(Instance):
    """LAMMPS with one SNAP and atoms whose site energies are weighted.

    Args:
        setup: as of the plain potential; its commands are not used.
        snap: the SNAP.
        reach: Å, its cutoff or more.
        order: the first evaluation, with weights.
        ranks: who evaluates.

    Raises:
        BadInput: atoms on top of each other, or too many different weights.
        LammpsError: LAMMPS refused.
    """

    def __init__(self, setup: Setup, snap: Snap, reach: float, order: Order, ranks: Ranks) -> None:
        element = np.full(max(setup.numbers) + 1, -1)
        element[[setup.numbers[kind] for kind in snap.seen]] = np.arange(len(snap.seen))
        self._element = element[order.numbers]
        self._shadow = _Shadow(reach)
        weights = _weights(order)
        self._room = tuple(
            max(_LEAST_ROOM, int(_HEAD_ROOM * len(self._others(weights, e)[0])))
            for e in range(len(snap.seen))
        )
        types = snap.types(self._room)
        if types > MOST_TYPES:
            raise BadInput(
                f"the atoms have {types} different site weights, more than the {MOST_TYPES} LAMMPS "
                "can tell apart. Make the blend narrower."
            )
        self._classes, kinds, self._scale = self._assigned(order, weights)
        many = replace(setup, after_box=snap.commands(self._room), numbers=(1,) * types)
        super().__init__(many, order, ranks, kinds=kinds)

    def evaluate(self, order: Order) -> Evaluated:
        """Evaluate positions and weights of the same atoms.

        Raises:
            Crowded: a part with more atom types is needed.
            BadInput: atoms on top of each other.
            LammpsError: LAMMPS refused.
        """
        weights = _weights(order)
        classes, kinds, scale = self._assigned(order, weights)
        # LAMMPS chose the neighbours by class; among the types of one class it does not matter.
        anew = not np.array_equal(classes, self._classes)
        self._classes = classes
        rows = self._library.order()
        if len(rows) and rows.max() < len(kinds):
            self._library.kinds()[:] = kinds[rows]
        np.fill_diagonal(self._library.pair_matrix("scale"), scale)
        wanted = ["thermo_pe", "mx_v"] + (["mx_e"] if order.energies else [])
        self._advance(order, wanted, full=anew or self._fresh or not self._lean)
        self._fresh = False
        found = self._results(order, "")
        if found.energies is None:
            return found
        plain = np.divide(found.energies, weights, out=np.zeros(len(weights)), where=weights != 0.0)
        return replace(found, energies=plain)

    def _assigned(
        self, order: Order, weights: Scalars
    ) -> tuple[NDArray[np.int8], NDArray[np.int32], Scalars]:
        """Class and atom type of each atom, and the scale of each type."""
        seen = self._element >= 0
        site = seen & (weights != 0.0)
        classes = np.where(site, np.int8(_ONE), np.int8(_HIDDEN))
        dark = np.flatnonzero(seen & ~site)
        if len(dark):
            near = self._shadow.near(order, site, dark)
            classes[near] = _ZERO
        elements = len(self._room)
        kinds = np.ones(len(weights), np.int32)
        lit = classes != _HIDDEN
        kinds[lit] = 2 * self._element[lit] + classes[lit] + 1
        scale = np.zeros(2 + 2 * elements + sum(self._room))
        scale[3 : 3 + 2 * elements : 2] = 1.0
        start = 2 + 2 * elements
        for element, room in enumerate(self._room):
            values, atoms, which = self._others(weights, element)
            if len(values) > room:
                raise Crowded
            kinds[atoms] = start + which
            scale[start : start + len(values)] = values
            start += room
        return classes, kinds, scale

    def _others(self, weights: Scalars, element: int) -> tuple[Scalars, Indices, NDArray[np.intp]]:
        """The weights of one element that are neither 0 nor 1, whose, and which is whose."""
        atoms = np.flatnonzero((self._element == element) & (weights != 0.0) & (weights != 1.0))
        values, which = np.unique(weights[atoms], return_inverse=True)
        return values, atoms, which


class _Shadow:
    """Which atoms of weight 0 are near weighted ones; searched anew only when need be."""

    def __init__(self, reach: float) -> None:
        self._reach = reach
        self._site: Mask | None = None
        self._positions: Vectors = np.zeros((0, 3))
        self._cell: Matrix = np.eye(3)
        self._found: Indices = np.zeros(0, np.intp)

    def near(self, order: Order, site: Mask, dark: Indices) -> Indices:
        """Those of the dark atoms that a site sees, and some more."""
        if self._site is None or not np.array_equal(site, self._site) or self._moved(order):
            self._site, self._positions = site, order.positions.copy()
            self._cell = completed(order.cell, order.pbc)
            self._found = _near(order, site, dark, self._reach + _MARGIN)
        return self._found

    def _moved(self, order: Order) -> bool:
        """Whether two atoms may have come closer by the margin since the last search."""
        strain = np.linalg.inv(self._cell) @ completed(order.cell, order.pbc)
        moved = np.sqrt(
            np.square(order.positions - self._positions @ strain).sum(axis=1).max(initial=0.0)
        )
        size = float(np.linalg.norm(strain - np.eye(3), 2))
        return bool(2.0 * moved + size * (self._reach + _MARGIN) > 0.9 * _MARGIN)


def _near(order: Order, site: Mask, dark: Indices, reach: float) -> Indices:
    """Those dark atoms that have a site within reach."""
    kept = np.sort(np.concatenate([dark, _candidates(order, site, dark, reach)]))
    found = pairs(order.positions[kept], order.cell, order.pbc, reach)
    seen = kept[found.first[site[kept[found.second]]]]
    return np.asarray(np.intersect1d(seen, dark))


def _candidates(order: Order, site: Mask, dark: Indices, reach: float) -> Indices:
    """The sites in the cells, at least `reach` wide, of dark atoms and in those around."""
    full = completed(order.cell, order.pbc)
    inverse = np.linalg.inv(full)
    fraction = wrap(order.positions, order.cell, order.pbc) @ inverse
    low, size = fraction.min(axis=0), np.ptp(fraction, axis=0)
    periodic = np.asarray(order.pbc)
    low[periodic], size[periodic] = 0.0, 1.0
    width = reach * np.linalg.norm(inverse, axis=0)
    count = np.clip(np.floor(size / width), 1, 100).astype(int)
    cell = np.clip((fraction - low) / np.maximum(size, 1e-300) * count, 0, count - 1).astype(int)
    marked = np.zeros(count, bool)
    marked[tuple(cell[dark].T)] = True
    for axis in range(3):
        marked |= np.roll(marked, 1, axis) | np.roll(marked, -1, axis)
    return np.flatnonzero(site & marked[tuple(cell.T)])


def _weights(order: Order) -> Scalars:
    if order.weight is None:
        return np.ones(len(order.positions))
    return np.where(np.abs(order.weight) < _NOTHING, 0.0, order.weight)
