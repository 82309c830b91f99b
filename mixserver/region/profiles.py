r"""How the expensive fraction falls across the blend: b(0) = 1, b(1) = 0, never rising.

With :math:`s = 1 - t`, so that the small end keeps its precision and never turns negative:

=========  ===============================  ==========================================
name       b(t)                             smooth where core and bulk meet the blend
=========  ===============================  ==========================================
linear     s                                continuous
cubic      s² (3 - 2s) = 1-(3t²-2t³)        with its first derivative
quintic    s³ (10 - 15s + 6s²)              with its first and second derivatives
=========  ===============================  ==========================================
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np

from mixserver.core.arrays import Scalars
from mixserver.core.errors import ConfigError

_Function = Callable[[Scalars], Scalars]


@dataclass(frozen=True, slots=True)
class Profile:
    """One way from 1 to 0."""

    name: str
    value: _Function
    """b(t) for t in [0, 1]."""
    slope: _Function
    """db/dt, for the pull-back of grad lambda."""


def _linear(t: Scalars) -> Scalars:
    return 1.0 - t


def _linear_slope(t: Scalars) -> Scalars:
    return 0.0 * t - 1.0


def _cubic(t: Scalars) -> Scalars:
    s = 1.0 - t
    return s * s * (3.0 - 2.0 * s)


def _cubic_slope(t: Scalars) -> Scalars:
    return -6.0 * t * (1.0 - t)


def _quintic(t: Scalars) -> Scalars:
    s = 1.0 - t
    value: Scalars = s * s * s * (10.0 - s * (15.0 - 6.0 * s))
    return np.minimum(value, 1.0)  # near t = 0 rounding may go beyond


def _quintic_slope(t: Scalars) -> Scalars:
    s = 1.0 - t
    return -30.0 * t * t * s * s


PROFILES: Final = {
    profile.name: profile
    for profile in (
        Profile("linear", _linear, _linear_slope),
        Profile("cubic", _cubic, _cubic_slope),
        Profile("quintic", _quintic, _quintic_slope),
    )
}


def named(name: str) -> Profile:
    """Look a profile up.

    Raises:
        ConfigError: there is none of that name.
    """
    try:
        return PROFILES[name]
    except KeyError:
        known = ", ".join(PROFILES)
        raise ConfigError(f"region.profile must be one of {known}; got {name!r}") from None
