"""Verlet lists against brute force along trajectories: drifting atoms, jumps, changing sources."""

from __future__ import annotations

import numpy as np
import pytest
from cells import brute_distances, frame_of, frames, silicon
from hypothesis import given, settings
from hypothesis import strategies as st

from mixserver.core.frame import Frame
from mixserver.geometry import DisplacementTracker, VerletList
from mixserver.mixing.clusters import Carver
from mixserver.region import Region


def _moved(frame: Frame, positions: np.ndarray, cell: np.ndarray | None = None) -> Frame:
    return Frame(frame.topology, positions, frame.cell if cell is None else cell)


@settings(deadline=None)  # brute force over many images
@given(
    frames(),
    st.integers(0, 1 << 32),
    st.floats(0.0, 6.0),
    st.sampled_from([0.001, 0.02, 0.06, 0.3]),
)
def test_masks_are_right_all_along_a_trajectory(
    frame: Frame, seed: int, reach: float, step: float
) -> None:
    rng = np.random.default_rng(seed)
    tracker, verlet = DisplacementTracker(), VerletList(reach)
    place, cell, count = frame.positions.copy(), frame.cell, len(frame)
    among = rng.random(count) < 0.3
    for number in range(12):
        now = _moved(frame, place, cell)
        sources = np.flatnonzero(among)
        tracker.update(now)
        mask = verlet.mask(now, tracker, sources, among) | among
        inside = _moved(frame, now.wrapped, cell)
        distance = brute_distances(inside, inside.positions, max(reach, 1.0))[:, among]
        wanted = among.copy()
        if len(sources):
            wanted |= distance.min(axis=1) <= reach
        np.testing.assert_array_equal(mask, wanted, err_msg=f"evaluation {number}")
        place = place + rng.uniform(-step, step, place.shape)
        if number == 5:  # by lattice vectors: the same crystal, other images
            place = place + rng.integers(-2, 3, place.shape) * frame.topology.pbc @ cell
        if number == 8:
            cell = cell * 1.001
        among = among ^ (rng.random(count) < 0.1)


def test_a_far_atom_that_moved_more_is_seen_when_a_source_appears_near_it() -> None:
    place = np.array([[0.0, 0.0, 0.0], [7.7, 0.0, 0.0], [12.0, 0.0, 0.0]])
    tracker, verlet, among = DisplacementTracker(), VerletList(3.0), np.array([True, False, False])
    for number in range(8):
        frame = frame_of(place.copy(), 40.0 * np.eye(3))
        tracker.update(frame)
        if number == 7:
            assert tracker.reference is not None, "the third atom is not watched yet"
            among = np.array([True, True, False])
        mask = verlet.mask(frame, tracker, np.flatnonzero(among), among)
        assert mask[2] == (number == 7)
        place[2, 0] -= 0.2


def test_a_reference_lasts_while_atoms_move_a_little_and_not_while_they_jump() -> None:
    frame = silicon(1)
    tracker = DisplacementTracker()

    def after(distance: float, cell: np.ndarray | None = None) -> Frame | None:
        tracker.update(_moved(frame, frame.positions + np.array([distance, 0.0, 0.0]), cell))
        return tracker.reference

    assert after(0.0) is None, "the speed of the first frame is unknown"
    reference = after(0.1)
    assert reference is not None
    tracker.watch(np.arange(1))
    assert after(0.3) is after(0.5) is after(0.59) is reference
    later = after(0.61)
    assert later is not None
    assert later is not reference, "slow, but too far from the old one"
    assert after(0.8) is after(1.0) is after(1.2) is later, "no atom is watched"
    assert after(5.0) is None
    assert after(5.0, 1.01 * frame.cell) is None


@pytest.mark.parametrize("away", [-1e-12, 0.0, 1e-12])
def test_the_edge_is_where_the_search_has_it(away: float) -> None:
    place = np.array([[0.0, 0.0, 0.0], [3.0 + away, 0.0, 0.0], [0.0, 7.0, 0.0]])
    frame = frame_of(place, 20.0 * np.eye(3))
    tracker, verlet, among = DisplacementTracker(), VerletList(3.0), np.array([True, False, False])
    for _ in range(4):
        tracker.update(frame)
        mask = verlet.mask(frame, tracker, np.array([0]), among)
        assert mask[1] == (away <= 0.0)


def test_clusters_do_not_depend_on_what_was_carved_before() -> None:
    rng = np.random.default_rng(3)
    start = silicon(3)
    old = Carver(3.0, 4.0)
    place = start.positions.copy()
    for number in range(40):
        frame = _moved(start, place)
        centre = start.positions[0] + np.array([0.2 * number, 0.0, 0.0])
        apart = np.linalg.norm(place - centre, axis=1)
        expensive = np.clip(5.0 - apart, 0.0, 1.0)
        expensive[-3:] = 1.0  # a second cluster, far off until the first comes near
        region = Region(expensive, np.array([0]))
        fresh = Carver(3.0, 4.0).carve(frame, region)
        again = old.carve(frame, region)
        assert len(fresh) == len(again)
        for one, other in zip(fresh, again, strict=True):
            np.testing.assert_array_equal(one.atoms, other.atoms)
            np.testing.assert_array_equal(one.sites, other.sites)
            np.testing.assert_array_equal(one.keep, other.keep)
        place += rng.normal(scale=0.03, size=place.shape)
