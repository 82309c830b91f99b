"""Frames: named atoms, wrapped into the cell, nonsense refused."""

from __future__ import annotations

import numpy as np
import pytest
from cells import frame_of, frames
from hypothesis import given
from tolerance import ROUND_TRIP

from mixserver.core.errors import UpstreamError
from mixserver.core.frame import Frame, Topology

SILICON_PAIR = Topology(np.array([14, 14], np.int32))
CUBE = np.eye(3) * 5.0


@given(frames())
def test_wrapped_atoms_are_in_the_cell_and_moved_by_lattice_vectors(frame: Frame) -> None:
    fractions = frame.wrapped @ frame.inverse
    steps = (frame.wrapped - frame.positions) @ frame.inverse
    np.testing.assert_allclose(steps, np.rint(steps), atol=1e-10)
    for axis, periodic in enumerate(frame.topology.pbc):
        if periodic:
            assert fractions[:, axis].min() >= -ROUND_TRIP
            assert fractions[:, axis].max() <= 1.0 + ROUND_TRIP
        else:
            np.testing.assert_array_equal(np.rint(steps[:, axis]), 0.0)


def test_atoms_in_the_cell_are_not_copied() -> None:
    frame = frame_of(np.array([[1.0, 2.0, 3.0]]), CUBE)
    assert frame.wrapped is frame.positions


def test_volume_is_positive_in_a_left_handed_cell() -> None:
    assert frame_of(np.zeros((1, 3)), CUBE[[1, 0, 2]]).volume == pytest.approx(125.0)


def test_another_number_of_atoms_is_refused_with_both_numbers() -> None:
    with pytest.raises(UpstreamError, match=r"3 atoms .* has 2"):
        SILICON_PAIR.frame(np.zeros((3, 3)), CUBE)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_position_that_is_not_finite_names_its_atom_and_bead(bad: float) -> None:
    positions = np.zeros((2, 3))
    positions[1, 2] = bad
    with pytest.raises(UpstreamError, match=r"atom 1, bead 4"):
        SILICON_PAIR.frame(positions, CUBE, bead=4)


@pytest.mark.parametrize("cell", [np.zeros((3, 3)), np.full((3, 3), np.nan)])
def test_a_cell_without_a_volume_is_refused(cell: np.ndarray) -> None:
    with pytest.raises(UpstreamError, match="without a volume"):
        SILICON_PAIR.frame(np.zeros((2, 3)), cell)
