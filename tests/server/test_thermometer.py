"""Temperatures by region, from how far atoms move in one step."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mixserver.core.frame import Frame, Topology
from mixserver.core.units import BOLTZMANN
from mixserver.region.region import Region
from mixserver.server.records.thermometer import RegionThermometer

CELL = np.diag([30.0, 30.0, 30.0])
EV = 103.64269652


def _frames(velocities: np.ndarray, step_fs: float) -> tuple[Frame, Frame]:
    topology = Topology(np.full(len(velocities), 14, dtype=np.int32))
    start = np.random.default_rng(3).uniform(0.0, 30.0, velocities.shape)
    return tuple(topology.frame(start + n * step_fs * velocities, CELL, number=n) for n in (0, 1))  # type: ignore[return-value]


@given(st.floats(1.0, 2000.0), st.floats(0.1, 5.0))
def test_atoms_of_a_temperature_have_that_temperature(kelvin: float, step_fs: float) -> None:
    rng = np.random.default_rng(1)
    masses = rng.uniform(1.0, 200.0, 3000)
    sigma = np.sqrt(BOLTZMANN * kelvin / (masses * EV))
    velocities = rng.normal(size=(3000, 3)) * sigma[:, None]
    velocities[2000:] *= 2.0  # the bulk is four times as hot
    region = Region(np.repeat([1.0, 0.5, 0.0], 1000), np.array([0]))
    found = RegionThermometer(masses, step_fs).measure(*_frames(velocities, step_fs), region)
    scatter = 5.0 * np.sqrt(2.0 / 9000.0)
    assert found == pytest.approx((kelvin, kelvin, 4.0 * kelvin), rel=scatter)


def test_components_that_do_not_move_do_not_count() -> None:
    """i-PI holds atoms with <fixatoms>, and components with <fixatoms_dof>."""
    velocities = np.zeros((4, 3))
    velocities[0, 0] = velocities[3, 1] = 0.01
    region = Region(np.array([1.0, 1.0, 0.5, 0.0]), np.array([0]))
    found = RegionThermometer(np.full(4, 28.0), 1.0).measure(*_frames(velocities, 1.0), region)
    assert found.blend is None
    assert found.core == found.bulk == pytest.approx(28.0 * EV * 1e-4 / BOLTZMANN)


def test_a_cell_that_a_barostat_moves_heats_nothing() -> None:
    before, _ = _frames(np.zeros((5, 3)), 1.0)
    swollen = before.topology.frame(1.01 * before.positions, 1.01 * before.cell, number=1)
    region = Region(np.array([1.0, 1.0, 0.5, 0.0, 0.0]), np.array([0]))
    found = RegionThermometer(np.full(5, 28.0), 1.0).measure(before, swollen, region)
    assert all(value is None or value < 1e-20 for value in found)


def test_atoms_that_i_pi_wraps_are_not_hot() -> None:
    velocities = np.random.default_rng(2).normal(0.0, 0.005, (50, 3))
    before, after = _frames(velocities, 1.0)
    region = Region(np.repeat([1.0, 0.5], 25), np.array([0]))
    thermometer = RegionThermometer(np.full(50, 28.0), 1.0)
    edge = before.topology.frame(-0.5 * velocities % 30.0, CELL, number=0)
    across = before.topology.frame(0.5 * velocities % 30.0, CELL, number=1)
    assert np.abs(across.positions - edge.positions).max() > 29.0
    free = thermometer.measure(before, after, region)[:2]
    assert thermometer.measure(edge, across, region)[:2] == pytest.approx(free, rel=1e-9)


def test_only_frames_that_follow_each_other_are_compared_and_seldom() -> None:
    now = 0.0
    thermometer = RegionThermometer(np.ones(2), 1.0, clock=lambda: now)
    topology = Topology(np.array([14, 14], dtype=np.int32))
    frames = [topology.frame(np.full((2, 3), 0.1 * n), CELL, number=n) for n in range(9)]
    assert thermometer.follows(frames[0]) is None
    assert thermometer.follows(frames[1]) is frames[0]
    assert thermometer.follows(frames[3]) is None

    def slow() -> float:
        nonlocal now
        now += 0.5
        return now

    thermometer._clock = slow
    thermometer.measure(frames[0], frames[1], Region(np.ones(2), np.array([0])))
    thermometer._clock = lambda: now
    assert thermometer.follows(frames[4]) is None  # 200 times half a second is not over
    now += 101.0
    assert thermometer.follows(frames[5]) is None
    assert thermometer.follows(frames[6]) is frames[5]
