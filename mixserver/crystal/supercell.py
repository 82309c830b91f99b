"""Crystals repeated along their lattice vectors."""

from __future__ import annotations

import itertools
import math
from typing import Final, TypeAlias

import numpy as np

from mixserver.arrays import Vectors
from mixserver.errors import ConfigError
from mixserver.frame import Frame, Topology
from mixserver.geometry import heights

Repeats: TypeAlias = tuple[int, int, int]

_ALIKE: Final = 1e-3
"""Relative difference of heights that are equal."""


def repeated(crystal: Frame, repeats: Repeats) -> Frame:
    """A crystal repeated along its lattice vectors.

    Atom i of the crystal in cell c is atom c N + i; cells are counted as in `corners`.
    """
    if min(repeats) < 1:
        raise ConfigError(f"a crystal is repeated 1 or more times along each vector, not {repeats}")
    places = corners(repeats)
    positions = (places @ crystal.cell)[:, None] + crystal.positions
    topology = Topology(np.tile(crystal.topology.numbers, len(places)), crystal.topology.pbc)
    cell = np.array(repeats, dtype=np.float64)[:, None] * crystal.cell
    return topology.frame(positions.reshape(-1, 3), cell)


def corners(repeats: Repeats) -> Vectors:
    """(cells, 3) where the repeated cells begin, in lattice vectors; the third runs fastest."""
    return np.array(list(itertools.product(*(range(n) for n in repeats))), dtype=np.float64)


def for_atoms(crystal: Frame, atoms: int) -> Repeats:
    """How often to repeat a crystal to have so many atoms or more, as like a cube as can be.

    It grows where it is thinnest; along vectors that are equally thin alike, so that a cube stays
    a cube.
    """
    if atoms < 1:
        raise ConfigError(f"a supercell of {atoms} atoms was asked for; ask for 1 or more")
    height, counts = heights(crystal.inverse), np.ones(3, dtype=np.int64)
    while len(crystal) * counts.prod() < atoms:
        width = height * counts
        counts[width < width.min() * (1.0 + _ALIKE)] += 1
    return int(counts[0]), int(counts[1]), int(counts[2])


def for_length(crystal: Frame, least: float, *, even: bool = False) -> Repeats:
    """How often to repeat a crystal for all heights of its cell to be `least` (Å) or more.

    Args:
        crystal: its cell is repeated.
        least: Å between opposite faces.
        even: round up to even numbers.
    """
    if not 0.0 < least < 1000.0:
        raise ConfigError(f"the least length of a supercell is {least} Å; give one around 10")
    counts = [max(1, math.ceil(least / height - 1e-6)) for height in heights(crystal.inverse)]
    if even:
        counts = [n + n % 2 for n in counts]
    return counts[0], counts[1], counts[2]
