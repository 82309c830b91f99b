"""Shots: time steps and ends, and their files."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mixserver.core.errors import ConfigError
from mixserver.ipi.projectile import Projectile, read_ended, read_shot, time_step, verdict

SHOT = Projectile(atom=9, top=20.0, bottom=0.0, limit_fs=100.0, still_ev=0.3, still_fs=10.0)
HEIGHTS = st.floats(-40.0, 10.0)
SPEEDS = st.floats(-1.0, 1.0)


@given(fastest=st.floats(0.0, 1e3))
def test_no_atom_moves_farther_than_allowed_and_no_step_is_longer(fastest: float) -> None:
    step = time_step(fastest, SHOT)
    assert 0.0 < step <= SHOT.longest_fs
    assert step * fastest <= SHOT.farthest * (1.0 + 1e-12)


@pytest.mark.parametrize("speed", [float("nan"), float("inf")])
def test_speeds_that_are_not_finite_are_refused(speed: float) -> None:
    with pytest.raises(ConfigError, match="blew up"):
        time_step(speed, SHOT)


@given(z=HEIGHTS, speed=SPEEDS, still=st.floats(0.0, 20.0))
def test_every_shot_ends_with_its_time(z: float, speed: float, still: float) -> None:
    end = verdict(z, speed, SHOT.limit_fs, still, SHOT)
    assert end in {"reflected", "passed", "stopped", "undecided"}
    if end == "undecided":
        assert z >= 0.0
    if end == "stopped":
        assert z < 0.0


@given(z=HEIGHTS, speed=SPEEDS, time=st.floats(0.0, 99.0), still=st.floats(0.0, 20.0))
def test_before_its_time_a_shot_ends_outside_or_at_rest(
    z: float, speed: float, time: float, still: float
) -> None:
    end = verdict(z, speed, time, still, SHOT)
    if z > SHOT.clear and speed > 0.0:
        assert end == "reflected"
    elif z < -20.0 - SHOT.clear and speed < 0.0:
        assert end == "passed"
    elif still >= SHOT.still_fs and z < -SHOT.clear:
        assert end == "stopped"
    else:
        assert end is None


def test_settings_and_ends_that_are_damaged_are_told(tmp_path: Path) -> None:
    assert read_ended(tmp_path / "ended.json") is None
    (tmp_path / "ended.json").write_text('{"end": "lost"}')
    with pytest.raises(ConfigError, match="delete its folder to make the shot again"):
        read_ended(tmp_path / "ended.json")
    (tmp_path / "shot.json").write_text('{"atom": 1, "top": 2.0, "bottom": 1.0, "speed": 3.0}')
    with pytest.raises(ConfigError, match="speed"):
        read_shot(tmp_path / "shot.json")
    with pytest.raises(ConfigError, match="does not hold the settings"):
        read_shot(tmp_path / "none.json")
