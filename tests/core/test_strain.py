"""Strained frames, and Voigt notation against ASE's."""

from __future__ import annotations

import numpy as np
import pytest
from ase.stress import full_3x3_to_voigt_6_strain, full_3x3_to_voigt_6_stress
from cells import frames
from hypothesis import given
from hypothesis import strategies as st
from tolerance import EXACT

from mixserver.core.arrays import Matrix, Scalars
from mixserver.core.frame import Frame
from mixserver.core.strain import (
    VOIGT,
    strain_from_voigt,
    strained,
    stress_from_voigt,
    stress_to_voigt,
    unit_strain,
)


def _symmetric(seed: int) -> Matrix:
    matrix = np.random.default_rng(seed).normal(size=(3, 3))
    return 0.5 * (matrix + matrix.T)


def _engineering(strain: Matrix) -> Scalars:
    """(6,) components of a strain by ASE, which takes the deformation."""
    components: Scalars = full_3x3_to_voigt_6_strain(np.eye(3) + strain)
    return components


matrices = st.integers(0, 2**32 - 1).map(_symmetric)


@given(matrices)
def test_components_are_in_the_order_of_ase_and_come_back(matrix: Matrix) -> None:
    np.testing.assert_array_equal(stress_to_voigt(matrix), full_3x3_to_voigt_6_stress(matrix))
    np.testing.assert_array_equal(stress_from_voigt(stress_to_voigt(matrix)), matrix)
    np.testing.assert_allclose(strain_from_voigt(_engineering(matrix)), matrix, atol=EXACT)


@given(matrices, matrices)
def test_stress_times_strain_is_the_same_in_both_notations(stress: Matrix, strain: Matrix) -> None:
    work = float(stress_to_voigt(stress) @ _engineering(strain))
    assert work == pytest.approx(float(np.vdot(stress, strain)), abs=1e-12)


def test_many_at_once_are_as_one_by_one() -> None:
    many = np.array([[_symmetric(3 * i + j) for j in range(3)] for i in range(2)])
    found = stress_from_voigt(stress_to_voigt(many))
    assert stress_to_voigt(many).shape == (2, 3, 6)
    np.testing.assert_array_equal(found, many)


@pytest.mark.parametrize("kind", VOIGT)
def test_a_unit_strain_has_one_component(kind: str) -> None:
    strain = unit_strain(kind)
    components = stress_to_voigt(strain)
    assert [name for name, value in zip(VOIGT, components, strict=True) if value] == [kind]
    assert strain.sum() == 1.0


@given(frames(), matrices, st.floats(-0.05, 0.05))
def test_atoms_keep_their_fractions_and_the_strain_is_found_again(
    frame: Frame, direction: Matrix, size: float
) -> None:
    strain = size * direction
    found = strained(frame, strain)
    np.testing.assert_allclose(found.fractional, frame.fractional, atol=1e-9)
    np.testing.assert_allclose(frame.inverse @ found.cell - np.eye(3), strain, atol=1e-10)
