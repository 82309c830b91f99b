"""Bins: which atoms may be near any of several sources that are spread over a cell.

A box around all sources excludes nothing when they are spread. So space is cut into bins of the
cell's shape, and the bins that a source reaches are marked, in fractional coordinates alone.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

import numpy as np

from mixserver.core.arrays import Indices, Scalars, Vectors

_PER_REACH: Final = 2.0
"""Bins in a reach. More of them follow a ball more closely, but take longer to mark."""
_MOST: Final = 64
"""Bins along an axis."""


class Bins:
    """Marks the bins that some sources reach.

    Args:
        places: (s, 3) of the sources, as fractions of the box.
        pads: (3,) the reach, as fractions of the box.
        periodic: whether the box repeats along each axis; where it does not, the sources and all
            that they reach lie in [0, 1].
    """

    def __init__(self, places: Vectors, pads: Sequence[float], periodic: Sequence[bool]) -> None:
        self._shape = tuple(max(1, min(_MOST, math.floor(_PER_REACH / pad))) for pad in pads)
        reached = np.zeros(self._shape, dtype=np.bool_)
        along: list[Indices] = []
        for axis, (count, pad) in enumerate(zip(self._shape, pads, strict=True)):
            low = np.floor((places[:, axis] - pad) * count).astype(np.intp)
            bins = low[:, None] + np.arange(math.ceil(2.0 * pad * count) + 1)
            along.append(bins % count if periodic[axis] else bins.clip(0, count - 1))
        x, y, z = along
        reached[x[:, :, None, None], y[:, None, :, None], z[:, None, None]] = True
        self._reached = reached.ravel()

    @property
    def worthwhile(self) -> bool:
        """Whether enough bins are unmarked for a search to pay."""
        return bool(2 * np.count_nonzero(self._reached) < len(self._reached))

    def within(self, columns: Sequence[Scalars]) -> Indices:
        """Find the places in marked bins.

        Args:
            columns: three of (n,): the coordinate along each axis as a fraction of the box.
        """
        number: Indices = np.zeros(len(columns[0]), dtype=np.intp)
        for column, count in zip(columns, self._shape, strict=True):
            number *= count
            number += np.minimum((column * count).astype(np.intp), count - 1)
        return np.flatnonzero(self._reached.take(number))
