"""Connected components, against paths between all pairs of atoms."""

from __future__ import annotations

import numpy as np
from cells import brute_distances, every, frame_of, frames, silicon
from hypothesis import given
from hypothesis import strategies as st

from mixserver.core.frame import Frame
from mixserver.geometry import connected_components


@given(frames(), st.integers(1, 4), st.floats(0.3, 6.0))
def test_groups_are_linked_inside_and_apart_outside(frame: Frame, share: int, link: float) -> None:
    atoms = every(frame, share)
    groups = connected_components(frame, atoms, link)
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
    assert [len(g) for g in connected_components(frame, np.arange(60), 5.1)] == [30, 30]
    assert [len(g) for g in connected_components(frame, np.arange(60), 7.6)] == [60]
    assert len(connected_components(frame, np.arange(60), 4.5)) == 60


def test_no_atoms_have_no_components() -> None:
    assert connected_components(silicon(1), np.empty(0, dtype=np.intp), 3.0) == []
