"""Names for the shapes and dtypes of arrays. Knows nothing else."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Vectors: TypeAlias = NDArray[np.float64]
"""(N, 3) float64: one vector per atom."""
Scalars: TypeAlias = NDArray[np.float64]
"""(N,) float64: one number per atom."""
Matrix: TypeAlias = NDArray[np.float64]
"""(3, 3) float64: a cell (rows are lattice vectors, Å) or a virial (eV)."""
Indices: TypeAlias = NDArray[np.intp]
"""(n,) atom indices, ascending."""
Mask: TypeAlias = NDArray[np.bool_]
"""(N,) one yes or no per atom."""
Numbers: TypeAlias = NDArray[np.int32]
"""(N,) int32 atomic numbers."""
