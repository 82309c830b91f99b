"""Random periodic cells and brute-force distances, for tests."""

from __future__ import annotations

import itertools

import numpy as np
from hypothesis import strategies as st

from mixserver.core.arrays import Indices, Matrix, Scalars, Vectors
from mixserver.core.frame import Frame, Topology


def frame_of(
    positions: Vectors,
    cell: Matrix,
    pbc: tuple[bool, bool, bool] = (True, True, True),
    bead: int = 0,
) -> Frame:
    """A frame of silicon atoms."""
    return Topology(np.full(len(positions), 14, np.int32), pbc).frame(positions, cell, bead=bead)


def silicon(cells: int, *, rattle: float = 0.1, seed: int = 0) -> Frame:
    """Rattled diamond silicon, 8 cells³ atoms."""
    corner = np.array([[0, 0, 0], [0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0]])
    return _lattice(np.vstack([corner, corner + 0.25]), 5.43, cells, rattle, seed)


def fcc(cells: int, constant: float, *, rattle: float = 0.1, seed: int = 0) -> Frame:
    """A rattled fcc crystal, 4 cells³ atoms."""
    corner = np.array([[0, 0, 0], [0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0]])
    return _lattice(corner, constant, cells, rattle, seed)


def _lattice(basis: Vectors, constant: float, cells: int, rattle: float, seed: int) -> Frame:
    corners = np.array(list(itertools.product(range(cells), repeat=3)), dtype=float)
    positions = (corners[:, None] + basis).reshape(-1, 3) * constant
    positions += np.random.default_rng(seed).normal(0.0, rattle, positions.shape)
    return frame_of(positions, np.eye(3) * constant * cells)


@st.composite
def frames(draw: st.DrawFn, *, atoms: int = 24, smallest: float = 2.0) -> Frame:
    """Atoms in any cell, cuboid or triclinic, of either handedness; some atoms many cells away."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    pbc = draw(st.tuples(st.booleans(), st.booleans(), st.booleans()))
    lengths = rng.uniform(smallest, 12.0, 3)
    tilt = rng.uniform(-0.9, 0.9, (3, 3)) * draw(st.sampled_from([0.0, 1.0]))
    cell = np.diag(lengths) + np.tril(tilt, -1) * lengths
    cell = cell @ np.linalg.qr(rng.normal(size=(3, 3)))[0]  # any orientation, left-handed too
    cell = cell[rng.permutation(3)]
    fractions = rng.uniform(-1.5, 1.5, (draw(st.integers(1, atoms)), 3))
    return frame_of(fractions @ cell, cell, pbc)


def every(frame: Frame, nth: int) -> Indices:
    """Every nth atom, as sources."""
    return np.arange(0, len(frame), nth)


def images(frame: Frame, reach: float) -> Vectors:
    """Every lattice vector that can matter within `reach`, with a generous margin."""
    heights = 1.0 / np.linalg.norm(np.linalg.inv(frame.cell), axis=0)
    counts = [
        int(np.ceil(reach / h)) + 4 if periodic else 0  # atoms are up to 3 cells apart
        for h, periodic in zip(heights, frame.topology.pbc, strict=True)
    ]
    steps = itertools.product(*(range(-n, n + 1) for n in counts))
    return np.array(list(steps), dtype=float) @ frame.cell


def brute_distances(frame: Frame, points: Vectors, reach: float) -> Vectors:
    """(N, s) Å from every atom to the nearest image of every point."""
    shifted = points[:, None] + images(frame, reach)
    best = np.empty((len(frame), len(points)))
    for i, position in enumerate(frame.positions):
        best[i] = np.sqrt(((shifted - position) ** 2).sum(-1)).min(-1)
    return best


def brute_nearest(frame: Frame, points: Vectors, reach: float) -> Scalars:
    """(N,) Å from every atom to the nearest point; inf beyond the reach."""
    nearest: Scalars = brute_distances(frame, points, reach).min(axis=1)
    return np.where(nearest <= reach, nearest, np.inf)
