"""A frame against a reference: cell, common shift, displacements, atoms on sites of others."""

from __future__ import annotations

import numpy as np
import pytest
from cells import fcc, frame_of, frames, silicon
from hypothesis import given
from hypothesis import strategies as st
from tolerance import EXACT

from mixserver.core.frame import Frame
from mixserver.core.units import BOHR
from mixserver.geometry.placement import compare

rngs = st.integers(0, 2**32 - 1).map(np.random.default_rng)
CRYSTAL = silicon(3, rattle=0.0)


@given(frames(smallest=3.0), rngs)
def test_rotated_shifted_and_strained_atoms_are_in_place(
    frame: Frame, rng: np.random.Generator
) -> None:
    turn = np.linalg.qr(rng.normal(size=(3, 3)))[0]
    strain = rng.uniform(-0.05, 0.05, (3, 3))
    deform = turn @ (np.eye(3) + strain + strain.T)
    turns = rng.integers(-2, 3, frame.positions.shape) * frame.topology.pbc
    fractional = frame.fractional + turns + rng.uniform(-2.0, 2.0, 3)
    cell = frame.cell @ deform
    found = compare(frame, frame_of(fractional @ cell, cell, frame.topology.pbc))
    assert found.largest == pytest.approx(0.0, abs=1e-7)
    assert not len(found.out)
    assert found.exchanged is None
    wanted = np.linalg.eigvalsh(np.eye(3) + strain + strain.T)
    np.testing.assert_allclose(found.deformation.principal, wanted, atol=1e-9)
    np.testing.assert_allclose(found.deformation.rotation, turn, atol=1e-9)


@given(rngs, st.floats(0.01, 0.15))
def test_displacements_are_measured(rng: np.random.Generator, size: float) -> None:
    moved = rng.normal(0.0, size, CRYSTAL.positions.shape)
    drift = rng.uniform(-20.0, 20.0, 3)
    found = compare(CRYSTAL, frame_of(CRYSTAL.positions + moved + drift, CRYSTAL.cell))
    usual = np.sqrt((moved**2).sum(axis=1).mean())
    assert found.rms == pytest.approx(usual, rel=0.05)  # the median is the shift
    assert found.largest == pytest.approx(np.linalg.norm(moved, axis=1).max(), abs=0.4 * size)
    np.testing.assert_allclose(
        np.sin(np.pi * (found.shift - drift) @ CRYSTAL.inverse), 0.0, atol=size
    )


@given(rngs, st.sampled_from([0.0, 0.1]), st.sampled_from([0.0, 7.3]))
def test_another_order_is_found_for_any_shift(
    rng: np.random.Generator, heat: float, drift: float
) -> None:
    order = rng.permutation(len(CRYSTAL))
    positions = CRYSTAL.positions[order] + rng.normal(0.0, heat, CRYSTAL.positions.shape)
    found = compare(CRYSTAL, frame_of(positions + np.array([drift, 0.0, -drift]), CRYSTAL.cell))
    exchanged = found.exchanged
    assert exchanged is not None
    assert exchanged.on_equal > 0.95 * exchanged.looked_at > 0.9 * len(CRYSTAL)
    assert exchanged.on_other == 0
    if not drift:  # elsewhere another lattice translation may fit as well
        for atom, site in exchanged.pairs:
            assert order[atom] == site


def test_a_liquid_is_on_few_sites() -> None:
    positions = np.random.default_rng(0).random(CRYSTAL.positions.shape) @ CRYSTAL.cell
    exchanged = compare(CRYSTAL, frame_of(positions, CRYSTAL.cell)).exchanged
    assert exchanged is not None
    assert exchanged.on_equal < 0.2 * exchanged.looked_at


def test_a_block_that_glides_moves_together() -> None:
    positions = CRYSTAL.positions.copy()
    positions[CRYSTAL.fractional[:, 2] > 0.45] += [2.715, 2.715, 0.0]
    exchanged = compare(CRYSTAL, frame_of(positions, CRYSTAL.cell)).exchanged
    assert exchanged is not None
    assert exchanged.on_equal == exchanged.looked_at
    assert exchanged.together > 0.8 * exchanged.looked_at


def test_an_atom_that_hops_is_out_of_place() -> None:
    positions = np.delete(CRYSTAL.positions, 5, axis=0)
    reference = frame_of(positions.copy(), CRYSTAL.cell)
    near = int(np.argsort(np.linalg.norm(positions - CRYSTAL.positions[5], axis=1))[0])
    positions[near] = CRYSTAL.positions[5]
    found = compare(reference, frame_of(positions, CRYSTAL.cell))
    np.testing.assert_array_equal(found.out, [near])
    assert found.farthest == near
    assert found.exchanged is not None
    assert found.exchanged.on_equal == 0


@pytest.mark.parametrize("ratio", [BOHR, 1.0 / BOHR, 0.1, 10.0])
def test_positions_in_another_unit_than_the_cell_are_recognised(ratio: float) -> None:
    reference = fcc(3, 5.3, rattle=0.0)
    found = compare(reference, frame_of(ratio * reference.positions, reference.cell))
    assert found.scale == pytest.approx(ratio)


def test_other_vectors_of_the_same_lattice_are_recognised() -> None:
    sheared = np.array([[1.0, 0.0, 0.0], [1.0, 1.0, 0.0], [0.0, -1.0, 1.0]]) @ CRYSTAL.cell
    turn = np.linalg.qr(np.random.default_rng(3).normal(size=(3, 3)))[0]
    assert compare(CRYSTAL, frame_of(CRYSTAL.positions @ turn, sheared @ turn)).same_lattice
    strained = CRYSTAL.cell @ (np.eye(3) + 0.01 * np.triu(np.ones((3, 3))))
    assert not compare(CRYSTAL, frame_of(CRYSTAL.positions, strained)).same_lattice


def test_a_frame_is_exactly_in_place_with_itself() -> None:
    found = compare(CRYSTAL, frame_of(CRYSTAL.positions.copy(), CRYSTAL.cell.copy()))
    assert found.rms == found.largest == found.deformation.angle == 0.0
    assert not found.shift.any()
    assert found.rms < EXACT
