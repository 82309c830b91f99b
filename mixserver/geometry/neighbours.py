"""Neighbour lists of a whole system, by vesin, and its atoms with their periodic images.

From scratch, vesin (one thread, sorted) takes 0.3 to 0.7 of the time of a KD-tree of all images,
and 0.5 to 1.8 of matscipy's, for 64 to 64 000 atoms. For the atoms around *few* sources see
`distances`, `pairs` and `verlet_list`: among 64 000 atoms they find those within 6 Å of 4 or 30
sources in about 1 ms, where vesin takes 170 ms, matscipy 570 ms and a KD-tree of all atoms 9 ms.
"""

from __future__ import annotations

import sys
from typing import NamedTuple

import numpy as np

from mixserver.core.arrays import Indices, Scalars, Vectors
from mixserver.core.cell import plane_spacings
from mixserver.core.frame import Frame

# vesin imports PyTorch and CuPy if they are installed, to accept their arrays too. It gets NumPy's
# alone, and a server would start 2 s later and hold 200 MB more.
_UNUSED = [name for name in ("torch", "cupy") if name not in sys.modules]
sys.modules.update(dict.fromkeys(_UNUSED))  # type: ignore[arg-type]
try:
    from vesin import NeighborList
finally:
    for _name in _UNUSED:
        del sys.modules[_name]


class NeighbourList(NamedTuple):
    """All ordered pairs of atoms closer than a cutoff, sorted by the first atom.

    A pair of an atom and its own image counts too.
    """

    first: Indices
    """(p,)"""
    second: Indices
    """(p,)"""
    distance: Scalars
    """(p,) Å."""
    vector: Vectors
    """(p, 3) Å, from the first atom to the image of the second."""


def neighbour_list(frame: Frame, cutoff: float) -> NeighbourList:
    """Find all pairs of atoms closer than a cutoff (Å)."""
    # One thread: the order of pairs never changes, and workers keep their cores.
    search = NeighborList(cutoff=cutoff, full_list=True, sorted=True, n_threads=1)
    first, second, distance, vector = search.compute(
        points=frame.positions, box=frame.cell, periodic=frame.topology.pbc, quantities="ijdD"
    )
    return NeighbourList(first.astype(np.intp), second.astype(np.intp), distance, vector)


def with_images(frame: Frame, reach: float) -> tuple[Vectors, Indices]:
    """All atoms wrapped into the cell, and their periodic images within `reach` (Å) of it.

    Returns:
        (m, 3) Å, and (m,) the atom that each is an image of. Atoms in the cell are where
        `frame.wrapped` has them.
    """
    inside = frame.wrapped @ frame.inverse
    atoms = np.arange(len(frame))
    for axis, height in enumerate(plane_spacings(frame.cell)):
        if not frame.topology.pbc[axis]:
            continue
        pad = reach / float(height)
        times = int(np.ceil(pad))
        parts, owners = [], []
        for shift in range(-times, times + 1):
            place = inside[:, axis] + shift
            kept = np.flatnonzero((place >= -pad) & (place <= 1.0 + pad))
            moved = inside[kept]
            moved[:, axis] = place[kept]
            parts.append(moved)
            owners.append(atoms[kept])
        inside, atoms = np.concatenate(parts), np.concatenate(owners)
    return inside @ frame.cell, atoms
