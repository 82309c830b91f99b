"""Which atom type stands for which site weight. Pure arithmetic; knows no LAMMPS.

A SNAP that weights its site energies has, for each element, a type of weight 0, one of weight 1
and a number of types of any weight; one more type is invisible to it. Atoms of weight 0 next to a
weighted one are its neighbours and nothing else; those farther away are not needed at all.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from clients.engines.lammps_mpi import Order
from clients.engines.neighbours import completed, wrap
from mixserver.arrays import Indices, Mask, Matrix, Numbers, Scalars, Vectors

_HEAD_ROOM: Final = 1.3
_LEAST_ROOM: Final = 16
_MARGIN: Final = 0.6
"""Å beyond the cutoff within which atoms of weight 0 stay visible, so that most steps need no new
search."""
_VOXELS: Final = 6
"""Per reach. Some atoms a voxel or two beyond the reach count as near."""
_FEW: Final = 64
"""Atoms of weight 0 that are not worth a search: hardly any of them can be far from all sites."""
_MOST_VOXELS: Final = 64
"""Along each axis."""
_HIDDEN, _ZERO, _ONE = 0, 1, 2
_MUCH: Final = 3.0
"""Times the room that would be given now: worth new instances."""
_LONG: Final = 100
"""Evaluations in a row. New instances cost as much as a few evaluations."""


class Crowded(Exception):
    """There are more different weights than atom types; an instance with more is needed."""


@dataclass(frozen=True, slots=True)
class Assigned:
    """Types of all atoms, and what they stand for."""

    classes: NDArray[np.int8]
    """(n,) hidden, zero or weighted: a change of these changes who is whose neighbour."""
    kinds: NDArray[np.int32]
    """(n,) atom types, counted from 1."""
    scale: Scalars
    """(types + 1,) the weight of each type, counted from 1."""


class Types:
    """Atom types for the weights of one set of atoms.

    Args:
        elements: atomic numbers the SNAP sees, in the order of its types.
        numbers: (n,) of the atoms.
        weights: (n,) the first weights; there will be room for some more different ones.
        reach: Å, the cutoff or more.
    """

    def __init__(
        self, elements: Sequence[int], numbers: Numbers, weights: Scalars, reach: float
    ) -> None:
        place = np.full(1 + max(int(numbers.max(initial=0)), *elements), -1)
        place[list(elements)] = np.arange(len(elements))
        self._element = place[numbers]
        self._shadow = _Shadow(reach)
        self.room: tuple[int, ...] = tuple(
            _room(len(self._others(weights, element)[0])) for element in range(len(elements))
        )
        """Types of any weight, per element."""
        self.wanted = sum(self.room)
        """How many there would be if they were made for the weights of the last `assign`."""

    def assign(self, order: Order, weights: Scalars) -> Assigned:
        """Find the type of each atom.

        Raises:
            Crowded: there are not enough types.
        """
        seen = self._element >= 0
        site = seen & (weights != 0.0)
        classes = np.where(site, np.int8(_ONE), np.int8(_HIDDEN))
        dark = np.flatnonzero(seen & ~site)
        if len(dark):
            classes[self._shadow.near(order, site, dark)] = _ZERO
        kinds = np.ones(len(weights), np.int32)
        lit = classes != _HIDDEN
        kinds[lit] = 2 * self._element[lit] + classes[lit] + 1
        start, wanted = 2 + 2 * len(self.room), 0
        scale = np.zeros(start + sum(self.room))
        scale[3:start:2] = 1.0
        for element, room in enumerate(self.room):
            values, atoms, which = self._others(weights, element)
            if len(values) > room:
                raise Crowded
            kinds[atoms] = start + which
            scale[start : start + len(values)] = values
            start += room
            wanted += _room(len(values))
        self.wanted = wanted
        return Assigned(classes, kinds, scale)

    def _others(self, weights: Scalars, element: int) -> tuple[Scalars, Indices, NDArray[np.intp]]:
        """The weights of one element that are neither 0 nor 1, whose, and which is whose."""
        atoms = np.flatnonzero((self._element == element) & (weights != 0.0) & (weights != 1.0))
        values, which = np.unique(weights[atoms], return_inverse=True)
        return values, atoms, which


def _room(different: int) -> int:
    """Types of any weight that an element is given for so many different ones."""
    return max(_LEAST_ROOM, int(_HEAD_ROOM * different))


class Slack:
    """For how long there was room for far more different weights than there were."""

    def __init__(self) -> None:
        self._count = 0

    def note(self, room: int, wanted: int) -> None:
        """Count an evaluation: the types there are, and those that would be made for it."""
        self._count = self._count + 1 if room > _MUCH * wanted else 0

    @property
    def long(self) -> bool:
        """Whether it was so for long: with fewer types evaluations take less time."""
        return self._count >= _LONG


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
        if len(dark) <= _FEW:
            self._site = None
            return dark
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
    """Those dark atoms that have a site within reach, and some a little farther away.

    Space is divided into voxels; a sum over shifted copies of the voxels that hold sites, done as
    a product of Fourier transforms, tells which of them lie within reach of one.
    """
    full = completed(order.cell, order.pbc)
    inverse = np.linalg.inv(full)
    fraction = wrap(order.positions, order.cell, order.pbc) @ inverse
    low, size = fraction.min(axis=0), np.ptp(fraction, axis=0)
    periodic = np.asarray(order.pbc)
    low[periodic], size[periodic] = 0.0, 1.0
    size = np.maximum(size, 1e-9)
    height = size / np.linalg.norm(inverse, axis=0)
    count = np.clip(np.floor(height * _VOXELS / reach), 1, _MOST_VOXELS).astype(int)
    voxel = np.clip((fraction - low) / size * count, 0, count - 1).astype(int)
    occupied = np.zeros(count)
    occupied[tuple(voxel[site].T)] = 1.0

    width = height / count
    stretch = [np.arange(-most, most + 1) for most in (reach // width).astype(int) + 1]
    offset = np.stack(np.meshgrid(*stretch, indexing="ij"), -1).reshape(-1, 3)
    edges = full * (size / count)[:, None]
    corners = np.array([[1, 1, 1], [1, 1, -1], [1, -1, 1], [-1, 1, 1]]) @ edges
    diagonal = float(np.sqrt(np.square(corners).sum(axis=1).max()))
    apart = np.sqrt(np.square(offset @ edges).sum(axis=1)) - diagonal
    between = np.maximum(np.abs(offset) - 1, 0) * width  # of planes
    apart = np.maximum(apart, between.max(axis=1))
    if np.allclose(edges @ edges.T, np.diag(width**2), rtol=0, atol=1e-9 * reach**2):
        apart = np.sqrt(np.square(between).sum(axis=1))  # a right-angled voxel
    seen = np.zeros(count)
    seen[tuple((offset[apart <= reach] % count).T)] = 1.0
    sites = np.fft.irfftn(
        np.fft.rfftn(occupied) * np.fft.rfftn(seen), s=tuple(count), axes=(0, 1, 2)
    )
    near: Indices = dark[sites[tuple(voxel[dark].T)] > 0.5]
    return near
