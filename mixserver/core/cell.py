"""Periodic cells: volume, inverse, plane spacings, standard form, empty arcs and minimum images.

A cell is (3, 3) Å with lattice vectors as rows, of either handedness. NumPy alone, because workers
import this module too.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from mixserver.core.arrays import Mask, Matrix, Scalars, Vectors

_FLAT = 1e-6
"""Å³. A smaller cell counts as flat."""


def volume(cell: Matrix) -> float:
    """The volume of a cell, Å³: positive for either handedness."""
    return _volume(np.asarray(cell, dtype=np.float64).tobytes())


def has_volume(cell: Matrix) -> bool:
    """Whether a cell is three finite lattice vectors that are not in one plane."""
    return cell.shape == (3, 3) and bool(np.isfinite(cell).all()) and volume(cell) >= _FLAT


def inverse_cell(cell: Matrix) -> Matrix:
    """(3, 3) 1/Å, read-only: the matrix that takes positions to fractional coordinates.

    Raises:
        ValueError: the cell is flat or not finite.
    """
    return _inverse(np.asarray(cell, dtype=np.float64).tobytes())


def plane_spacings(cell: Matrix) -> Scalars:
    """Distances between opposite faces of a cell (its heights), (3,) Å, read-only.

    Raises:
        ValueError: the cell is flat or not finite.
    """
    return _spacings(np.asarray(cell, dtype=np.float64).tobytes())


def complete_cell(cell: Matrix, pbc: Sequence[bool] | Mask) -> Matrix:
    """(3, 3) Å: a copy with unit vectors normal to the periodic ones in place of all others."""
    full = np.array(cell, dtype=np.float64)
    periodic = np.asarray(pbc, dtype=np.bool_)
    if not periodic.all():
        rows = full[periodic]
        full[~periodic] = np.linalg.svd(rows)[2][len(rows) :] if len(rows) else np.eye(3)
    return full


def standard_form(cell: Matrix) -> tuple[Matrix, Matrix | None]:
    """Rotate a cell so that a lies along x and b in the xy plane, as i-PI and LAMMPS want it.

    Returns:
        (3, 3) Å, the lower triangular cell with a positive diagonal; and the orthogonal matrix Q
        with ``cell @ Q`` = that cell, or None if the cell is in standard form already. Q contains
        a reflection if the cell is left-handed.
    """
    if not np.triu(cell, 1).any() and (np.diag(cell) > 0.0).all():
        return cell.copy(), None
    q, r = np.linalg.qr(cell.T)
    signs = np.where(np.diag(r) < 0.0, -1.0, 1.0)
    return np.tril((r * signs[:, None]).T), q * signs


def minimum_image(differences: Vectors, pbc: Sequence[bool] | Mask) -> Vectors:
    """Wrap differences of fractional coordinates (..., 3) to [-1/2, 1/2] along periodic axes.

    The result is the minimum image wherever that is shorter than half of the smallest plane
    spacing, in any cell. Longer ones need a search over images, see `mixserver.geometry`.
    """
    wrapped: Vectors = differences - np.rint(differences) * np.asarray(pbc)
    return wrapped


class EmptyArc(NamedTuple):
    """The widest part of a periodic axis without any point, as fractions of the lattice vector."""

    start: float
    """In [0, 1]: the last point before it."""
    end: float
    """In [0, 1]: the first point after it, less than `start` if the arc crosses the boundary."""
    width: float
    """0 to 1; 1 for a single point."""


def largest_empty_arc(fractions: Scalars) -> EmptyArc:
    """Find the widest empty part of a periodic axis.

    Args:
        fractions: (n,) coordinates along the axis in lattice vectors, wrapped or not; n >= 1.
    """
    places = np.sort(fractions - np.floor(fractions))
    first, last = float(places[0]), float(places[-1])
    if len(places) == 1:
        return EmptyArc(last, first, 1.0)
    across = first + 1.0 - last
    gaps = places[1:] - places[:-1]
    widest = int(gaps.argmax())
    if gaps[widest] > across:
        return EmptyArc(float(places[widest]), float(places[widest + 1]), float(gaps[widest]))
    return EmptyArc(last, first, across)


@functools.lru_cache(maxsize=256)
def _volume(raw: bytes) -> float:
    return float(abs(np.linalg.det(np.frombuffer(raw, np.float64).reshape(3, 3))))


@functools.lru_cache(maxsize=256)
def _inverse(raw: bytes) -> Matrix:
    cell = np.frombuffer(raw, np.float64).reshape(3, 3)
    if not has_volume(cell):
        raise ValueError(f"a cell without a volume: {cell.tolist()} (Å)")
    inverse: Matrix = np.linalg.inv(cell).astype(np.float64)
    inverse.flags.writeable = False
    return inverse


@functools.lru_cache(maxsize=256)
def _spacings(raw: bytes) -> Scalars:
    spacings = np.array([1.0 / math.hypot(*column) for column in _inverse(raw).T.tolist()])
    spacings.flags.writeable = False
    return spacings
