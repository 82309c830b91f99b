r"""Kinetic temperatures of core, blend and bulk, from how far atoms move in one step.

i-PI sends positions and no velocities. From one step of length :math:`\Delta t` to the next,

.. math::
    T = \frac{1}{n k_B} \sum_i m_i \left|\frac{\Delta r_i}{\Delta t}\right|^2

over the n components that moved; i-PI holds others with <fixatoms> and <fixatoms_dof>. The mean
velocity of a step is a little less than that at its ends: a vibration of frequency :math:`\omega`
counts with :math:`\mathrm{sinc}^2(\omega\Delta t/2)` (0.999 for 16 THz and 1 fs), and a Langevin
thermostat takes :math:`\Delta t/2\tau` off.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Final, NamedTuple

import numpy as np

from mixserver.core.arrays import Indices, Scalars
from mixserver.core.frame import Frame
from mixserver.core.units import BOLTZMANN
from mixserver.region.region import Region

_EV: Final = 103.64269652
"""eV per amu Å²/fs²."""
_STILL: Final = 1e-9
"""Å; what moves less in a step is held, and the rest is rounding."""
_SELDOM: Final = 200.0
"""A temperature is measured again after so many times what the last one took."""


class RegionTemperatures(NamedTuple):
    """Kinetic temperatures, K; None where no atom moved."""

    core: float | None
    blend: float | None
    bulk: float | None


class RegionThermometer:
    """Measures temperatures of frames that follow each other, seldom enough to cost nothing.

    Args:
        masses: (N,) amu.
        timestep_fs: fs from one evaluation to the next.
        clock: seconds that never go backwards.
    """

    def __init__(
        self, masses: Scalars, timestep_fs: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._scale = masses * (_EV / (BOLTZMANN * timestep_fs**2))
        self._clock = clock
        self._due = -math.inf
        self._before: Frame | None = None

    def follows(self, frame: Frame) -> Frame | None:
        """The frame just before this one, if it is time to measure; else None.

        Called with every frame; keeps one only if the next shall be measured.
        """
        before, self._before = self._before, None
        if self._clock() < self._due:
            return None
        self._before = frame
        return before if before is not None and before.number + 1 == frame.number else None

    def measure(self, before: Frame, frame: Frame, region: Region) -> RegionTemperatures:
        """The temperatures between two frames; may be called on another thread than `follows`."""
        began = self._clock()
        try:
            return self._measure(before, frame, region)
        finally:
            now = self._clock()
            self._due = now + _SELDOM * (now - began)

    def _measure(self, before: Frame, frame: Frame, region: Region) -> RegionTemperatures:
        if np.array_equal(before.cell, frame.cell):
            moved = frame.positions - before.positions
        else:  # what the barostat moves with the cell is no motion of atoms
            moved = (frame.fractional - before.fractional) @ frame.cell
        jumps = np.rint(moved @ frame.inverse)  # where i-PI's <ffsocket> has pbc='True'
        if jumps.any():
            moved = moved - jumps @ frame.cell
        heat = self._scale * np.einsum("ij,ij->i", moved, moved)
        free = np.count_nonzero(np.abs(moved) > _STILL, axis=1)
        active = region.active
        core = region.lambda_.take(active) == 1.0
        inside, theirs = heat.take(active), free.take(active)
        heat[active] = 0.0
        free[active] = 0
        return RegionTemperatures(
            _per_component(inside[core], theirs[core]),
            _per_component(inside[~core], theirs[~core]),
            _per_component(heat, free),
        )


def _per_component(heat: Scalars, free: Indices) -> float | None:
    """The temperature of some atoms, K: those that i-PI fixes have none.

    Args:
        heat: (n,) m v^2 / k_B, K.
        free: (n,) components that moved.
    """
    components = int(free.sum())
    return float(heat.sum()) / components if components else None
