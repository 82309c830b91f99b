"""Distances of nearest neighbours and of images, against counting all of them."""

from __future__ import annotations

import itertools

import numpy as np
from cells import frame_of, frames
from hypothesis import given, settings
from hypothesis import strategies as st

from mixserver.core.frame import Frame
from mixserver.geometry import image_distance, shortest_distance, spacing


def all_distances(frame: Frame) -> np.ndarray:
    """(N, N) Å to the nearest image, of itself another one."""
    ranges = [(-3, -2, -1, 0, 1, 2, 3) if repeats else (0,) for repeats in frame.topology.pbc]
    least = np.full((len(frame), len(frame)), np.inf)
    for shift in itertools.product(*ranges):
        moved = frame.wrapped + np.array(shift, float) @ frame.cell
        distance = np.linalg.norm(frame.wrapped[:, None] - moved[None], axis=2)
        if not any(shift):
            np.fill_diagonal(distance, np.inf)
        least = np.minimum(least, distance)
    return least


@settings(max_examples=40)
@given(frames(atoms=12, smallest=5.0))
def test_nearest_neighbours_are_found(frame: Frame) -> None:
    expected = all_distances(frame).min(axis=1)
    found = spacing(frame)
    if found is None:
        assert not np.isfinite(expected).any()
        return
    np.testing.assert_allclose(found.nearest, expected.min(), atol=1e-9)
    np.testing.assert_allclose(found.typical, np.median(expected), atol=1e-9)
    np.testing.assert_allclose(all_distances(frame)[found.pair], found.nearest, atol=1e-9)


@settings(max_examples=40)
@given(frames(atoms=12, smallest=3.0), st.floats(0.1, 6.0))
def test_the_shortest_distance_is_that_of_the_nearest_neighbours(
    frame: Frame, reach: float
) -> None:
    expected = all_distances(frame).min()
    found = shortest_distance(frame)
    assert found == expected == np.inf or abs(found - expected) < 1e-9
    close = shortest_distance(frame, reach)
    if expected < reach - 1e-9:
        assert abs(close - expected) < 1e-9
    elif expected > reach + 1e-9:
        assert close == np.inf


def test_two_atoms_at_one_place_and_a_single_atom() -> None:
    cell = np.eye(3) * 7.0
    found = spacing(frame_of(np.array([[1.0, 1, 1], [1, 1, 1], [4, 4, 4]]), cell))
    assert found is not None
    assert (found.nearest, found.pair) == (0.0, (0, 1))
    alone = spacing(frame_of(np.ones((1, 3)), cell))
    assert alone is not None
    assert (alone.nearest, alone.pair) == (7.0, (0, 0))
    assert spacing(frame_of(np.ones((1, 3)), cell, (False, False, False))) is None


@settings(max_examples=25)
@given(st.floats(2.0, 20.0), st.booleans(), st.integers(0, 2**32 - 1))
def test_the_distance_between_images_is_the_vacuum(vacuum: float, along: bool, seed: int) -> None:
    """A slab of known thickness, shifted anywhere."""
    rng = np.random.default_rng(seed)
    layers = np.array([[x, y, z] for x in (0, 2.5) for y in (0, 2.5) for z in (0.0, 2.0, 4.0)])
    cell = np.diag([5.0, 5.0, 4.0 + vacuum])
    frame = frame_of(layers + rng.uniform(-9, 9, 3), cell)
    assert abs(image_distance(frame, (False, False, True), 12.0) - min(vacuum, 12.0)) < 1e-9
    if along:
        assert abs(image_distance(frame, (True, False, True), 12.0) - min(vacuum, 2.5)) < 1e-9
