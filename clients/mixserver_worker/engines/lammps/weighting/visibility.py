"""Which atoms LAMMPS has to see for a set of weighted sites: pure arithmetic, without LAMMPS.

Sites with weight are evaluated; atoms of weight 0 near them are their neighbours; those farther
away are invisible and cost nothing. LAMMPS builds neighbour lists by these classes, so a change
needs a full set-up. Classes therefore hold for many steps: they are kept as long as they are
sufficient, and atoms of weight 0 close to a site are evaluated in advance, before they get weight.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from mixserver.core.arrays import Indices, Mask, Matrix, Vectors
from mixserver.core.cell import complete_cell, inverse_cell, plane_spacings
from mixserver_worker.engines.lammps.mpi import RankJob
from mixserver_worker.engines.neighbours import wrap

INVISIBLE, NEIGHBOUR, EVALUATED = 0, 1, 2
"""Classes of atoms. Two atoms of class NEIGHBOUR are no neighbours of each other."""
_MARGIN: Final = 0.6
"""Å beyond the cutoff within which atoms of weight 0 stay visible."""
_IN_ADVANCE: Final = 3.0
"""Å. Atoms of weight 0 this close to a site are evaluated, too."""
_VOXELS: Final = 6
"""Per reach. Some atoms a voxel or two beyond the reach count as near, too."""
_FEW: Final = 64
"""So many atoms of weight 0 may as well be evaluated."""
_MOST_VOXELS: Final = 64
"""Along each axis."""


class Visibility:
    """The classes of one set of atoms.

    Args:
        known: (n,) which atoms the potential knows; the others are invisible.
        reach: Å, the cutoff or more.
    """

    def __init__(self, known: Mask, reach: float) -> None:
        self._known, self._reach = known, reach
        self._classes: NDArray[np.int8] | None = None
        self._allowed = 0
        """Atoms of weight 0 that may be evaluated before the classes are found again."""
        self._hidden = False
        self._positions: Vectors = np.zeros((0, 3))
        self._cell: Matrix = np.eye(3)

    def classes(self, job: RankJob, sites: Mask) -> NDArray[np.int8]:
        """(n,) classes that are sufficient for these sites, the same array while they are kept."""
        if self._classes is None or self._insufficient(job, sites, self._classes):
            self._classes = self._found(job, sites)
        return self._classes

    def _insufficient(self, job: RankJob, sites: Mask, classes: NDArray[np.int8]) -> bool:
        evaluated = classes == EVALUATED
        if (sites & ~evaluated).any():
            return True
        if np.count_nonzero(evaluated) - np.count_nonzero(sites) > self._allowed:
            return True
        return self._hidden and self._moved(job)

    def _found(self, job: RankJob, sites: Mask) -> NDArray[np.int8]:
        classes = np.where(self._known, np.int8(EVALUATED), np.int8(INVISIBLE))
        zero_weight = np.flatnonzero(self._known & ~sites)
        if len(zero_weight) > _FEW:
            classes[zero_weight] = INVISIBLE
            in_advance = atoms_near(job, sites, zero_weight, _IN_ADVANCE)
            classes[in_advance] = EVALUATED
            rest = np.flatnonzero(self._known & (classes == INVISIBLE))
            classes[atoms_near(job, classes == EVALUATED, rest, self._reach + _MARGIN)] = NEIGHBOUR
        evaluated = int(np.count_nonzero((classes == EVALUATED) & ~sites))
        self._allowed = 2 * (evaluated + _FEW)
        self._hidden = bool((self._known & (classes == INVISIBLE)).any())
        self._positions = job.positions.copy()
        self._cell = complete_cell(job.cell, job.pbc)
        return classes

    def _moved(self, job: RankJob) -> bool:
        """Whether two atoms may have approached by the margin since the last search."""
        strain = inverse_cell(self._cell) @ complete_cell(job.cell, job.pbc)
        moved = np.sqrt(
            np.square(job.positions - self._positions @ strain).sum(axis=1).max(initial=0.0)
        )
        size = float(np.linalg.norm(strain - np.eye(3), 2))
        return bool(2.0 * moved + size * (self._reach + _MARGIN) > 0.9 * _MARGIN)


def atoms_near(job: RankJob, sites: Mask, zero_weight: Indices, reach: float) -> Indices:
    """The atoms of weight 0 that have a site within reach, and some a little farther away.

    Space is divided into voxels. A convolution of the voxels that contain sites with those within
    reach of a voxel, done by Fourier transforms, marks all voxels within reach of a site: 18 ms for
    8192 atoms, as a list of all neighbours from vesin takes, or 114 ms one from `neighbours`.
    """
    full = complete_cell(job.cell, job.pbc)
    inverse = inverse_cell(full)
    fraction = wrap(job.positions, job.cell, job.pbc) @ inverse
    low, size = fraction.min(axis=0), np.ptp(fraction, axis=0)
    periodic = np.asarray(job.pbc)
    low[periodic], size[periodic] = 0.0, 1.0
    spacings = plane_spacings(full)
    size = np.maximum(size, reach / _VOXELS / spacings)  # a flat system has voxels, too
    height = size * spacings
    count = np.clip(np.floor(height * _VOXELS / reach), 1, _MOST_VOXELS).astype(int)
    voxel = np.clip((fraction - low) / size * count, 0, count - 1).astype(int)
    occupied = np.zeros(count)
    occupied[tuple(voxel[sites].T)] = 1.0

    width = height / count
    steps = [np.arange(-most, most + 1) for most in (reach // width).astype(int) + 1]
    offset = np.stack(np.meshgrid(*steps, indexing="ij"), -1).reshape(-1, 3)
    edges = full * (size / count)[:, None]
    corners = np.array([[1, 1, 1], [1, 1, -1], [1, -1, 1], [-1, 1, 1]]) @ edges
    diagonal = float(np.sqrt(np.square(corners).sum(axis=1).max()))
    apart = np.sqrt(np.square(offset @ edges).sum(axis=1)) - diagonal
    between = np.maximum(np.abs(offset) - 1, 0) * width  # distance of planes
    apart = np.maximum(apart, between.max(axis=1))
    if np.allclose(edges @ edges.T, np.diag(width**2), rtol=0, atol=1e-9 * reach**2):
        apart = np.sqrt(np.square(between).sum(axis=1))  # voxels with right angles
    kernel = np.zeros(count)
    kernel[tuple((offset[apart <= reach] % count).T)] = 1.0
    reached = np.fft.irfftn(
        np.fft.rfftn(occupied) * np.fft.rfftn(kernel), s=tuple(count), axes=(0, 1, 2)
    )
    near: Indices = zero_weight[reached[tuple(voxel[zero_weight].T)] > 0.5]
    return near
