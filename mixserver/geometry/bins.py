"""Which atoms may be near any of several sources spread over a cell: a coarse, quick first look.

A box around all sources culls nothing when they are spread. So space is cut into bins of the cell's
shape, and those that a source can reach are ticked. Knows fractions of a cell, no distances.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

import numpy as np

from mixserver.arrays import Indices, Scalars, Vectors

_PER_REACH: Final = 2.0
"""Bins in a reach: more of them fit a ball more closely, but are more to tick."""
_MOST: Final = 64
"""Bins along an axis."""


class Bins:
    """Ticks what some sources can reach.

    Args:
        places: (s, 3) of the sources, in boxes from the corner of the box.
        pads: (3,) how far they reach, in boxes.
        periodic: whether the box repeats along each axis; where it does not, places and what they
            reach lie in [0, 1].
    """

    def __init__(self, places: Vectors, pads: Sequence[float], periodic: Sequence[bool]) -> None:
        self._shape = tuple(max(1, min(_MOST, math.floor(_PER_REACH / pad))) for pad in pads)
        reached = np.zeros(self._shape, dtype=np.bool_)
        along: list[Indices] = []
        for axis, (count, pad) in enumerate(zip(self._shape, pads, strict=True)):
            low = np.floor((places[:, axis] - pad) * count).astype(np.intp)
            bins = low[:, None] + np.arange(math.ceil(2.0 * pad * count) + 1)
            along.append(bins % count if periodic[axis] else bins.clip(0, count - 1))
        reached[along[0][:, :, None, None], along[1][:, None, :, None], along[2][:, None, None]] = (
            True
        )
        self._reached = reached.ravel()

    @property
    def worthwhile(self) -> bool:
        """Whether they spare enough atoms to be worth the look."""
        return bool(2 * np.count_nonzero(self._reached) < len(self._reached))

    def among(self, columns: Sequence[Scalars]) -> Indices:
        """Find the places that may be in reach.

        Args:
            columns: three of (n,), in [0, 1]: the place along each axis.
        """
        number: Indices = np.zeros(len(columns[0]), dtype=np.intp)
        for column, count in zip(columns, self._shape, strict=True):
            number *= count
            number += np.minimum((column * count).astype(np.intp), count - 1)
        return np.flatnonzero(self._reached.take(number))
