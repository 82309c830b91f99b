r"""Estimates with errors that know correlation.

The error of a mean of n correlated values is :math:`\sigma\sqrt{2\tau/n}` with the integrated
autocorrelation time :math:`\tau = 1/2 + \sum_t \rho(t)`. The sum is cut at the first window W with
:math:`W \ge 5\tau(W)` (A. Sokal, in Functional Integration, Plenum 1997), and corrected for the
finite length as in U. Wolff, Comput. Phys. Commun. 156, 143 (2004).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from scipy import fft, stats

from mixserver.core.arrays import Scalars
from mixserver.core.errors import ConfigError

_WINDOW: Final = 5.0
"""Windows are so many correlation times long."""
LEAST_TIMES: Final = 20.0
"""A series of fewer correlation times has an error that cannot be trusted."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """A value and its standard error."""

    value: float
    error: float

    def __sub__(self, other: Estimate) -> Estimate:
        """The difference of two independent ones."""
        return Estimate(self.value - other.value, math.hypot(self.error, other.error))

    def __str__(self) -> str:
        return with_error(self.value, self.error)


@dataclass(frozen=True, slots=True)
class SeriesMean:
    """The mean of a stationary series."""

    value: float
    error: float
    """Standard error, with correlation."""
    time: float
    """Integrated autocorrelation time, in samples; 0.5 of independent ones."""
    samples: int
    warning: str = ""
    """Why the error cannot be trusted; "" if it can."""

    @property
    def estimate(self) -> Estimate:
        """Value and error alone."""
        return Estimate(self.value, self.error)


def autocorrelation(series: Scalars) -> Scalars:
    """The autocorrelation function (n,) of a series, 1 at lag 0; of a constant all 0."""
    x = np.asarray(series, dtype=np.float64)
    x = x - x.mean()
    n = len(x)
    spectrum = fft.rfft(x, fft.next_fast_len(2 * n))
    sums = fft.irfft(np.abs(spectrum) ** 2, fft.next_fast_len(2 * n))[:n]
    covariance = np.asarray(sums / np.arange(n, 0, -1))
    return covariance / covariance[0] if covariance[0] > 0.0 else np.zeros(n)


def autocorrelation_time(series: Scalars) -> float:
    """The integrated autocorrelation time in samples; at least 1/2 (independent values)."""
    x = np.asarray(series, dtype=np.float64)
    rho = autocorrelation(x)
    if not rho[0]:
        return 0.5
    sums = 0.5 + np.cumsum(rho[1:])
    windows = np.arange(1, len(rho))
    enough = np.flatnonzero(windows >= _WINDOW * np.maximum(sums, 0.5))
    at = int(enough[0]) if len(enough) else len(windows) - 1
    width = int(windows[at])
    bias = 1.0 + (2.0 * width + 1.0) / len(x)
    return max(0.5, float(sums[at]) * bias)


def series_mean(series: Scalars) -> SeriesMean:
    """The mean of a stationary series (n,) of equally spaced values, with its error.

    Raises:
        ConfigError: fewer than four values, or one that is not finite.
    """
    x = np.asarray(series, dtype=np.float64)
    n = len(x)
    if n < 4:
        raise ConfigError(f"a mean with an error needs four values or more, there are {n}")
    if not np.isfinite(x).all():
        raise ConfigError("a value of the series is not finite; did the trajectory blow up?")
    time = autocorrelation_time(x)
    error = math.sqrt(2.0 * time * float(x.var()) / n * n / (n - 1))
    warning = ""
    if n < LEAST_TIMES * time:
        warning = (
            f"the series is {n / time:.0f} correlation times long, {LEAST_TIMES:.0f} are needed: "
            "its error is too small, run longer"
        )
    return SeriesMean(float(x.mean()), error, time, n, warning)


def weighted_mean(estimates: Sequence[Estimate]) -> Estimate:
    """The mean of independent estimates of one value, weighted by 1/error².

    If they scatter more than their errors say, the error grows by sqrt(chi²/(n-1)), as the
    Particle Data Group does.

    Raises:
        ConfigError: there is none, or an error is not above 0.
    """
    if not estimates:
        raise ConfigError("there is no estimate to take the mean of")
    values = np.array([one.value for one in estimates])
    errors = np.array([one.error for one in estimates])
    if not (np.isfinite(errors).all() and (errors > 0.0).all()):
        raise ConfigError(f"errors must be above 0 to weight by them, got {errors.tolist()}")
    weights = errors**-2.0
    mean = float(values @ weights / weights.sum())
    error = float(weights.sum() ** -0.5)
    if len(values) > 1:
        chi2 = float((((values - mean) / errors) ** 2).sum() / (len(values) - 1))
        error *= math.sqrt(max(1.0, chi2))
    return Estimate(mean, error)


def mean_of_repeats(values: Sequence[float]) -> Estimate:
    """The mean of independent repeats (two or more), with the error of their scatter.

    Raises:
        ConfigError: fewer than two.
    """
    if len(values) < 2:
        raise ConfigError(f"the scatter of repeats needs two or more, there are {len(values)}")
    x = np.asarray(values, dtype=np.float64)
    return Estimate(float(x.mean()), float(x.std(ddof=1) / math.sqrt(len(x))))


def beta_interval(successes: int, trials: int, level: float = 0.95) -> tuple[float, float]:
    """The interval of a fraction, of Beta(k + 1, n - k + 1): central, from a flat prior.

    Raises:
        ConfigError: not 0 <= successes <= trials.
    """
    if not 0 <= successes <= trials:
        raise ConfigError(f"of {trials} trials {successes} cannot have succeeded")
    low, high = stats.beta.interval(level, successes + 1, trials - successes + 1)
    return float(low), float(high)


def with_error(value: float, error: float) -> str:
    """A value and its error as text, with two digits of the error: "0.1386 ± 0.0012"."""
    if not math.isfinite(value):
        return "-"
    if not math.isfinite(error) or error <= 0.0:
        return f"{value:.5g}"
    if not 1e-4 <= max(abs(value), error) < 1e5:
        power = math.floor(math.log10(max(abs(value), error)))
        scaled = with_error(value / 10.0**power, error / 10.0**power)
        return f"({scaled})e{power:+03d}"
    digits = max(0, 1 - math.floor(math.log10(error)))
    return f"{value:.{digits}f} ± {error:.{digits}f}"
