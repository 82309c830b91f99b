"""Frames are known again after rounding to nine digits, and told apart when anything moved."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mixserver.core.frame import Frame, Topology
from mixserver.region.fingerprint import frame_fingerprint


def _frame(positions: np.ndarray, cell: np.ndarray | None = None) -> Frame:
    topology = Topology(np.full(len(positions), 18, dtype=np.int32))
    return Frame(topology, positions, 10.0 * np.eye(3) if cell is None else cell)


def _rounded(values: np.ndarray) -> np.ndarray:
    """As i-PI writes them into a RESTART."""
    return np.array([float(f"{value:16.8e}") for value in values.ravel()]).reshape(values.shape)


@given(atoms=st.integers(1, 400), size=st.floats(1e-3, 1e5), seed=st.integers(0, 2**32 - 1))
def test_a_rounded_frame_is_the_same(atoms: int, size: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    positions, cell = rng.normal(scale=size, size=(atoms, 3)), size * rng.normal(size=(3, 3))
    one, other = (
        frame_fingerprint(_frame(positions, cell)),
        frame_fingerprint(_frame(_rounded(positions), _rounded(cell))),
    )
    assert one.distance(other) <= one.rounding


@pytest.mark.parametrize("atoms", [1, 2, 37, 5000])
def test_one_atom_that_moved_a_little_is_another_frame(atoms: int) -> None:
    rng = np.random.default_rng(atoms)
    positions = rng.uniform(0.0, 30.0, size=(atoms, 3))
    here = frame_fingerprint(_frame(positions))
    for atom in rng.integers(0, atoms, size=5):
        moved = positions.copy()
        moved[atom] += rng.normal(scale=1e-2, size=3)
        assert here.distance(frame_fingerprint(_frame(moved))) > here.rounding


def test_a_strained_cell_is_another_frame() -> None:
    positions = np.random.default_rng(0).uniform(0.0, 10.0, size=(50, 3))
    here = frame_fingerprint(_frame(positions))
    for entry in np.ndindex(3, 3):
        cell = 10.0 * np.eye(3)
        cell[entry] += 1e-3
        assert here.distance(frame_fingerprint(_frame(positions, cell))) > here.rounding


def test_the_distance_is_about_that_of_all_coordinates() -> None:
    rng = np.random.default_rng(3)
    ratios = []
    for _ in range(200):
        positions = rng.normal(size=(300, 3))
        step = rng.normal(scale=0.01, size=(300, 3))
        moved = frame_fingerprint(_frame(positions + step))
        ratios.append(frame_fingerprint(_frame(positions)).distance(moved) / np.linalg.norm(step))
    assert np.sqrt(np.mean(np.square(ratios))) == pytest.approx(1.0, abs=0.05)


def test_marks_are_the_same_in_every_process_and_version() -> None:
    positions = np.arange(30.0).reshape(10, 3)
    raw = np.round(frame_fingerprint(_frame(positions)).sums, 9).tobytes()
    assert hashlib.sha256(raw).hexdigest()[:12] == "38b110a340f8"


def test_frames_are_left_as_they_are() -> None:
    positions = np.arange(30.0).reshape(10, 3)
    frame_fingerprint(_frame(positions))
    np.testing.assert_array_equal(positions, np.arange(30.0).reshape(10, 3))
