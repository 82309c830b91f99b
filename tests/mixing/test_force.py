"""Blending forces."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from tolerance import EXACT

from mixserver.core.arrays import Scalars, Vectors
from mixserver.mixing.force import Blended, ZeroNet, blend

COUNT = 7
forces = arrays(np.float64, (COUNT, 3), elements=st.floats(-50.0, 50.0))
weights = arrays(np.float64, COUNT, elements=st.floats(0.0, 1.0))
kinds: tuple[ZeroNet, ...] = ("blended", "all", "off")


def _blended(
    cheap: Vectors, expensive: Vectors, weight: Scalars, zero_net: ZeroNet = "blended"
) -> Blended:
    """Blend forces that both models have for all atoms."""
    atoms = np.flatnonzero(weight > 0.0)
    return blend(cheap, atoms, expensive[atoms], weight[atoms], zero_net=zero_net)


@given(forces, forces, weights)
def test_blending_creates_no_net_force(cheap: Vectors, expensive: Vectors, weight: Scalars) -> None:
    mixed = _blended(cheap, expensive, weight).forces
    np.testing.assert_allclose(mixed.sum(axis=0), cheap.sum(axis=0), atol=EXACT)


@given(forces, forces, weights.filter(np.any))
def test_taken_from_all_atoms_the_whole_net_force_goes(
    cheap: Vectors, expensive: Vectors, weight: Scalars
) -> None:
    mixed = _blended(cheap, expensive, weight, zero_net="all").forces
    plain = _blended(cheap, expensive, weight, zero_net="off").forces
    np.testing.assert_allclose(mixed.sum(axis=0), 0.0, atol=EXACT)
    np.testing.assert_allclose(mixed, plain - plain.mean(axis=0), atol=EXACT)


@given(forces, forces, weights)
def test_without_correction_it_is_the_formula(
    cheap: Vectors, expensive: Vectors, weight: Scalars
) -> None:
    share = weight[:, None]
    wanted = share * expensive + (1.0 - share) * cheap
    mixed = _blended(cheap, expensive, weight, zero_net="off").forces
    np.testing.assert_allclose(mixed, wanted, atol=EXACT)
    np.testing.assert_allclose(
        _blended(cheap, expensive, weight).net_force, (wanted - cheap).sum(axis=0), atol=EXACT
    )


@given(forces, weights)
def test_the_correction_leaves_cheap_atoms_alone(cheap: Vectors, weight: Scalars) -> None:
    mixed = _blended(cheap, cheap[::-1], weight).forces
    np.testing.assert_array_equal(mixed[weight == 0.0], cheap[weight == 0.0])


@pytest.mark.parametrize("kind", kinds)
def test_nothing_expensive_is_the_cheap_forces_bit_for_bit(kind: ZeroNet) -> None:
    cheap = np.random.default_rng(0).normal(size=(COUNT, 3))
    mixed = _blended(cheap, np.full_like(cheap, np.nan), np.zeros(COUNT), zero_net=kind).forces
    np.testing.assert_array_equal(mixed, cheap)


def test_core_atoms_get_the_expensive_force_bit_for_bit() -> None:
    rng = np.random.default_rng(0)
    cheap, expensive = rng.normal(size=(2, COUNT, 3))
    weight = np.array([1.0, 1.0, 0.3, 0.0, 0.0, 0.7, 1.0])
    mixed = _blended(cheap, expensive, weight, zero_net="off").forces
    np.testing.assert_array_equal(mixed[weight == 1.0], expensive[weight == 1.0])


def test_inputs_are_not_changed_and_unseen_rows_may_be_nan() -> None:
    cheap, expensive = np.ones((COUNT, 3)), np.full((COUNT, 3), np.nan)
    expensive[2] = 5.0
    weight = np.zeros(COUNT)
    weight[2] = 0.5
    cheap.flags.writeable = False
    mixed = _blended(cheap, expensive, weight, zero_net="off").forces
    np.testing.assert_array_equal(mixed[:, 0], [1, 1, 3, 1, 1, 1, 1])
