"""Which site of a reference lies nearest, and which atom is which in another order."""

from __future__ import annotations

import numpy as np
import pytest
from cells import brute_distances, fcc, frame_of, frames, silicon
from hypothesis import given
from hypothesis import strategies as st
from tolerance import EXACT

from mixserver.core.frame import Frame, Topology
from mixserver.geometry.sites import Sites, assignment, typical_spacing

rngs = st.integers(0, 2**32 - 1).map(np.random.default_rng)


@given(frames(smallest=4.0), rngs)
def test_a_place_close_to_a_site_finds_it(frame: Frame, rng: np.random.Generator) -> None:
    atom = int(rng.integers(len(frame)))
    place = frame.positions[atom] + rng.uniform(-0.05, 0.05, 3)
    turns = rng.integers(-2, 3, 3) * frame.topology.pbc
    found = Sites(frame).nearest((place @ frame.inverse + turns)[None], frame.cell)
    apart = np.linalg.norm(place - frame.positions[atom])
    assert found.distance[0] <= apart + EXACT
    brute = brute_distances(frame, place[None], 1.0)[:, 0]
    assert found.distance[0] == pytest.approx(brute.min(), abs=1e-9) or found.distance[0] < 0.2


def test_an_atom_itself_can_be_skipped() -> None:
    frame = silicon(3, rattle=0.0)
    every = np.arange(len(frame))
    near = Sites(frame).nearest(frame.fractional, frame.cell, skip=every)
    assert (near.atoms != every).all()
    np.testing.assert_allclose(near.distance, 5.43 * np.sqrt(3.0) / 4.0, atol=EXACT)


@pytest.mark.parametrize("cells", [2, 12])  # the larger is looked at in part
def test_the_spacing_is_the_distance_of_nearest_neighbours(cells: int) -> None:
    assert typical_spacing(silicon(cells, rattle=0.0)) == pytest.approx(5.43 * np.sqrt(3.0) / 4.0)
    assert typical_spacing(fcc(cells, 4.0, rattle=0.01)) == pytest.approx(
        4.0 / np.sqrt(2.0), rel=0.02
    )


def test_one_atom_has_the_spacing_of_its_volume() -> None:
    assert typical_spacing(frame_of(np.zeros((1, 3)), np.eye(3) * 3.0)) == pytest.approx(3.0)


@given(rngs, st.floats(0.0, 0.2))
def test_a_permutation_is_undone(rng: np.random.Generator, shake: float) -> None:
    reference = silicon(2, rattle=0.0)
    numbers = rng.permutation(np.repeat(np.array([14, 6], np.int32), 32))
    reference = Topology(numbers).frame(reference.positions, reference.cell)
    order = rng.permutation(64)
    moved = reference.positions[order] + rng.uniform(-shake, shake, (64, 3))
    moved += rng.integers(-1, 2, (64, 3)) @ reference.cell
    found, distance = assignment(
        reference, moved @ reference.inverse, numbers[order], reference.cell
    )
    np.testing.assert_array_equal(found, order)
    assert distance.max() <= np.sqrt(3.0) * shake + EXACT


def test_atoms_that_share_a_site_are_assigned_one_each() -> None:
    reference = fcc(2, 4.0, rattle=0.0)
    places = reference.fractional.copy()
    places[3] = places[4] + 0.01
    found, _ = assignment(reference, places, reference.topology.numbers, reference.cell)
    np.testing.assert_array_equal(np.sort(found), np.arange(32))
    assert found[4] == 4
    assert found[3] == 3


def test_other_elements_are_refused() -> None:
    reference = fcc(2, 4.0)
    numbers = np.full(32, 14, np.int32)
    numbers[0] = 6
    with pytest.raises(ValueError, match="0 sites of element 6"):
        assignment(reference, reference.fractional, numbers, reference.cell)
