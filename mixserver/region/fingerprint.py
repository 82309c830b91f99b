"""A few numbers that identify a frame, though i-PI's RESTART holds nine digits only."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import Final

import numpy as np

from mixserver.core.arrays import Scalars
from mixserver.core.frame import Frame

COUNT: Final = 8
_DIGITS: Final = 2.5e-8
"""Times the size of a frame: nine times the spread that rounding to nine digits gives."""
_LEAST: Final = 1e-9
"""Å; conversions between units round too."""


@dataclass(frozen=True, slots=True)
class FrameFingerprint:
    """Identifies a frame.

    Every coordinate and every entry of the cell enters one of the sums with a weight of its own, of
    mean 0 and variance 1. So the distance of two fingerprints is about the distance of their
    frames, the root of the sum of squares over all coordinates.
    """

    sums: Scalars
    """(8,) Å, weighted sums of coordinates."""
    size: float
    """Å, root of the sum of all squared coordinates: how large roundings can be."""

    def distance(self, other: FrameFingerprint) -> float:
        """About how far two frames are apart, Å."""
        return float(np.linalg.norm(self.sums - other.sums))

    @property
    def rounding(self) -> float:
        """The distance that rounding to nine digits may give, Å."""
        return _DIGITS * self.size + _LEAST


def frame_fingerprint(frame: Frame) -> FrameFingerprint:
    """The fingerprint of a frame's positions, unwrapped, and of its cell."""
    numbers = np.concatenate((frame.positions.ravel(), frame.cell.ravel()))
    size = math.sqrt((numbers * numbers).sum())  # a norm by BLAS would wake its threads
    numbers *= _weights(len(numbers))
    rest = len(numbers) % COUNT
    sums = numbers[: len(numbers) - rest].reshape(-1, COUNT).sum(axis=0)
    sums[:rest] += numbers[len(numbers) - rest :]
    return FrameFingerprint(sums, size)


@functools.lru_cache(maxsize=4)
def _weights(count: int) -> Scalars:
    """(n,) weights that are the same in every process and every version of numpy.

    The finalizer of splitmix64 over 1, 2, 3, ..., evenly spread over [-sqrt(3), sqrt(3)].
    """
    bits = np.arange(1, count + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    bits ^= bits >> np.uint64(30)
    bits *= np.uint64(0xBF58476D1CE4E5B9)
    bits ^= bits >> np.uint64(27)
    bits *= np.uint64(0x94D049BB133111EB)
    bits ^= bits >> np.uint64(31)
    even: Scalars = (bits >> np.uint64(11)).astype(np.float64) * 2.0**-53
    weights: Scalars = np.sqrt(12.0) * (even - 0.5)
    weights.flags.writeable = False
    return weights
