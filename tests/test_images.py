"""Images and neighbours in any cell, against sums over all images."""

from __future__ import annotations

import numpy as np
from cells import frames, images
from hypothesis import given
from hypothesis import strategies as st

from mixserver.frame import Frame
from mixserver.geometry.images import neighbours, padded


@given(frame=frames(atoms=10), cutoff=st.floats(0.5, 6.0))
def test_neighbours_are_all_pairs_within_the_cutoff(frame: Frame, cutoff: float) -> None:
    found = neighbours(frame, cutoff)
    shifts = images(frame, cutoff)
    apart = frame.wrapped[None, :, None] + shifts - frame.wrapped[:, None, None]
    lengths = np.linalg.norm(apart, axis=-1)
    expected = (lengths < cutoff) & (lengths > 1e-9)
    clear = np.abs(lengths - cutoff) > 1e-9
    assert len(found.first) == np.count_nonzero(expected & clear) or not clear.all()
    np.testing.assert_allclose(np.linalg.norm(found.vector, axis=1), found.distance, rtol=1e-12)
    np.testing.assert_allclose(
        np.sort(found.distance), np.sort(lengths[expected]), rtol=1e-9, atol=1e-9
    )
    assert (np.diff(found.first) >= 0).all()
    # each pair comes from both sides
    np.testing.assert_allclose(found.vector.sum(axis=0), 0.0, atol=1e-8 * (1 + len(found.first)))


@given(frame=frames(atoms=10), pad=st.floats(0.0, 8.0))
def test_images_are_lattice_vectors_away_and_reach_as_far_as_asked(
    frame: Frame, pad: float
) -> None:
    places, atoms = padded(frame, pad)
    steps = (places - frame.wrapped[atoms]) @ frame.inverse
    np.testing.assert_allclose(steps, np.rint(steps), atol=1e-9)
    assert not steps[:, ~np.array(frame.topology.pbc)].round().any()
    inside = np.flatnonzero(~np.rint(steps).any(axis=1))
    assert sorted(atoms[inside]) == list(range(len(frame)))
