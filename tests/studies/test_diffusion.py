"""Diffusion coefficients of walks whose coefficient is known, and Arrhenius lines."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mixserver.core.errors import ConfigError
from mixserver.studies.diffusion import arrhenius, diffusion
from mixserver.studies.statistics import Estimate

SEEDS = st.integers(0, 2**32 - 1)


def walk(rng: np.random.Generator, n: int, d: float, interval: float, blur: float) -> np.ndarray:
    """(n, 3) Å: Brownian motion with D = d, and a vibration in place of `blur` Å."""
    steps = rng.standard_normal((n, 3)) * np.sqrt(2.0 * d * interval)
    return np.cumsum(steps, axis=0) + blur * rng.standard_normal((n, 3))


@settings(max_examples=6, deadline=None)
@given(SEEDS, st.floats(1e-3, 10.0), st.sampled_from([0.0, 0.5]))
def test_coefficients_scatter_as_their_errors_say(seed: int, d: float, blur: float) -> None:
    rng, interval = np.random.default_rng(seed), 0.1
    blur *= np.sqrt(d * interval)
    deviations = []
    for _ in range(40):
        walks = [walk(rng, 600, d, interval, blur) for _ in range(4)]
        found = diffusion(walks, interval, range(2, 12), blocks=5)
        deviations.append((found.value - d) / found.error)
    assert abs(np.mean(deviations)) < 5.0 / np.sqrt(40) + 0.2  # few blocks: t, not normal
    assert 0.4 < np.mean(np.square(deviations)) < 2.2


def test_a_vibration_in_place_does_not_diffuse() -> None:
    rng = np.random.default_rng(5)
    walks = [0.3 * rng.standard_normal((2000, 3)) for _ in range(3)]
    found = diffusion(walks, 0.05, (5, 10, 20))
    assert abs(found.value) < 4.0 * found.error


@given(st.floats(1e-3, 1e3), st.floats(0.05, 1.5))
def test_arrhenius_lines_are_found(prefactor: float, energy: float) -> None:
    kelvin = [800.0, 900.0, 1000.0, 1100.0]
    values = [
        Estimate(d, 0.1 * d)
        for d in (prefactor * np.exp(-energy / (8.617333262e-5 * t)) for t in kelvin)
    ]
    found = arrhenius(kelvin, values)
    assert found.energy.value == pytest.approx(energy, rel=1e-6)
    assert found.prefactor.value == pytest.approx(prefactor, rel=1e-5)
    assert found.at(950.0) == pytest.approx(
        prefactor * np.exp(-energy / (8.617333262e-5 * 950.0)), rel=1e-6
    )


def test_energies_scatter_as_their_errors_say() -> None:
    rng, kelvin = np.random.default_rng(11), np.array([400.0, 600.0, 800.0])
    deviations = []
    for _ in range(300):
        exact = 0.1 * np.exp(-0.1 / (8.617333262e-5 * kelvin))
        seen = exact * np.exp(0.05 * rng.standard_normal(3))
        found = arrhenius(list(kelvin), [Estimate(float(d), 0.05 * float(d)) for d in seen])
        deviations.append((found.energy.value - 0.1) / found.energy.error)
    assert 0.75 < np.mean(np.square(deviations)) < 1.25


def test_what_has_no_coefficient_is_refused() -> None:
    still = np.zeros((100, 3))
    with pytest.raises(ConfigError, match="too short for lags"):
        diffusion([still], 1.0, (5, 30), blocks=5)
    with pytest.raises(ConfigError, match="blocks"):
        diffusion([still], 1.0, (1, 2), blocks=2)
    with pytest.raises(ConfigError, match="two lags"):
        diffusion([still], 1.0, (3,))
    with pytest.raises(ConfigError, match="run longer"):
        arrhenius([300.0, 400.0], [Estimate(-1.0, 1.0), Estimate(1.0, 0.1)])
