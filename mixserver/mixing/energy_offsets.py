"""Energy offsets: how much higher the expensive site energies lie than the cheap ones.

Every model has its own zero of energy for each element. Mixed without care, an atom would gain
electronvolts by becoming expensive. So a constant per element is taken off, the mean of e - c over
atoms like those of the bulk: those just outside the core.
"""

from __future__ import annotations

import functools
from typing import Final

import msgspec
import numpy as np

from mixserver.core.arrays import Indices, Numbers, Scalars
from mixserver.core.frame import Frame
from mixserver.geometry import distances_to_atoms
from mixserver.region.region import Region

_ENOUGH: Final = 32
"""Atoms of an element whose mean is taken; more, if the blend has more."""
_REACHES: Final = (2.5, 5.0, 10.0)
"""Å beyond the blend, one after the other, where atoms are looked for."""


class EnergyOffset(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The zero of one element, and how well it is known."""

    value: float
    """eV, mean of e - c."""
    spread: float
    """eV, standard deviation of e - c among the atoms looked at."""
    atoms: int
    """How many; 0 if the value was given."""
    bulk: bool
    """False if there were none outside the core."""


def matching_atoms(frame: Frame, region: Region) -> Indices:
    """(n,) atoms whose zeros of energy shall agree: blend and near it, of every element.

    Elements that occur in the core only are represented by their core atoms.
    """
    numbers = frame.topology.numbers
    outside = region.lambda_ < 1.0
    chosen = outside & (region.lambda_ > 0.0)

    @functools.cache
    def near(reach: float) -> Indices:
        return distances_to_atoms(frame, region.active, reach).atoms

    for number in np.unique(numbers):
        mine = numbers == number
        if not (outside & mine).any():
            chosen |= mine
            continue
        for reach in _REACHES:
            if np.count_nonzero(chosen & mine) >= _ENOUGH:
                break
            if len(region.active):
                chosen[near(reach)[(outside & mine)[near(reach)]]] = True
        if not (chosen & mine).any():  # nothing is expensive, or this element is far away
            chosen[np.flatnonzero(outside & mine)[:_ENOUGH]] = True
    return np.flatnonzero(chosen)


def align(numbers: Numbers, gaps: Scalars, expensive: Scalars) -> dict[int, EnergyOffset]:
    """The zero of each element.

    Args:
        numbers: (n,) atomic numbers of the atoms looked at.
        gaps: (n,) eV, e - c.
        expensive: (n,) their lambda.
    """
    found: dict[int, EnergyOffset] = {}
    for number in np.unique(numbers):
        mine = numbers == number
        found[int(number)] = EnergyOffset(
            value=float(gaps[mine].mean()),
            spread=float(gaps[mine].std()),
            atoms=int(np.count_nonzero(mine)),
            bulk=bool((expensive[mine] < 1.0).any()),
        )
    return found
