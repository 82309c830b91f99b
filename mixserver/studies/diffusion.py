"""Diffusion coefficients from displacements, and Arrhenius lines, with errors.

D is half the slope of the mean square displacement over time and dimension, between two lags: atoms
that also vibrate in place add a constant, which has no slope. Errors are those of the mean of
blocks, each long compared to the longest lag, over all walkers and repeats: blocks of one walk have
independent increments.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from scipy.optimize import curve_fit

from mixserver.core.arrays import Block, Scalars
from mixserver.core.errors import ConfigError
from mixserver.core.units import BOLTZMANN
from mixserver.studies.statistics import Estimate

_LEAST_BLOCKS: Final = 5
ANGSTROM2_PER_PS: Final = 1e-8
"""m²/s in an Å²/ps."""


def mean_square_displacement(walk: Block, lags: Sequence[int]) -> Scalars:
    """(l,) Å² at each lag, over all starts; `walk` is (t, d) Å, unwrapped."""
    return np.array([((walk[lag:] - walk[:-lag]) ** 2).sum(axis=1).mean() for lag in lags])


def diffusion(
    walks: Sequence[Block], interval: float, lags: Sequence[int], *, blocks: int = 4
) -> Estimate:
    """The diffusion coefficient of independent walks.

    Args:
        walks: (t, d) unwrapped positions each, Å, in d dimensions; t may differ.
        interval: ps between two positions.
        lags: two or more lags of the fit, in intervals, ascending; the first must be past the
            vibration in place.
        blocks: into which each walk is cut.

    Returns:
        Å²/ps.

    Raises:
        ConfigError: the walks are too short for the lags, or fewer than five blocks in all.
    """
    lags = sorted(lags)
    if len(lags) < 2 or lags[0] < 1:
        raise ConfigError(f"a slope needs two lags of 1 or more, got {lags}")
    if len(walks) * blocks < _LEAST_BLOCKS:
        raise ConfigError(
            f"{len(walks)} walks in {blocks} blocks each are too few for an error: make "
            f"{_LEAST_BLOCKS} blocks or more"
        )
    found, weights = [], []
    for walk in walks:
        for block in np.array_split(np.asarray(walk, dtype=np.float64), blocks):
            if len(block) <= 2 * lags[-1]:
                raise ConfigError(
                    f"a block of {len(block)} positions is too short for lags up to {lags[-1]}; "
                    "run longer, use shorter lags or fewer blocks"
                )
            msd = mean_square_displacement(block, lags)
            slope = np.polyfit(np.array(lags) * interval, msd, 1)[0]
            found.append(slope / (2.0 * block.shape[1]))
            weights.append(len(block))
    values, share = np.array(found), np.array(weights) / np.sum(weights)
    mean = float(values @ share)
    n = len(values)
    variance = float(share @ (values - mean) ** 2) / (n - 1)
    return Estimate(mean, math.sqrt(variance))


@dataclass(frozen=True, slots=True)
class Arrhenius:
    """D = D0 exp(-E/kT)."""

    prefactor: Estimate
    """In the unit of D."""
    energy: Estimate
    """eV."""
    chi2: float
    """Per degree of freedom; nan with two temperatures."""

    def at(self, temperature: float) -> float:
        """D at a temperature in K."""
        return self.prefactor.value * math.exp(-self.energy.value / (BOLTZMANN * temperature))


def arrhenius(temperatures: Sequence[float], values: Sequence[Estimate]) -> Arrhenius:
    """Fit ln D over 1/kT, weighted by the relative errors.

    Raises:
        ConfigError: fewer than two temperatures, or a D that is not above 0.
    """
    if len(set(temperatures)) < 2:
        raise ConfigError("an Arrhenius line needs two temperatures or more")
    for kelvin, one in zip(temperatures, values, strict=True):
        if not one.value > 0.0 or not one.error > 0.0:
            raise ConfigError(
                f"D at {kelvin:g} K is {one}, which has no logarithm with an error: run longer"
            )
    x = np.array([1.0 / (BOLTZMANN * kelvin) for kelvin in temperatures])
    y = np.log([one.value for one in values])
    sigma = np.array([one.error / one.value for one in values])
    centre = float(np.average(x, weights=sigma**-2.0))  # uncorrelates both parameters
    found, covariance = curve_fit(
        lambda at, height, slope: height + slope * (at - centre),
        x,
        y,
        p0=(float(y.mean()), -0.1),
        sigma=sigma,
        absolute_sigma=True,
    )
    height, slope = float(found[0]), float(found[1])
    logarithm = height - slope * centre
    error = math.sqrt(covariance[0, 0] + centre**2 * covariance[1, 1])
    residuals = (y - height - slope * (x - centre)) / sigma
    free = len(x) - 2
    prefactor = math.exp(logarithm)
    return Arrhenius(
        Estimate(prefactor, prefactor * error),
        Estimate(-slope, math.sqrt(covariance[1, 1])),
        float((residuals**2).sum() / free) if free else math.nan,
    )
