"""Neighbour lists and periodic images in any cell, against sums over all images."""

from __future__ import annotations

import numpy as np
from cells import frame_of, frames, images, silicon
from hypothesis import assume, given
from hypothesis import strategies as st
from tolerance import EXACT

from mixserver.core.frame import Frame
from mixserver.geometry import neighbour_list, with_images


@given(frame=frames(atoms=10), cutoff=st.floats(0.5, 6.0))
def test_the_list_has_every_pair_of_images_once(frame: Frame, cutoff: float) -> None:
    found = neighbour_list(frame, cutoff)
    shifts = images(frame, cutoff)
    vectors = frame.positions[None, :, None] + shifts - frame.positions[:, None, None]
    lengths = np.linalg.norm(vectors, axis=-1)
    assume((np.abs(lengths - cutoff) > EXACT).all())  # there rounding decides
    first, second, image = np.nonzero((lengths < cutoff) & (lengths > EXACT))
    expected = np.column_stack((first, second, vectors[first, second, image]))
    listed = np.column_stack((found.first, found.second, found.vector))

    def order(rows: np.ndarray) -> np.ndarray:
        return np.lexsort(rows.round(6).T[::-1])

    assert len(listed) == len(expected)
    np.testing.assert_allclose(listed[order(listed)], expected[order(expected)], atol=EXACT)
    np.testing.assert_allclose(np.linalg.norm(found.vector, axis=1), found.distance, rtol=1e-12)
    assert (np.diff(found.first) >= 0).all()


def test_atoms_at_one_place_are_a_pair_and_an_atom_is_none_with_itself() -> None:
    frame = frame_of(np.array([[1.0, 1, 1], [1, 1, 1], [4, 4, 4]]), np.eye(3) * 7.0)
    found = neighbour_list(frame, 3.0)
    assert list(zip(found.first, found.second, found.distance, strict=True)) == [
        (0, 1, 0.0),
        (1, 0, 0.0),
    ]


def test_the_list_is_the_same_each_time() -> None:
    frame = silicon(4)
    for one, other in zip(neighbour_list(frame, 5.0), neighbour_list(frame, 5.0), strict=True):
        np.testing.assert_array_equal(one, other)


@given(frame=frames(atoms=10), pad=st.floats(0.0, 8.0))
def test_images_are_lattice_vectors_away_and_reach_as_far_as_asked(
    frame: Frame, pad: float
) -> None:
    places, atoms = with_images(frame, pad)
    steps = (places - frame.wrapped[atoms]) @ frame.inverse
    np.testing.assert_allclose(steps, np.rint(steps), atol=1e-9)
    assert not steps[:, ~np.array(frame.topology.pbc)].round().any()
    inside = np.flatnonzero(~np.rint(steps).any(axis=1))
    assert sorted(atoms[inside]) == list(range(len(frame)))
