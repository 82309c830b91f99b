"""Distances in any cell, against brute force over all images."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from cells import brute_distances, brute_nearest, frame_of, frames, images, silicon
from hypothesis import given
from hypothesis import strategies as st

from mixserver.frame import Frame
from mixserver.geometry import (
    connected,
    heights,
    near_atoms,
    near_cylinder,
    near_points,
    near_slab,
    near_sphere,
    nearest,
    shell,
    within,
)
from mixserver.geometry.window import Window

LENGTH = 1e-9
"""Å, rounding of distances between atoms many cells apart."""

reaches = st.floats(0.5, 9.0)


def _sources(frame: Frame, share: int) -> np.ndarray:
    return np.arange(0, len(frame), share)


def _same_but_for_the_edge(got: np.ndarray, wanted: np.ndarray, reach: float) -> None:
    """Equal, except that rounding may decide about an atom exactly at the reach."""
    edge = np.isinf(got) != np.isinf(wanted)
    both = np.where(np.isinf(got), wanted, got)[edge]
    np.testing.assert_allclose(both, reach, atol=LENGTH)
    np.testing.assert_allclose(got[~edge], wanted[~edge], atol=LENGTH)


@given(frames(), st.integers(1, 6), reaches)
def test_nearest_is_brute_force(frame: Frame, share: int, reach: float) -> None:
    sources = _sources(frame, share)
    got = nearest(frame, sources, reach)
    _same_but_for_the_edge(got, brute_nearest(frame, frame.positions[sources], reach), reach)


@given(frames(atoms=6, smallest=0.8), st.floats(8.0, 12.0))
def test_cells_much_smaller_than_the_reach(frame: Frame, reach: float) -> None:
    got = nearest(frame, np.array([0]), reach)
    _same_but_for_the_edge(got, brute_nearest(frame, frame.positions[:1], reach), reach)


@given(frames(), reaches, st.tuples(*[st.floats(-20.0, 20.0)] * 3))
def test_points_anywhere(frame: Frame, reach: float, point: tuple[float, ...]) -> None:
    # brought near the atoms, so that brute force has few images to try
    fractions = np.array([point]) @ np.linalg.inv(frame.cell)
    points = (fractions - np.floor(fractions) * frame.topology.pbc) @ frame.cell
    got = near_points(frame, np.array([point]), reach).dense(len(frame))
    _same_but_for_the_edge(got, brute_nearest(frame, points, reach), reach)


@given(frames(), reaches, st.floats(0.0, 3.0))
def test_a_sphere_has_an_inside_and_a_surface(frame: Frame, reach: float, radius: float) -> None:
    centre = frame.cell.sum(axis=0) * 0.3
    got = near_sphere(frame, centre, radius, reach).dense(len(frame))
    wanted = brute_nearest(frame, centre[None], reach + radius) - radius
    _same_but_for_the_edge(got, np.maximum(wanted, 0.0), reach)


@given(frames(), st.integers(0, 2), reaches, st.floats(0.0, 3.0))
def test_a_cylinder_is_endless(frame: Frame, axis: int, reach: float, radius: float) -> None:
    centre = frame.cell.sum(axis=0) * 0.3
    unit = frame.cell[axis] / np.linalg.norm(frame.cell[axis])
    apart = frame.positions[:, None] - centre - images(frame, reach + radius)
    apart -= (apart @ unit)[..., None] * unit
    wanted = np.maximum(np.linalg.norm(apart, axis=-1).min(axis=1) - radius, 0.0)
    got = near_cylinder(frame, axis, centre, radius, reach).dense(len(frame))
    _same_but_for_the_edge(got, np.where(wanted <= reach, wanted, np.inf), reach)


@given(frames(), st.integers(0, 2), reaches, st.floats(-0.5, 0.9), st.floats(0.01, 0.6))
def test_a_slab_repeats(frame: Frame, axis: int, reach: float, low: float, width: float) -> None:
    height = heights(frame.inverse)[axis]
    normal = frame.inverse[:, axis] * height
    turns = range(-8, 9) if frame.topology.pbc[axis] else (0,)
    above = (frame.positions @ normal)[:, None] - height * (low + np.array(turns))
    wanted = np.maximum(np.maximum(-above, above - width * height), 0.0).min(axis=1)
    got = near_slab(frame, axis, low, low + width, reach).dense(len(frame))
    _same_but_for_the_edge(got, np.where(wanted <= reach, wanted, np.inf), reach)


@given(frames(), st.integers(1, 4), st.floats(0.3, 6.0))
def test_groups_are_linked_inside_and_apart_outside(frame: Frame, share: int, link: float) -> None:
    atoms = _sources(frame, share)
    groups = connected(frame, atoms, link)
    linked = brute_distances(frame, frame.positions[atoms], link)[atoms] <= link
    reach = np.linalg.matrix_power(linked.astype(float) + np.eye(len(atoms)), len(atoms)) > 0
    wanted = {tuple(atoms[row]) for row in reach}
    assert {tuple(group) for group in groups} == wanted
    assert [group[0] for group in groups] == sorted(group[0] for group in groups)


def test_many_groups_are_joined_like_few() -> None:
    line = np.zeros((60, 3))
    line[:, 0] = np.arange(60) * 5.0
    line[30:, 0] += 2.5
    frame = frame_of(line, np.diag([400.0, 20.0, 20.0]))
    assert [len(g) for g in connected(frame, np.arange(60), 5.1)] == [30, 30]
    assert [len(g) for g in connected(frame, np.arange(60), 7.6)] == [60]
    assert len(connected(frame, np.arange(60), 4.5)) == 60


def test_two_points_across_the_boundary_are_neighbours() -> None:
    frame = frame_of(np.array([[0.1, 5, 5], [9.9, 5, 5.0]]), np.eye(3) * 10.0)
    np.testing.assert_allclose(nearest(frame, np.array([0]), 1.0), [0.0, 0.2], atol=LENGTH)
    open_frame = frame_of(frame.positions, frame.cell, (False, True, True))
    assert nearest(open_frame, np.array([0]), 1.0)[1] == np.inf


def test_the_reach_itself_is_within() -> None:
    frame = frame_of(np.array([[0.0, 0, 0], [3.0, 0, 0], [0, 3.0001, 0]]), np.eye(3) * 50.0)
    np.testing.assert_array_equal(within(frame, np.array([0]), 3.0), [True, True, False])


@pytest.mark.parametrize("reach", [0.0, 4.0])
def test_no_sources_are_near_nothing(reach: float) -> None:
    assert not len(near_atoms(silicon(1), np.empty(0, dtype=np.intp), reach).atoms)
    assert connected(silicon(1), np.empty(0, dtype=np.intp), 3.0) == []


def test_skipped_atoms_are_left_out() -> None:
    frame = silicon(2)
    skip = np.zeros(len(frame), dtype=bool)
    skip[10:] = True
    everything = near_atoms(frame, np.array([3, 20]), 5.0).atoms
    np.testing.assert_array_equal(
        near_atoms(frame, np.array([3, 20]), 5.0, skip=skip).atoms, everything[everything < 10]
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
        got = nearest(frame, sources, reach)
        wanted = brute_nearest(frame, frame.positions[sources], reach)
        _same_but_for_the_edge(got, wanted, reach)


def test_atoms_far_from_spread_sources_are_not_measured() -> None:
    frame = silicon(12)
    sources = np.sort(np.random.default_rng(2).choice(len(frame), 8, replace=False))
    window = Window(frame, frame.fractional[sources], frame.positions[sources], 7.0)
    atoms, _ = window.targets(frame)
    near = near_atoms(frame, sources, 7.0).atoms
    assert np.isin(near, atoms).all()
    assert len(atoms) < 8 * len(near)


@given(frames(atoms=12), st.integers(1, 6), st.floats(0.0, 3.0), st.floats(0.5, 4.0))
def test_a_shell_has_every_pair_of_images(
    frame: Frame, share: int, inner: float, width: float
) -> None:
    sources, outer = _sources(frame, share), inner + width
    got = shell(frame, sources, inner, outer)
    lattice = images(frame, outer)
    shifted = frame.positions[sources][:, None] + lattice
    inside, first, pairs = [], [], []
    for atom, position in enumerate(frame.positions):
        vectors = position - shifted
        distance = np.sqrt((vectors**2).sum(-1))
        if atom in sources or distance.min() <= inner:
            inside.append(atom)
        elif distance.min() < outer:
            first.append((atom, len(pairs)))
            source, image = np.nonzero(distance < outer)
            pairs += [
                (atom, sources[s], *vectors[s, i]) for s, i in zip(source, image, strict=True)
            ]
    np.testing.assert_array_equal(got.inside, inside)
    np.testing.assert_array_equal(
        np.column_stack((got.atoms, got.first)), np.reshape(first, (-1, 2))
    )
    listed = np.column_stack((got.atoms.repeat(got.counts), got.source, got.vector))
    wanted = np.reshape(pairs, (-1, 5))

    def order(rows: np.ndarray) -> np.ndarray:
        return np.lexsort(rows.round(6).T[::-1])

    np.testing.assert_allclose(listed[order(listed)], wanted[order(wanted)], atol=LENGTH)
    lengths = np.linalg.norm(got.vector, axis=1)
    np.testing.assert_allclose(got.distance, lengths, atol=LENGTH)


@pytest.mark.parametrize("count", [1, 3, 60])
@pytest.mark.parametrize("cells", [2, 9], ids=["few atoms", "many atoms"])
def test_a_shell_of_a_crystal(cells: int, count: int) -> None:
    """Sizes at which other ways to search are quicker."""
    frame = silicon(cells)
    sources = np.sort(np.random.default_rng(1).choice(len(frame), count, replace=False))
    got = shell(frame, sources, 3.0, 6.0)
    near, inside = within(frame, sources, 6.0), within(frame, sources, 3.0)
    np.testing.assert_array_equal(got.inside, np.flatnonzero(inside))
    np.testing.assert_array_equal(got.atoms, np.flatnonzero(near & ~inside))
    atom = got.atoms.repeat(got.counts)
    turns = (frame.positions[atom] - frame.positions[got.source] - got.vector) @ frame.inverse
    np.testing.assert_allclose(turns, turns.round(), atol=LENGTH)
    shifted = frame.positions[sources][:, None] + images(frame, 0.0)  # 4 cells each way
    for a, counted in zip(got.atoms[::37], got.counts[::37], strict=True):
        distance = np.linalg.norm(frame.positions[a] - shifted, axis=-1)
        assert counted == np.count_nonzero(distance < 6.0)
