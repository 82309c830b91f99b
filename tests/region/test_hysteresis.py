"""Hysteresis and what a restart file holds."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mixserver.core.errors import ConfigError
from mixserver.region.hysteresis import RegionState, arrive, follow

shares = st.floats(0.0, 1.0)
times = st.floats(0.0, 50.0)


@given(shares, shares, times, times)
def test_follow_is_the_recursion_of_ml_mix(
    previous: float, target: float, time_in: float, time_out: float
) -> None:
    (got,) = follow(np.array([previous]), np.array([target]), time_in, time_out)
    time = time_in if target > previous else time_out
    wanted = previous + min(1.0, 1.0 / time if time else 1.0) * (target - previous)
    if target < previous and wanted < 0.01:
        wanted = 0.0
    if target > previous and wanted > 0.99:
        wanted = 1.0
    assert got == pytest.approx(wanted, abs=1e-15)
    assert 0.0 <= got <= 1.0


@given(shares)
def test_at_rest_nothing_moves(share: float) -> None:
    assert follow(np.array([share]), np.array([share]), 7.0, 3.0)[0] == share


def test_lambda_arrives_and_stays() -> None:
    share, history = np.zeros(1), []
    for _ in range(60):
        share = follow(share, np.ones(1), 10.0, 20.0)
        history.append(share[0])
    assert history[0] == pytest.approx(0.1)
    assert history.index(1.0) == 43  # 0.9**44 < 0.01
    for _ in range(91):
        share = follow(share, np.zeros(1), 10.0, 20.0)
    assert share[0] == 0.0


def test_the_snap_never_works_against_the_motion() -> None:
    rising = follow(np.array([0.0]), np.array([0.05]), 10.0, 10.0)
    assert rising[0] == pytest.approx(0.005)
    falling = follow(np.array([1.0]), np.array([0.95]), 10.0, 10.0)
    assert falling[0] == pytest.approx(0.995)


def test_nearly_there_is_there() -> None:
    share = np.array([0.495, 0.505, 0.48, 0.0])
    np.testing.assert_array_equal(
        arrive(share, np.array([0.5, 0.5, 0.5, 0.005])), [0.5, 0.5, 0.48, 0.005]
    )


def test_memory_survives_json() -> None:
    memory = RegionState(
        evaluations=7,
        active=np.array([1, 4]),
        active_lambda=np.array([0.1 + 0.2, 1.0]),
        selected=np.array([4]),
        summed=np.array([1.0, 1 / 3]),
        samples=2,
        target_atoms=np.array([2]),
        target_lambda=np.array([0.3]),
        work=-0.1 - 0.2,
    )
    again = RegionState.from_dict(json.loads(json.dumps(memory.to_dict())))
    assert again.to_dict() == memory.to_dict()
    assert again.active is not None
    assert again.active.dtype == np.intp
    empty = RegionState.from_dict(json.loads(json.dumps(RegionState().to_dict())))
    assert empty.active is None
    assert empty.selected is None


@pytest.mark.parametrize(
    "plain", [{}, {"evaluations": "x"}, {**RegionState().to_dict(), "active": "y"}]
)
def test_another_state_is_refused(plain: dict) -> None:  # type: ignore[type-arg]
    with pytest.raises(ConfigError, match="not the state of a region"):
        RegionState.from_dict(plain)
