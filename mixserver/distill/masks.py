"""Dividing the atoms of a structure into groups whose energies are labelled one by one.

Each atom belongs to one group, so that the groups' labels add up to the structure's. Three ways:
neighbourhoods of random atoms have surfaces like an expensive region's, slabs have flat ones, and
random subsets have nothing but surface. Knows no models and no files.
"""

from __future__ import annotations

from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from mixserver.frame import Frame
from mixserver.geometry import nearest

Way = Literal["balls", "slabs", "subsets"]
WAYS: Final[tuple[Way, ...]] = ("balls", "slabs", "subsets")

Groups = NDArray[np.int32]
"""(N,) which of the groups 0 .. K-1 an atom belongs to."""


def divide(frame: Frame, groups: int, way: Way, random: np.random.Generator) -> Groups:
    """Divide the atoms of a periodic frame into groups.

    Args:
        frame: the atoms.
        groups: K, how many; no more than there are atoms.
        way: "balls": neighbourhoods of random atoms, and the rest; "slabs": between parallel
            lattice planes; "subsets": at random.
        random: decides; the same state divides the same frame in the same way.

    Returns:
        (N,) groups 0 .. K-1, none of them empty.

    Raises:
        ValueError: fewer atoms than groups, or no group at all.
    """
    if not 1 <= groups <= len(frame):
        raise ValueError(f"{len(frame)} atoms cannot be divided into {groups} groups")
    match way:
        case "balls":
            return _balls(frame, groups, random)
        case "slabs":
            return _slabs(frame, groups, random)
        case "subsets":
            return _shares(random.permutation(len(frame)), groups)


def undivided(atoms: int) -> Groups:
    """(N,) one group of all atoms."""
    return np.zeros(atoms, dtype=np.int32)


def _balls(frame: Frame, groups: int, random: np.random.Generator) -> Groups:
    n = len(frame)
    share = n / groups
    # a ball of twice the share's volume surely holds the share of a crystal's atoms
    reach = (1.5 / np.pi * frame.volume * 2.0 / groups) ** (1.0 / 3.0)
    group = undivided(n)
    for number in range(1, groups):
        free = np.flatnonzero(group == 0)
        centre = random.choice(free, 1)
        size = max(1, int(share * random.uniform(0.5, 1.0)))
        distance = nearest(frame, centre, float(reach))[free]
        group[free[np.argsort(distance, kind="stable")[:size]]] = number
    return group


def _slabs(frame: Frame, groups: int, random: np.random.Generator) -> Groups:
    normal = np.zeros(3, dtype=np.int64)
    while not normal.any():
        normal = random.integers(-1, 2, 3)
    height = frame.fractional @ normal + random.uniform()
    return _shares(np.argsort(height - np.floor(height), kind="stable"), groups)


def _shares(order: NDArray[np.intp], groups: int) -> Groups:
    """Equal shares of the atoms in this order."""
    group = undivided(len(order))
    for number, share in enumerate(np.array_split(order, groups)):
        group[share] = number
    return group
