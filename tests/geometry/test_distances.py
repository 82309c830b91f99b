"""Distances in any cell, against brute force over all images."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from cells import brute_nearest, every, frame_of, frames, images, silicon
from hypothesis import given
from hypothesis import strategies as st

from mixserver.core.cell import plane_spacings
from mixserver.core.frame import Frame
from mixserver.geometry import (
    distances_to_atoms,
    distances_to_cylinder,
    distances_to_points,
    distances_to_slab,
    distances_to_sphere,
    nearest_distances,
    within,
)
from mixserver.geometry.search_box import SearchBox

LENGTH = 1e-9
"""Å, rounding of distances between atoms many cells apart."""

reaches = st.floats(0.5, 9.0)


def _same_but_for_the_edge(got: np.ndarray, wanted: np.ndarray, reach: float) -> None:
    """Equal, except that rounding may decide about an atom exactly at the reach."""
    edge = np.isinf(got) != np.isinf(wanted)
    both = np.where(np.isinf(got), wanted, got)[edge]
    np.testing.assert_allclose(both, reach, atol=LENGTH)
    np.testing.assert_allclose(got[~edge], wanted[~edge], atol=LENGTH)


@given(frames(), st.integers(1, 6), reaches)
def test_nearest_is_brute_force(frame: Frame, share: int, reach: float) -> None:
    sources = every(frame, share)
    got = nearest_distances(frame, sources, reach)
    _same_but_for_the_edge(got, brute_nearest(frame, frame.positions[sources], reach), reach)


@given(frames(atoms=6, smallest=0.8), st.floats(8.0, 12.0))
def test_cells_much_smaller_than_the_reach(frame: Frame, reach: float) -> None:
    got = nearest_distances(frame, np.array([0]), reach)
    _same_but_for_the_edge(got, brute_nearest(frame, frame.positions[:1], reach), reach)


@given(frames(), reaches, st.tuples(*[st.floats(-20.0, 20.0)] * 3))
def test_points_anywhere(frame: Frame, reach: float, point: tuple[float, ...]) -> None:
    # brought near the atoms, so that brute force has few images to try
    fractions = np.array([point]) @ np.linalg.inv(frame.cell)
    points = (fractions - np.floor(fractions) * frame.topology.pbc) @ frame.cell
    got = distances_to_points(frame, np.array([point]), reach).dense(len(frame))
    _same_but_for_the_edge(got, brute_nearest(frame, points, reach), reach)


@given(frames(), reaches, st.floats(0.0, 3.0))
def test_a_sphere_has_an_inside_and_a_surface(frame: Frame, reach: float, radius: float) -> None:
    centre = frame.cell.sum(axis=0) * 0.3
    got = distances_to_sphere(frame, centre, radius, reach).dense(len(frame))
    wanted = brute_nearest(frame, centre[None], reach + radius) - radius
    _same_but_for_the_edge(got, np.maximum(wanted, 0.0), reach)


@given(frames(), st.integers(0, 2), reaches, st.floats(0.0, 3.0))
def test_a_cylinder_is_endless(frame: Frame, axis: int, reach: float, radius: float) -> None:
    centre = frame.cell.sum(axis=0) * 0.3
    unit = frame.cell[axis] / np.linalg.norm(frame.cell[axis])
    apart = frame.positions[:, None] - centre - images(frame, reach + radius)
    apart -= (apart @ unit)[..., None] * unit
    wanted = np.maximum(np.linalg.norm(apart, axis=-1).min(axis=1) - radius, 0.0)
    got = distances_to_cylinder(frame, axis, centre, radius, reach).dense(len(frame))
    _same_but_for_the_edge(got, np.where(wanted <= reach, wanted, np.inf), reach)


@given(frames(), st.integers(0, 2), reaches, st.floats(-0.5, 0.9), st.floats(0.01, 0.6))
def test_a_slab_repeats(frame: Frame, axis: int, reach: float, low: float, width: float) -> None:
    height = plane_spacings(frame.cell)[axis]
    normal = frame.inverse[:, axis] * height
    turns = range(-8, 9) if frame.topology.pbc[axis] else (0,)
    above = (frame.positions @ normal)[:, None] - height * (low + np.array(turns))
    wanted = np.maximum(np.maximum(-above, above - width * height), 0.0).min(axis=1)
    got = distances_to_slab(frame, axis, low, low + width, reach).dense(len(frame))
    _same_but_for_the_edge(got, np.where(wanted <= reach, wanted, np.inf), reach)


def test_two_points_across_the_boundary_are_neighbours() -> None:
    frame = frame_of(np.array([[0.1, 5, 5], [9.9, 5, 5.0]]), np.eye(3) * 10.0)
    np.testing.assert_allclose(
        nearest_distances(frame, np.array([0]), 1.0), [0.0, 0.2], atol=LENGTH
    )
    open_frame = frame_of(frame.positions, frame.cell, (False, True, True))
    assert nearest_distances(open_frame, np.array([0]), 1.0)[1] == np.inf


def test_the_reach_itself_is_within() -> None:
    frame = frame_of(np.array([[0.0, 0, 0], [3.0, 0, 0], [0, 3.0001, 0]]), np.eye(3) * 50.0)
    np.testing.assert_array_equal(within(frame, np.array([0]), 3.0), [True, True, False])


@pytest.mark.parametrize("reach", [0.0, 4.0])
def test_no_sources_are_near_nothing(reach: float) -> None:
    assert not len(distances_to_atoms(silicon(1), np.empty(0, dtype=np.intp), reach).atoms)


def test_skipped_atoms_are_left_out() -> None:
    frame = silicon(2)
    skip = np.zeros(len(frame), dtype=bool)
    skip[10:] = True
    everything = distances_to_atoms(frame, np.array([3, 20]), 5.0).atoms
    np.testing.assert_array_equal(
        distances_to_atoms(frame, np.array([3, 20]), 5.0, skip=skip).atoms,
        everything[everything < 10],
    )


@pytest.mark.parametrize("pbc", list(itertools.product((False, True), repeat=3)))
@pytest.mark.parametrize("tilt", [0.0, 0.7])
def test_sources_spread_among_many_atoms(pbc: tuple[bool, bool, bool], tilt: float) -> None:
    rng = np.random.default_rng([*pbc, int(tilt > 0)])
    cell = np.diag(rng.uniform(9.0, 14.0, 3)) + np.tril(rng.uniform(-tilt, tilt, (3, 3)), -1) * 9.0
    cell = (cell @ np.linalg.qr(rng.normal(size=(3, 3)))[0])[rng.permutation(3)]
    frame = frame_of(rng.uniform(-0.5, 1.5, (700, 3)) @ cell, cell, pbc)
    sources = np.arange(5)
    for reach in (0.7, 1.6, 2.6):
        got = nearest_distances(frame, sources, reach)
        wanted = brute_nearest(frame, frame.positions[sources], reach)
        _same_but_for_the_edge(got, wanted, reach)


def test_atoms_far_from_spread_sources_are_not_measured() -> None:
    frame = silicon(12)
    sources = np.sort(np.random.default_rng(2).choice(len(frame), 8, replace=False))
    box = SearchBox(frame, frame.fractional[sources], frame.positions[sources], 7.0)
    atoms, _ = box.targets(frame)
    near = distances_to_atoms(frame, sources, 7.0).atoms
    assert np.isin(near, atoms).all()
    assert len(atoms) < 8 * len(near)
