"""Errors of means against processes whose errors are known."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import signal

from mixserver.core.errors import ConfigError
from mixserver.studies.statistics import (
    Estimate,
    autocorrelation_time,
    beta_interval,
    mean_of_repeats,
    series_mean,
    weighted_mean,
    with_error,
)

SEEDS = st.integers(0, 2**32 - 1)


def ar1(rng: np.random.Generator, n: int, a: float) -> np.ndarray:
    """x_t = a x_(t-1) + noise, stationary from the start; variance 1/(1 - a²)."""
    noise = rng.standard_normal(n)
    noise[0] /= np.sqrt(1.0 - a * a)
    return np.asarray(signal.lfilter([1.0], [1.0, -a], noise))


def exact_time(a: float) -> float:
    return 0.5 * (1.0 + a) / (1.0 - a)


@settings(max_examples=15, deadline=None)
@given(SEEDS, st.floats(0.0, 0.97))
def test_the_time_of_an_autoregression_is_found(seed: int, a: float) -> None:
    n, exact = 40_000, exact_time(a)
    found = autocorrelation_time(ar1(np.random.default_rng(seed), n, a))
    spread = exact * np.sqrt(2.0 * (2.0 * 5.0 * exact + 1.0) / n)  # Wolff's error of tau
    assert abs(found - exact) < 0.03 * exact + 6.0 * spread


@settings(max_examples=8, deadline=None)
@given(SEEDS, st.floats(0.0, 0.95))
def test_means_scatter_as_their_errors_say(seed: int, a: float) -> None:
    rng = np.random.default_rng(seed)
    deviations = []
    for _ in range(120):
        mean = series_mean(ar1(rng, 4000, a))
        deviations.append(mean.value / mean.error)
    # 120 standard normal numbers: their variance is 1 within sqrt(2/120) = 0.13
    assert 0.45 < np.mean(np.square(deviations)) < 1.75
    assert abs(np.mean(deviations)) < 5.0 / np.sqrt(120)


@given(SEEDS, st.floats(-1e3, 1e3), st.floats(1e-3, 1e3))
def test_means_shift_and_scale(seed: int, shift: float, scale: float) -> None:
    x = ar1(np.random.default_rng(seed), 500, 0.7)
    one, other = series_mean(x), series_mean(scale * x + shift)
    assert other.value == pytest.approx(scale * one.value + shift, abs=1e-9 * (scale + abs(shift)))
    assert other.error == pytest.approx(scale * one.error, rel=1e-5)


def test_a_short_series_is_warned_of() -> None:
    rng = np.random.default_rng(3)
    assert "run longer" in series_mean(np.cumsum(rng.standard_normal(200))).warning
    assert not series_mean(ar1(rng, 5000, 0.5)).warning


def test_constants_have_no_error() -> None:
    assert series_mean(np.full(10, 2.5)).estimate == Estimate(2.5, 0.0)


@pytest.mark.parametrize("series", [[1.0, 2.0], [1.0, np.nan, 1.0, 2.0], [np.inf] * 5])
def test_what_has_no_mean_is_refused(series: list[float]) -> None:
    with pytest.raises(ConfigError):
        series_mean(np.array(series))


@given(SEEDS, st.integers(2, 8))
def test_a_weighted_mean_is_the_best_one(seed: int, n: int) -> None:
    rng = np.random.default_rng(seed)
    errors = rng.uniform(0.1, 2.0, n)
    estimates = [Estimate(5.0, error) for error in errors]
    found = weighted_mean(estimates)
    assert found.value == pytest.approx(5.0)
    assert found.error == pytest.approx(np.sum(errors**-2.0) ** -0.5)
    assert found.error <= errors.min()


def test_estimates_that_disagree_have_a_larger_error() -> None:
    found = weighted_mean([Estimate(0.0, 1.0), Estimate(10.0, 1.0)])
    assert found.error == pytest.approx(np.sqrt(0.5) * np.sqrt(50.0))
    with pytest.raises(ConfigError, match="above 0"):
        weighted_mean([Estimate(0.0, 0.0)])


def test_repeats() -> None:
    found = mean_of_repeats([1.0, 3.0])
    assert (found.value, found.error) == (2.0, pytest.approx(1.0))
    with pytest.raises(ConfigError, match="two or more"):
        mean_of_repeats([1.0])


@given(st.integers(0, 300), st.integers(0, 300))
def test_intervals_of_fractions(k: int, more: int) -> None:
    n = k + more
    low, high = beta_interval(k, n)
    assert 0.0 <= low < high <= 1.0
    mirrored = beta_interval(more, n)
    assert mirrored == (pytest.approx(1.0 - high), pytest.approx(1.0 - low))
    wider = beta_interval(k, n, 0.99)
    assert wider[0] <= low
    assert high <= wider[1]


def test_the_interval_of_the_papers_shots() -> None:
    # 83 of 100 shots reflected: the published bar is 0.756 to 0.898 by eye
    low, high = beta_interval(83, 100)
    assert low == pytest.approx(0.744, abs=0.005)
    assert high == pytest.approx(0.891, abs=0.005)


@pytest.mark.parametrize(
    ("value", "error", "text"),
    [
        (0.13861, 0.00117, "0.1386 ± 0.0012"),
        (300.4, 2.0, "300.4 ± 2.0"),
        (1234.0, 56.0, "1234 ± 56"),
        (2.5, 0.0, "2.5"),
        (3.2e-9, 4e-10, "(3.20 ± 0.40)e-09"),
        (float("nan"), 1.0, "-"),
    ],
)
def test_numbers_as_text(value: float, error: float, text: str) -> None:
    assert with_error(value, error) == text
