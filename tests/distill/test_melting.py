"""What is refused as no hot crystal any more, and what is not."""

from __future__ import annotations

import numpy as np
import pytest
from argon import CONSTANT, crystal
from cells import frames, images
from hypothesis import given

from mixserver.core.errors import ConfigError
from mixserver.core.frame import Frame, Topology
from mixserver.distill.data.melting import CrystalMonitor, check_temperature, nearest_distance

SPACING = CONSTANT / np.sqrt(2.0)


def _look(positions: np.ndarray, *, force: float = 0.1) -> None:
    sites = crystal(3)
    frame = sites.topology.frame(positions, sites.cell)
    forces = np.zeros((len(sites), 3))
    forces[5, 1] = force
    CrystalMonitor(sites, 40.0, 5.0).check(frame, forces, 0.75)


def test_a_hot_crystal_is_let_through_wherever_it_drifts() -> None:
    sites = crystal(3)
    moved = np.random.default_rng(0).normal(0.0, 0.07 * SPACING, (len(sites), 3))
    _look(sites.positions + moved + np.array([40.0, -3.0, 0.0]))


def test_a_crystal_that_melts_is_refused_with_temperature_time_and_cure() -> None:
    sites = crystal(3)
    moved = np.random.default_rng(0).normal(0.0, 0.15 * SPACING, (len(sites), 3))
    with pytest.raises(ConfigError, match="melts") as told:
        _look(sites.positions + moved)
    for word in ("at 40 K", "after 0.75 ps", "soft.temperatures", "soft.timestep_fs (now 5 fs)"):
        assert word in str(told.value)


def test_few_atoms_that_wander_are_seen_too() -> None:
    sites = crystal(3)
    positions = sites.positions.copy()
    positions[:7, 0] += 0.55 * SPACING  # 7 of 108; the mean square is still small
    with pytest.raises(ConfigError, match="6 % of them have left"):
        _look(positions)


def test_atoms_that_fall_into_each_other_are_seen_across_the_cell() -> None:
    sites = crystal(3)
    positions = sites.positions.copy()
    positions[0] += 0.45 * (positions[1] - positions[0])
    with pytest.raises(ConfigError, match=r"two atoms are 2\.04 Å apart"):
        _look(positions)


def test_a_torn_atom_is_named() -> None:
    with pytest.raises(ConfigError, match="force on atom 5 is 80 eV/Å"):
        _look(crystal(3).positions, force=80.0)


@given(frames(atoms=8))
def test_the_nearest_distance_is_that_of_all_images(frame: Frame) -> None:
    frame = Topology(frame.topology.numbers).frame(frame.positions, frame.cell)
    reach = 2.0 * (frame.volume / len(frame)) ** (1 / 3)
    between = frame.positions[:, None] - frame.positions
    pairs = np.linalg.norm(between[:, :, None] + images(frame, reach), axis=-1)
    pairs[pairs < 1e-6] = np.inf  # an atom to itself
    if pairs.min() >= reach:
        with pytest.raises(ConfigError, match="no two atoms"):
            nearest_distance(frame)
    else:
        assert nearest_distance(frame) == pytest.approx(pairs.min(), abs=1e-9)


def test_the_nearest_distance_of_one_atom_is_to_its_image() -> None:
    frame = crystal(1)
    one = Topology(frame.topology.numbers[:1]).frame(frame.positions[:1], np.diag([3.0, 4.0, 5.0]))
    assert nearest_distance(one) == pytest.approx(3.0)
    assert nearest_distance(frame) == pytest.approx(SPACING)


@pytest.mark.parametrize(
    ("measured", "fine"), [(300, True), (380, True), (420, False), (200, False)]
)
def test_the_mean_temperature_is_held_against_what_was_asked(measured: float, fine: bool) -> None:
    if fine:
        check_temperature(measured, 300.0, 216)
    else:
        with pytest.raises(ConfigError, match=r"soft\.equilibration_ps"):
            check_temperature(measured, 300.0, 216)


def test_few_atoms_may_fluctuate_more() -> None:
    check_temperature(420.0, 300.0, 30)
