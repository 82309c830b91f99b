"""What leads from one cell to another: a rotation and a stretch, and the virial of what turns."""

from __future__ import annotations

import numpy as np
import pytest
from cells import frames
from hypothesis import assume, given
from hypothesis import strategies as st
from tolerance import ROUND_TRIP

from mixserver.core.frame import Frame
from mixserver.geometry import Deformation

rngs = st.integers(0, 2**32 - 1).map(np.random.default_rng)


def _rotation(rng: np.random.Generator, determinant: float = 1.0) -> np.ndarray:
    q = np.linalg.qr(rng.normal(size=(3, 3)))[0]
    return q * np.sign(np.linalg.det(q)) * determinant


def _stretch(rng: np.random.Generator, size: float) -> np.ndarray:
    strain = rng.uniform(-size, size, (3, 3))
    return np.eye(3) + 0.5 * (strain + strain.T)


@given(frames(), rngs, st.sampled_from([1.0, -1.0]), st.floats(0.0, 0.2))
def test_rotation_and_stretch_are_found_again(
    frame: Frame, rng: np.random.Generator, determinant: float, size: float
) -> None:
    rotation, stretch = _rotation(rng, determinant), _stretch(rng, size)
    found = Deformation.between(frame.cell, frame.cell @ rotation @ stretch)
    np.testing.assert_allclose(found.rotation, rotation, atol=1e-10)
    np.testing.assert_allclose(found.stretch, stretch, atol=1e-10)
    np.testing.assert_allclose(found.principal, np.linalg.eigvalsh(stretch), atol=1e-10)
    assert found.mirrored == (determinant < 0.0)
    vectors = rng.normal(size=(4, 3))
    np.testing.assert_allclose(found.rotate(vectors), vectors @ rotation, atol=1e-9)


@given(frames())
def test_the_same_cell_is_exactly_no_deformation(frame: Frame) -> None:
    same = Deformation.between(frame.cell, frame.cell.copy())
    np.testing.assert_array_equal(same.rotation, np.eye(3))
    np.testing.assert_array_equal(same.stretch, np.eye(3))
    assert same.angle == 0.0


@given(frames(), rngs, st.floats(1e-7, 180.0))
def test_the_angle_is_that_of_the_turn(frame: Frame, rng: np.random.Generator, turn: float) -> None:
    axis, angle = rng.normal(size=3), np.radians(turn)
    x, y, z = axis / np.linalg.norm(axis)
    spin = np.array([[0.0, z, -y], [-z, 0.0, x], [y, -x, 0.0]])
    rotation = np.eye(3) + np.sin(angle) * spin + (1.0 - np.cos(angle)) * spin @ spin
    found = Deformation.between(frame.cell, frame.cell @ rotation)
    assert found.angle == pytest.approx(turn, abs=1e-7)  # arcs near 180 degrees are the hardest
    assert Deformation.between(frame.cell, -frame.cell @ rotation).angle == pytest.approx(
        turn, abs=1e-7
    )


@given(frames(), rngs)
def test_the_virial_is_the_derivative_for_every_strain(
    frame: Frame, rng: np.random.Generator
) -> None:
    """All nine strains, also those that turn the cell; forces f, displacements u of order one."""
    stretch = _stretch(rng, 0.2)
    assume(np.linalg.eigvalsh(stretch)[0] > 0.5)
    cell = frame.cell @ _rotation(rng, rng.choice([1.0, -1.0])) @ stretch
    f, u = rng.normal(size=(2, 5, 3))

    def energy(strain: np.ndarray) -> float:
        now = Deformation.between(frame.cell, cell @ (np.eye(3) + strain))
        return -float(np.vdot(now.rotate(f), u @ (np.eye(3) + strain)))

    here = Deformation.between(frame.cell, cell)
    virial = here.virial(u.T @ here.rotate(f))
    np.testing.assert_allclose(virial, virial.T, atol=ROUND_TRIP * 100.0)
    step = 1e-3
    for a in range(3):
        for b in range(3):
            strain = np.zeros((3, 3))
            strain[a, b] = step
            near = energy(strain) - energy(-strain)
            far = energy(2.0 * strain) - energy(-2.0 * strain)
            assert virial[a, b] == pytest.approx(-(8.0 * near - far) / (12.0 * step), abs=1e-8)
