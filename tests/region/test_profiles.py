"""Profiles: 1 at the core, 0 at the bulk, as smooth as they say."""

from __future__ import annotations

import numpy as np
import pytest

from mixserver.core.errors import ConfigError
from mixserver.region.profiles import PROFILES, Profile, named

STEP = 1e-5
SLOPE = 1e-8
CURVATURE = 1e-3
"""Central second differences at the ends, h = 1e-5: third derivative times h."""

profiles = pytest.mark.parametrize("profile", PROFILES.values(), ids=PROFILES)


@profiles
def test_from_one_to_nought_without_rising(profile: Profile) -> None:
    values = profile.value(np.linspace(0.0, 1.0, 10001))
    assert values[0] == 1.0
    assert values[-1] == 0.0
    assert (np.diff(values) < 0.0).all()
    assert profile.value(np.array([0.5]))[0] == 0.5


@profiles
def test_the_slope_is_the_derivative(profile: Profile) -> None:
    t = np.linspace(0.01, 0.99, 99)
    difference = (profile.value(t + STEP) - profile.value(t - STEP)) / (2.0 * STEP)
    np.testing.assert_allclose(profile.slope(t), difference, atol=SLOPE)


@pytest.mark.parametrize(("name", "order"), [("linear", 0), ("cubic", 1), ("quintic", 2)])
def test_smooth_where_core_and_bulk_meet_the_blend(name: str, order: int) -> None:
    def extended(t: np.ndarray) -> np.ndarray:
        return np.where(t <= 0.0, 1.0, named(name).value(np.clip(t, 0.0, 1.0)))

    smooth = 0
    for end in (0.0, 1.0):
        before, at, after = extended(np.array([end - STEP, end, end + STEP]))
        slopes = (at - before) / STEP, (after - at) / STEP
        if abs(slopes[1] - slopes[0]) < 1e-3:
            smooth += 1
        if order == 2:
            assert abs(after - 2.0 * at + before) / STEP**2 < CURVATURE
    assert smooth == (0 if order == 0 else 2)
    curved = abs(extended(np.array([STEP]))[0] - 1.0) / STEP**2
    assert bool(curved < CURVATURE) is (order == 2)


@pytest.mark.parametrize(
    ("name", "written"),
    [
        ("linear", lambda t: 1 - t),
        ("cubic", lambda t: 1 - (3 * t**2 - 2 * t**3)),
        ("quintic", lambda t: 1 - (10 * t**3 - 15 * t**4 + 6 * t**5)),
    ],
)
def test_as_the_books_write_them(name: str, written) -> None:
    t = np.linspace(0.0, 1.0, 101)
    np.testing.assert_allclose(named(name).value(t), written(t), atol=1e-15)


def test_an_unknown_profile_names_the_known() -> None:
    with pytest.raises(ConfigError, match=r"linear, cubic, quintic; got 'quartic'"):
        named("quartic")


@pytest.mark.parametrize("name", ["linear", "cubic", "quintic"])
def test_no_rounding_leaves_the_unit_interval(name: str) -> None:
    t = np.concatenate([np.linspace(0.0, 1e-5, 20001), 1.0 - np.linspace(0.0, 1e-5, 20001)])
    value = named(name).value(t)
    assert 0.0 <= value.min() <= value.max() <= 1.0
