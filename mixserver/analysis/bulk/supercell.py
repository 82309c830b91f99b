"""Supercells: crystals repeated along their lattice vectors."""

from __future__ import annotations

import itertools
import math
from typing import Final, TypeAlias

import numpy as np

from mixserver.core.arrays import Vectors
from mixserver.core.cell import plane_spacings
from mixserver.core.errors import ConfigError
from mixserver.core.frame import Frame, Topology

Repeats: TypeAlias = tuple[int, int, int]

_ALIKE: Final = 1e-3
"""Relative difference of widths that count as equal."""


def repeated(crystal: Frame, repeats: Repeats) -> Frame:
    """A crystal repeated along its lattice vectors.

    Atom i of the crystal in cell c is atom c N + i; cells are ordered as in `cell_origins`.
    """
    if min(repeats) < 1:
        raise ConfigError(f"a crystal is repeated 1 or more times along each vector, not {repeats}")
    places = cell_origins(repeats)
    positions = (places @ crystal.cell)[:, None] + crystal.positions
    topology = Topology(np.tile(crystal.topology.numbers, len(places)), crystal.topology.pbc)
    cell = np.array(repeats, dtype=np.float64)[:, None] * crystal.cell
    return topology.frame(positions.reshape(-1, 3), cell)


def cell_origins(repeats: Repeats) -> Vectors:
    """The origins (cells, 3) of repeated cells, in lattice vectors; the third runs fastest."""
    return np.array(list(itertools.product(*(range(n) for n in repeats))), dtype=np.float64)


def repeats_for_atoms(crystal: Frame, atoms: int) -> Repeats:
    """Repetitions that give `atoms` or more in a supercell as close to cubic as possible.

    The supercell grows along its thinnest direction, along several that are equally thin at once,
    so that a cube stays a cube.
    """
    if atoms < 1:
        raise ConfigError(f"a supercell of {atoms} atoms is not possible; give 1 or more")
    height, counts = plane_spacings(crystal.cell), np.ones(3, dtype=np.int64)
    while len(crystal) * counts.prod() < atoms:
        width = height * counts
        counts[width < width.min() * (1.0 + _ALIKE)] += 1
    return int(counts[0]), int(counts[1]), int(counts[2])


def repeats_for_length(crystal: Frame, least: float, *, even: bool = False) -> Repeats:
    """Repetitions, if `even` even ones, that make all plane spacings (Å) `least` or more."""
    if not 0.0 < least < 1000.0:
        raise ConfigError(f"the least length of a supercell is {least} Å; give one around 10")
    counts = [max(1, math.ceil(least / height - 1e-6)) for height in plane_spacings(crystal.cell)]
    if even:
        counts = [n + n % 2 for n in counts]
    return counts[0], counts[1], counts[2]


def without_atom(frame: Frame, atom: int) -> Frame:
    """The frame with one atom removed, by its index."""
    topology = Topology(np.delete(frame.topology.numbers, atom), frame.topology.pbc)
    return topology.frame(np.delete(frame.positions, atom, axis=0), frame.cell)
