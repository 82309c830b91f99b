"""The neighbour shell of a crystal, and the atoms that do not have it: its defects."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from scipy.spatial import cKDTree

from mixserver.core.arrays import Indices, Scalars
from mixserver.core.frame import Frame
from mixserver.geometry import spacing
from mixserver.geometry.neighbours import with_images

_MOST: Final = 16
"""The largest coordination that is looked for; fcc has 12, bcc 14 with its second shell."""
_LEAST: Final = 3
"""The smallest: that of graphene. Pairs and chains are molecules."""
_GAP: Final = 1.2
"""The least ratio of the distances beyond and within a shell; a liquid has none so large."""


_SQUEEZED: Final = 0.85
"""Of the typical distance; an atom with a closer neighbour is an interstitial, whatever else."""


@dataclass(frozen=True)
class Shell:
    """The shell of neighbours that most atoms have."""

    neighbours: int
    cutoff: float
    """Å, in the middle of the gap beyond it."""
    others: Indices
    """Atoms with another number of neighbours within the cutoff, or with one that is too close,
    ascending."""
    counts: Indices
    """The number of neighbours of each of them."""


def neighbour_shell(frame: Frame) -> Shell | None:
    """Find the widest gap between neighbour shells, and the atoms whose shell is another.

    Distances are medians over all atoms, so some defects and thermal motion do not matter.

    Returns:
        None where there is no clear gap (a liquid, a glass, a few atoms).
    """
    near = spacing(frame)
    if near is None or len(frame) < 2 * _MOST:
        return None
    reach = 2.5 * near.typical
    places, _ = with_images(frame, reach)
    tree = cKDTree(places)
    distance, _ = tree.query(frame.wrapped, k=_MOST + 2, distance_upper_bound=reach)
    nearest: Scalars = distance[:, 1]
    median = np.median(distance[:, 1:], axis=0)  # the nearest of all is the atom itself
    median = median[np.isfinite(median)]
    if len(median) <= _LEAST:
        return None
    ratio = median[1:] / median[:-1]
    ratio[: _LEAST - 1] = 0.0
    shell = int(ratio.argmax())
    if ratio[shell] < _GAP:
        return None
    # rounded, so that the number in mix.toml is the one that was used
    cutoff = round(float(0.5 * (median[shell] + median[shell + 1])), 2)
    count = tree.query_ball_point(frame.wrapped, cutoff, return_length=True) - 1
    others = np.flatnonzero((count != shell + 1) | (nearest < _SQUEEZED * near.typical))
    return Shell(shell + 1, cutoff, others, count[others])
