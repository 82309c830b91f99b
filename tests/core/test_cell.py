"""Laws of cells: triclinic, left-handed, in any orientation, partly periodic."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from cells import frames
from hypothesis import given
from hypothesis import strategies as st
from tolerance import EXACT

from mixserver.core.arrays import Matrix, Scalars
from mixserver.core.cell import (
    complete_cell,
    has_volume,
    inverse_cell,
    largest_empty_arc,
    minimum_image,
    plane_spacings,
    standard_form,
    volume,
)
from mixserver.core.frame import Frame

cells = frames(atoms=1).map(lambda frame: frame.cell)
rngs = st.integers(0, 2**32 - 1).map(np.random.default_rng)


@given(cells)
def test_spacings_are_volume_over_area(cell: Matrix) -> None:
    areas = np.linalg.norm(np.cross(cell[[1, 2, 0]], cell[[2, 0, 1]]), axis=1)
    np.testing.assert_allclose(plane_spacings(cell), abs(np.linalg.det(cell)) / areas, rtol=1e-10)
    np.testing.assert_allclose(cell @ inverse_cell(cell), np.eye(3), atol=1e-10)
    assert volume(cell) == volume(-cell) == abs(np.linalg.det(cell))
    assert has_volume(cell)


@pytest.mark.parametrize(
    "cell", [np.zeros((3, 3)), np.ones((3, 3)), np.full((3, 3), np.nan), np.diag([1, np.inf, 1])]
)
def test_flat_cells_are_refused(cell: Matrix) -> None:
    assert not has_volume(cell)
    with pytest.raises(ValueError, match="a cell without a volume"):
        plane_spacings(cell)


@given(cells)
def test_the_standard_form_is_the_cell_rotated(cell: Matrix) -> None:
    form, rotation = standard_form(cell)
    assert not np.triu(form, 1).any()
    assert (np.diag(form) > 0.0).all()
    assert rotation is not None
    np.testing.assert_allclose(rotation @ rotation.T, np.eye(3), atol=EXACT)
    np.testing.assert_allclose(cell @ rotation, form, atol=1e-10)
    assert np.sign(np.linalg.det(rotation)) == np.sign(np.linalg.det(cell))
    again, none = standard_form(form)
    assert none is None
    np.testing.assert_array_equal(again, form)


@given(cells, st.tuples(st.booleans(), st.booleans(), st.booleans()))
def test_a_completed_cell_keeps_periodic_vectors_and_adds_normal_ones(
    cell: Matrix, pbc: tuple[bool, bool, bool]
) -> None:
    periodic = np.array(pbc)
    whole = complete_cell(np.where(periodic[:, None], cell, 0.0), pbc)
    np.testing.assert_array_equal(whole[periodic], cell[periodic])
    added = whole[~periodic]
    np.testing.assert_allclose(added @ added.T, np.eye(len(added)), atol=EXACT)
    np.testing.assert_allclose(added @ cell[periodic].T, 0.0, atol=1e-10)


@given(frames(atoms=1), rngs)
def test_short_differences_are_wrapped_to_the_minimum_image(
    frame: Frame, rng: np.random.Generator
) -> None:
    periodic = np.array(frame.topology.pbc)
    direction = rng.normal(size=3)
    limit = 0.499 * plane_spacings(frame.cell).min()
    short = direction * (rng.uniform(0.0, limit) / np.linalg.norm(direction))
    turns = rng.integers(-3, 4, 3) * periodic
    found = minimum_image(short @ frame.inverse + turns, frame.topology.pbc) @ frame.cell
    np.testing.assert_allclose(found, short, atol=1e-9)
    steps = np.array(list(itertools.product((-1, 0, 1), repeat=3))) * periodic
    images = short + steps @ frame.cell
    assert np.linalg.norm(images, axis=1).min() >= np.linalg.norm(found) - 1e-9


def test_differences_are_wrapped_along_periodic_axes_only() -> None:
    found = minimum_image(np.array([[0.9, -0.6, 1.7]]), (True, True, False))
    np.testing.assert_allclose(found, [[-0.1, 0.4, 1.7]])


@given(st.lists(st.floats(-3.0, 3.0), min_size=1, max_size=12).map(np.array))
def test_the_largest_empty_arc_is_empty_and_none_is_wider(fractions: Scalars) -> None:
    arc = largest_empty_arc(fractions)
    inside = (fractions - arc.start) % 1.0
    slack = 1e-9
    assert not ((inside > slack) & (inside < arc.width - slack)).any()
    span = (arc.end - arc.start) % 1.0
    assert min(abs(span - arc.width), abs(span + 1.0 - arc.width)) < slack
    places = np.sort(fractions % 1.0)
    assert arc.width == pytest.approx(np.diff(places, append=places[0] + 1.0).max(), abs=slack)


def test_of_equal_arcs_the_one_across_the_boundary_is_found() -> None:
    assert largest_empty_arc(np.array([0.25, 0.75])) == (0.75, 0.25, 0.5)
    assert largest_empty_arc(np.array([0.3])) == (0.3, 0.3, 1.0)
