"""Assigns atom types to site weights: pure arithmetic, without LAMMPS.

Type 1 is invisible. Each element has three fixed types: neighbours of weighted sites, evaluated
atoms of weight 0, and weight 1 (2, 3 and 4 for the first element, 5, 6 and 7 for the second, ...);
after those of all elements follow their types of any weight.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from mixserver.core.arrays import Indices, Numbers, Scalars
from mixserver_worker.engines.lammps.mpi import RankJob
from mixserver_worker.engines.lammps.weighting.visibility import EVALUATED, INVISIBLE, Visibility

_SPARE, _MOST_SPARE = 1.3, 200
_LEAST_TYPES: Final = 16
_FIXED: Final = 3
"""Types of each element besides those of any weight."""
COUNTED: Final = EVALUATED + 1
"""Class of the atoms of weight 1, besides those of `visibility`, for `type_of`."""
_EXCESS: Final = 3.0
"""Times the types that a new instance would have: worth making one."""
SHRINK_AFTER: Final = 100
"""Evaluations in a row with excess types. A new instance costs as much as a few evaluations."""


class TooManyWeights(Exception):
    """There are more different weights than atom types; an instance with more types is needed."""


@dataclass(frozen=True, slots=True)
class TypeAssignment:
    """Atom types, and their weights."""

    classes: NDArray[np.int8]
    """(n,) as of `visibility`: LAMMPS chooses neighbours by these."""
    types: NDArray[np.int32]
    """(n,) atom types, from 1."""
    scale: Scalars
    """(types + 1,) weight of each type; index 0 is unused."""


class AtomTypes:
    """Atom types for the weights of one set of atoms.

    Args:
        elements: atomic numbers that the potential knows, in the order of its types.
        numbers: (n,) of the atoms.
        weights: (n,) the first weights; there are spare types for more different ones.
        reach: Å, the cutoff or more.
        spare: False if there are no weights but 0 and 1.
    """

    def __init__(
        self,
        elements: Sequence[int],
        numbers: Numbers,
        weights: Scalars,
        reach: float,
        *,
        spare: bool = True,
    ) -> None:
        place = np.full(1 + max(int(numbers.max(initial=0)), *elements), -1)
        place[list(elements)] = np.arange(len(elements))
        self._element = place[numbers]
        self._visibility = Visibility(self._element >= 0, reach)
        self.room: tuple[int, ...] = tuple(
            _type_count(len(self._others(weights, element)[0])) if spare else 0
            for element in range(len(elements))
        )
        """Number of types of any weight per element."""
        self.wanted = sum(self.room)
        """Types of any weight that an instance made for the last weights would have."""

    def assign(self, job: RankJob, weights: Scalars) -> TypeAssignment:
        """Assign a type to each atom.

        Raises:
            TooManyWeights: there are not enough types.
        """
        classes = self._visibility.classes(job, (self._element >= 0) & (weights != 0.0))
        types = np.ones(len(weights), np.int32)
        visible = classes != INVISIBLE
        place = classes + ((weights == 1.0) & visible)
        types[visible] = _FIXED * self._element[visible] + place[visible] + 1
        start, wanted = 2 + _FIXED * len(self.room), 0
        scale = np.zeros(start + sum(self.room))
        scale[1 + _FIXED : start : _FIXED] = 1.0
        for element, room in enumerate(self.room):
            values, atoms, which = self._others(weights, element)
            if len(values) > room:
                raise TooManyWeights
            types[atoms] = start + which
            scale[start : start + len(values)] = values
            start += room
            wanted += _type_count(len(values))
        self.wanted = wanted
        return TypeAssignment(classes, types, scale)

    def _others(self, weights: Scalars, element: int) -> tuple[Scalars, Indices, NDArray[np.intp]]:
        """Different weights of one element other than 0 and 1, their atoms, and each atom's."""
        atoms = np.flatnonzero((self._element == element) & (weights != 0.0) & (weights != 1.0))
        values, first, which = np.unique(weights[atoms], return_index=True, return_inverse=True)
        # In the order of the atoms: neighbours then share cache lines of LAMMPS's tables.
        by_atom = np.argsort(first)
        place = np.empty(len(values), np.intp)
        place[by_atom] = np.arange(len(values))
        return values[by_atom], atoms, place[which]


def type_of(element: int, class_: int) -> int:
    """The fixed type of an element, by its place, and a class (not INVISIBLE)."""
    return _FIXED * element + class_ + 1


def elements_of_types(room: Sequence[int]) -> list[int]:
    """Place of the element of type 2, 3, ... among the elements; `room` as of `AtomTypes`."""
    fixed = [element for element in range(len(room)) for _ in range(_FIXED)]
    return fixed + [element for element, count in enumerate(room) for _ in range(count)]


def no_pairs_of_zeros(elements: int) -> list[str]:
    """Commands by which neighbours of sites are no neighbours of each other in a hybrid/overlay.

    They take such pairs from all styles but zero, because neither atom is evaluated.
    """
    zeros = [2 + _FIXED * element for element in range(elements)]
    lines: list[str] = []
    for one, other in itertools.combinations_with_replacement(zeros, 2):
        lines += [f"pair_coeff {one} {other} none", f"pair_coeff {one} {other} zero"]
    return lines


def _type_count(weights: int) -> int:
    """Types of any weight for an element with so many different ones."""
    return max(_LEAST_TYPES, min(int(_SPARE * weights), weights + _MOST_SPARE))


class ExcessTypes:
    """Counts evaluations in a row with far more atom types than weights."""

    def __init__(self) -> None:
        self._count = 0

    def count(self, available: int, wanted: int) -> None:
        """Count an evaluation: its types, and those that a new instance would have."""
        self._count = self._count + 1 if available > _EXCESS * wanted else 0

    @property
    def persistent(self) -> bool:
        """Whether a new instance with fewer types, which is faster, is worth making."""
        return self._count >= SHRINK_AFTER
