"""Downhill on functions whose minimum is known."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import rosen, rosen_der

from mixserver.analysis.bulk.minimise import Evaluate, Point, minimised
from mixserver.core.errors import ConfigError


class Counted:
    """A function of a vector, and how often it was asked for."""

    def __init__(self, tolerance: float = 1e-8, noise: float = 0.0) -> None:
        self.asked, self.tolerance, self.noise = 0, tolerance, noise
        self.rng = np.random.default_rng(3)

    async def __call__(self, x: np.ndarray) -> Point:
        self.asked += 1
        gradient = self.slope(x) + self.noise * self.rng.normal(size=len(x))
        return Point(self.height(x), gradient, float(np.abs(gradient).max()) / self.tolerance)

    def height(self, x: np.ndarray) -> float:
        return float(rosen(x))

    def slope(self, x: np.ndarray) -> np.ndarray:
        return rosen_der(x)


class Bowl(Counted):
    """A quadratic with stiffnesses from 0.1 to 100."""

    stiffness = np.geomspace(0.1, 100.0, 12)

    def height(self, x: np.ndarray) -> float:
        return 0.5 * float(self.stiffness @ (x - 1.0) ** 2)

    def slope(self, x: np.ndarray) -> np.ndarray:
        return self.stiffness * (x - 1.0)


class DoubleWell(Counted):
    """Two minima with a hill between them: x^4 - x^2 along every direction."""

    def height(self, x: np.ndarray) -> float:
        return float((x**4 - x**2).sum())

    def slope(self, x: np.ndarray) -> np.ndarray:
        return 4.0 * x**3 - 2.0 * x


async def found(
    at: Evaluate, start: np.ndarray, *, noise: float = 1.0, steps: int = 500
) -> np.ndarray:
    return await minimised(
        "the test", at, start, inverse=lambda g: 0.01 * g, longest=0.3, noise=noise, steps=steps
    )


async def test_a_curved_valley_is_followed_to_its_end() -> None:
    at = Counted()
    np.testing.assert_allclose(await found(at, np.array([-1.2, 1.0, 0.5])), 1.0, atol=1e-7)
    assert at.asked < 150


async def test_a_bowl_takes_about_as_many_evaluations_as_it_has_stiffnesses() -> None:
    at = Bowl()
    np.testing.assert_allclose(await found(at, np.zeros(12)), 1.0, atol=1e-6)
    assert at.asked < 60


async def test_from_a_hill_it_goes_down() -> None:
    at = DoubleWell()
    end = await found(at, np.array([0.01, -0.02, 0.3]))
    np.testing.assert_allclose(end, np.sqrt(0.5) * np.array([1, -1, 1]), atol=1e-7)
    assert at.asked < 60


async def test_a_symmetry_of_the_gradients_is_kept() -> None:
    end = await found(Counted(), np.array([0.3, 0.3]), steps=500)
    assert end == pytest.approx([1.0, 1.0], abs=1e-7)
    end = await found(DoubleWell(), np.array([0.2, -0.2, 0.2, 0.2]))
    np.testing.assert_array_equal(np.abs(end), np.abs(end[0]))


async def test_it_ends_where_the_gradient_is_noise_that_is_allowed() -> None:
    at = Bowl(tolerance=1e-8, noise=1e-6)
    end = await found(at, np.zeros(12), noise=1e4)
    assert at.asked < 120
    assert np.abs(Bowl().slope(end)).max() < 1e-5


async def test_noise_that_is_not_allowed_is_not_taken_for_rest() -> None:
    with pytest.raises(ConfigError, match="the test does not come to rest within 80 evaluations"):
        await found(Bowl(tolerance=1e-8, noise=1e-6), np.zeros(12), noise=1.0, steps=80)


async def test_a_minimum_is_evaluated_once() -> None:
    at = Bowl()
    np.testing.assert_array_equal(await found(at, np.ones(12)), np.ones(12))
    assert at.asked == 1
