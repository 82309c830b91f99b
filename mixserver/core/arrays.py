"""Names for the shapes and dtypes of arrays, and masks. Imports nothing else of the project."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Vectors: TypeAlias = NDArray[np.float64]
"""(N, 3) float64: one vector per atom; (3,) where a single vector is meant."""
Scalars: TypeAlias = NDArray[np.float64]
"""(N,) float64: one number per atom."""
Matrix: TypeAlias = NDArray[np.float64]
"""(3, 3) float64: a cell (rows are lattice vectors, Å), a strain or a virial (eV)."""
Block: TypeAlias = NDArray[np.float64]
"""float64 of any other shape, e.g. (m, n) rows of a linear system or elastic constants."""
Indices: TypeAlias = NDArray[np.intp]
"""(n,) atom indices, ascending unless stated otherwise."""
Mask: TypeAlias = NDArray[np.bool_]
"""(N,) bool: one flag per atom."""
Numbers: TypeAlias = NDArray[np.int32]
"""(N,) int32 atomic numbers."""
Groups: TypeAlias = NDArray[np.int32]
"""(N,) int32: the number of the group that each atom belongs to."""


def mask_of(atoms: Indices, count: int) -> Mask:
    """(N,) True for some of `count` atoms."""
    mask = np.zeros(count, dtype=np.bool_)
    mask[atoms] = True
    return mask
