"""Division of the atoms of a structure into groups whose energies are labelled separately.

Each atom belongs to one group, so that the groups' labels add up to the structure's. Three ways:
neighbourhoods of random atoms have surfaces like an expensive region's, slabs have flat ones, and
random subsets are all surface.
"""

from __future__ import annotations

from typing import Final, Literal

import numpy as np

from mixserver.core.arrays import Groups, Indices
from mixserver.core.frame import Frame
from mixserver.geometry import nearest_distances

Scheme = Literal["balls", "slabs", "subsets"]
SCHEMES: Final[tuple[Scheme, ...]] = ("balls", "slabs", "subsets")


def divide_atoms(frame: Frame, groups: int, scheme: Scheme, random: np.random.Generator) -> Groups:
    """Divide the atoms of a periodic frame into groups.

    "balls" are neighbourhoods of random atoms, and the rest; "slabs" lie between parallel lattice
    planes; "subsets" are random.

    Returns:
        (N,) groups 0 .. K-1, none of them empty.

    Raises:
        ValueError: fewer atoms than groups, or no group at all.
    """
    if not 1 <= groups <= len(frame):
        raise ValueError(f"{len(frame)} atoms cannot be divided into {groups} groups")
    match scheme:
        case "balls":
            return _balls(frame, groups, random)
        case "slabs":
            return _slabs(frame, groups, random)
        case "subsets":
            return _shares(random.permutation(len(frame)), groups)


def single_group(atoms: int) -> Groups:
    """One group (N,) of all atoms."""
    return np.zeros(atoms, dtype=np.int32)


def _balls(frame: Frame, groups: int, random: np.random.Generator) -> Groups:
    n = len(frame)
    share = n / groups
    # a ball of twice the share's volume contains the share of a crystal's atoms
    reach = (1.5 / np.pi * frame.volume * 2.0 / groups) ** (1.0 / 3.0)
    group = single_group(n)
    for number in range(1, groups):
        free = np.flatnonzero(group == 0)
        centre = random.choice(free, 1)
        size = max(1, int(share * random.uniform(0.5, 1.0)))
        distance = nearest_distances(frame, centre, float(reach))[free]
        group[free[np.argsort(distance, kind="stable")[:size]]] = number
    return group


def _slabs(frame: Frame, groups: int, random: np.random.Generator) -> Groups:
    normal = np.zeros(3, dtype=np.int64)
    while not normal.any():
        normal = random.integers(-1, 2, 3)
    height = frame.fractional @ normal + random.uniform()
    return _shares(np.argsort(height - np.floor(height), kind="stable"), groups)


def _shares(order: Indices, groups: int) -> Groups:
    """Equal shares of the atoms in this order."""
    group = single_group(len(order))
    for number, share in enumerate(np.array_split(order, groups)):
        group[share] = number
    return group
