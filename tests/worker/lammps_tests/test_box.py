"""The box for LAMMPS is the same lattice, whatever the cell; rotations go there and back."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from mixserver_worker.engines.lammps.box import box_for

ROUNDING = 1e-9

cells = hnp.arrays(np.float64, (3, 3), elements=st.floats(-20, 20, width=32)).filter(
    lambda cell: abs(np.linalg.det(cell)) > 20.0 and np.linalg.svd(cell)[1].min() > 0.5
)
pbcs = st.tuples(st.booleans(), st.booleans(), st.booleans())


@given(cells, pbcs, st.integers(0, 99))
def test_the_box_spans_the_same_lattice(
    cell: np.ndarray, pbc: tuple[bool, bool, bool], seed: int
) -> None:
    positions = np.random.default_rng(seed).normal(scale=20.0, size=(7, 3))
    box = box_for(positions, cell, pbc)
    assert (np.triu(box.edges, 1) == 0.0).all()
    assert (np.diag(box.edges) > 0.0).all()
    rotation = np.eye(3) if box.rotation is None else box.rotation
    np.testing.assert_allclose(rotation @ rotation.T, np.eye(3), atol=ROUNDING)
    periodic = np.flatnonzero(pbc)
    if periodic.size:
        back = box.edges[periodic] @ rotation.T
        whole = back @ np.linalg.pinv(cell[periodic])
        np.testing.assert_allclose(whole, np.rint(whole), atol=1e-6)
        np.testing.assert_allclose(whole @ cell[periodic], back, atol=1e-6)
        assert abs(np.linalg.det(np.rint(whole))) == pytest.approx(1.0)
    for row, column in ((1, 0), (2, 0), (2, 1)):
        if not (pbc[row] and pbc[column]):
            assert box.edges[row, column] == 0.0
    assert box.holds(box.inward(positions))
    np.testing.assert_allclose(box.outward(box.inward(positions)), positions, atol=ROUNDING)
    wrapped = box.wrapped(box.inward(positions))
    fraction = (wrapped - box.low) @ box.inverse
    assert fraction.min() > -ROUNDING
    assert fraction.max() < 1.0 + ROUNDING
    shift = box.shift_to_nearest(wrapped + 3 * pbc[0] * box.edges[0], wrapped)
    np.testing.assert_allclose(shift, np.tile(-3 * pbc[0] * box.edges[0], (7, 1)), atol=1e-6)


def test_a_triangular_cell_is_taken_as_it_is() -> None:
    cell = np.array([[9.0, 0, 0], [2.0, 8.0, 0], [-1.0, 3.0, 7.0]])
    box = box_for(np.zeros((1, 3)), cell, (True, True, True))
    assert box.rotation is None
    assert np.array_equal(box.edges, cell)
    assert box.volume == pytest.approx(9 * 8 * 7)
    vectors = np.ones((2, 3))
    assert box.inward(vectors) is vectors


def test_tilts_are_reduced() -> None:
    cell = np.array([[9.0, 0, 0], [40.0, 8.0, 0], [-31.0, 23.0, 7.0]])
    edges = box_for(np.zeros((1, 3)), cell, (True, True, True)).edges
    for row, column in itertools.combinations(range(3), 2):
        assert abs(edges[column, row]) <= 0.5 * edges[row, row] + ROUNDING


def test_atoms_near_an_open_wall_need_a_new_box() -> None:
    positions = np.array([[0.0, 0, 0], [5.0, 5, 5]])
    box = box_for(positions, np.eye(3) * 30, (True, True, False))
    assert box.holds(positions)
    assert not box.holds(positions + np.array([0, 0, 9.5]))
    assert box.holds(positions + np.array([50.0, 0, 0]))
