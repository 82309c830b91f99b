"""Pairs of atoms and sources in a shell, against all images of all sources."""

from __future__ import annotations

import numpy as np
import pytest
from cells import every, frames, images, silicon
from hypothesis import given
from hypothesis import strategies as st
from tolerance import EXACT

from mixserver.core.frame import Frame
from mixserver.geometry import shell_pairs, within


@given(frames(atoms=12), st.integers(1, 6), st.floats(0.0, 3.0), st.floats(0.5, 4.0))
def test_a_shell_has_every_pair_of_images(
    frame: Frame, share: int, inner: float, width: float
) -> None:
    sources, outer = every(frame, share), inner + width
    got = shell_pairs(frame, sources, inner, outer)
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

    np.testing.assert_allclose(listed[order(listed)], wanted[order(wanted)], atol=EXACT)
    lengths = np.linalg.norm(got.vector, axis=1)
    np.testing.assert_allclose(got.distance, lengths, atol=EXACT)


@pytest.mark.parametrize("count", [1, 3, 60])
@pytest.mark.parametrize("cells", [2, 9], ids=["few atoms", "many atoms"])
def test_a_shell_of_a_crystal(cells: int, count: int) -> None:
    """Sizes at which other ways to search are quicker."""
    frame = silicon(cells)
    sources = np.sort(np.random.default_rng(1).choice(len(frame), count, replace=False))
    got = shell_pairs(frame, sources, 3.0, 6.0)
    near, inside = within(frame, sources, 6.0), within(frame, sources, 3.0)
    np.testing.assert_array_equal(got.inside, np.flatnonzero(inside))
    np.testing.assert_array_equal(got.atoms, np.flatnonzero(near & ~inside))
    atom = got.atoms.repeat(got.counts)
    turns = (frame.positions[atom] - frame.positions[got.source] - got.vector) @ frame.inverse
    np.testing.assert_allclose(turns, turns.round(), atol=EXACT)
    shifted = frame.positions[sources][:, None] + images(frame, 0.0)  # 4 cells each way
    for a, counted in zip(got.atoms[::37], got.counts[::37], strict=True):
        distance = np.linalg.norm(frame.positions[a] - shifted, axis=-1)
        assert counted == np.count_nonzero(distance < 6.0)
