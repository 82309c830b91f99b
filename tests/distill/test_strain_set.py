"""Hard constraints say of coefficients what LAMMPS says of the potential that has them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from cells import frames
from hypothesis import given, settings
from hypothesis import strategies as st
from tolerance import EXACT, ROUND_TRIP

from mixserver.core.arrays import Block
from mixserver.core.frame import Frame, Topology
from mixserver.core.strain import VOIGT, unit_strain
from mixserver.core.units import GIGAPASCAL
from mixserver.distill.data.labels import Structure
from mixserver.distill.data.strain_set import (
    PERFECT,
    constraints,
    names,
    strained_cell,
)
from mixserver.distill.fitting.pair_basis import PairBasis, pair_rows
from mixserver.distill.potential.writer import write_potential
from mixserver.wire.descriptor import SnapDescriptor
from mixserver.wire.worker import Evaluate

SIZE = 0.002
INDICES = ((0, 1, 2, 1, 0, 0), (0, 1, 2, 2, 2, 1))
PAIRS = PairBasis(functions=8, inner=1.8, cutoff=4.9, elements=("C", "Si"))


def zincblende() -> Frame:
    """Silicon carbide in its primitive cell, with one atom a little off its site."""
    edge = 2.2 * (1.0 - np.eye(3))
    topology = Topology(np.array([14, 6], np.int32))
    return topology.frame(np.array([[0.0, 0.0, 0.0], [1.1, 1.13, 1.1]]), edge)


def cells(crystal: Frame, size: float = SIZE) -> dict[str, Structure]:
    made = {PERFECT: Structure.of(crystal, PERFECT, "hard")}
    for name, kind, sign in names():
        made[name] = Structure.of(strained_cell(crystal, kind, sign * size), name, "hard")
    return made


def pairs_of(crystal: Frame) -> dict[str, Block]:
    return {name: pair_rows(s, PAIRS).sum(axis=0) for name, s in cells(crystal).items()}


@settings(max_examples=30)
@given(kind=st.sampled_from(VOIGT), size=st.floats(-0.05, 0.05))
def test_strains_are_symmetric_and_of_one_kind(kind: str, size: float) -> None:
    e = (np.eye(3) + size * unit_strain(kind)) - np.eye(3)
    assert (e == e.T).all()
    engineering = [e[0, 0], e[1, 1], e[2, 2], 2 * e[1, 2], 2 * e[0, 2], 2 * e[0, 1]]
    expected = [size if kind == other else 0.0 for other in VOIGT]
    np.testing.assert_allclose(engineering, expected, atol=ROUND_TRIP)


@settings(max_examples=30)
@given(frame=frames(), kind=st.sampled_from(VOIGT), size=st.floats(-0.05, 0.05))
def test_atoms_keep_their_places_in_a_strained_cell(frame: Frame, kind: str, size: float) -> None:
    made = strained_cell(frame, kind, size)
    np.testing.assert_allclose(made.fractional, frame.fractional, atol=EXACT)
    stretch = np.linalg.inv(frame.cell) @ made.cell
    np.testing.assert_allclose(stretch, (np.eye(3) + size * unit_strain(kind)), atol=EXACT)
    back = np.linalg.inv(np.eye(3) + size * unit_strain(kind))
    np.testing.assert_allclose(made.positions @ back, frame.positions, atol=1e-8)


def test_every_kind_is_there_both_ways_once() -> None:
    found = list(names())
    assert len({name for name, _, _ in found}) == len(found) == 12
    assert {(kind, sign) for _, kind, sign in found} == {(k, s) for k in VOIGT for s in (1, -1)}
    assert PERFECT not in {name for name, _, _ in found}


@pytest.mark.lammps
@pytest.mark.parametrize("functions", [0, 8])
def test_rows_times_coefficients_are_what_lammps_says(functions: int, tmp_path: Path) -> None:
    """Energy, stress, forces, elastic constants and how atoms are pulled in strained cells."""
    from mixserver_worker.engines.lammps.descriptors import snap_rows
    from mixserver_worker.engines.lammps.engine import LammpsEngine

    snap = SnapDescriptor(
        twojmax=4,
        cutoff=4.6,
        elements=("C", "Si"),
        radii=(0.45, 0.5),
        weights=(0.8, 1.0),
        bzero=False,
    )
    basis = PairBasis(functions=functions, inner=1.8, cutoff=4.9, elements=snap.elements)
    structures = cells(zincblende())
    rows = {}
    for name, s in structures.items():
        bare = snap_rows(snap, s.numbers, s.positions, s.cell, s.group)
        rows[name] = np.concatenate([bare, pair_rows(s, basis)], axis=2).sum(axis=0)
    columns = rows[PERFECT].shape[1]
    coefficients = np.random.default_rng(3).normal(size=columns) * 0.02
    coefficients[2 * snap.columns :] *= 10.0
    engine = LammpsEngine(write_potential(tmp_path, "sic", snap, basis, coefficients))
    said = {}
    for at, (name, s) in enumerate(structures.items()):
        answer = engine.evaluate(
            Evaluate(
                job=1,
                stream=at,
                positions=s.positions,
                numbers=s.numbers,
                cell=s.cell,
                pbc=(True, True, True),
            )
        )
        said[name] = np.concatenate(
            [[answer.energy], answer.forces.ravel(), answer.virial[INDICES]]
        )
    engine.close()
    zero = {name: np.zeros_like(values) for name, values in said.items()}
    volume = zincblende().volume
    tolerance = 1e-6 if functions else EXACT  # LAMMPS interpolates tables
    seen = set()
    for one in constraints(rows, zero, size=SIZE, volume=volume):
        got, close = one.rows @ coefficients, tolerance
        word, _, kind = one.label.partition(" ")
        part = {"energy": slice(0, 1), "stress": slice(-6, None), "elastic": slice(-6, None)}.get(
            word, slice(1, -6)
        )
        if kind:
            expected = (said[f"hard-{kind}+1"][part] - said[f"hard-{kind}-1"][part]) / (2 * SIZE)
            close = tolerance / SIZE
        else:
            expected = said[PERFECT][part]
        np.testing.assert_allclose(got, expected, atol=close, err_msg=one.label)
        assert np.abs(expected).max() > 1e-3
        seen.add(one.label)
    wanted_labels = {f"{word} {kind}" for word in ("elastic", "internal") for kind in VOIGT}
    assert seen == {"energy", "stress", "forces", *wanted_labels}


def test_the_truth_fulfils_its_own_constraints_and_nothing_else_does() -> None:
    rows = pairs_of(zincblende())
    truth = np.random.default_rng(0).normal(size=PAIRS.columns)
    labels = {name: block @ truth for name, block in rows.items()}
    volume = zincblende().volume
    made = constraints(rows, labels, size=SIZE, volume=volume)
    for one in made:
        np.testing.assert_allclose(one.rows @ truth, one.target, atol=1e-9 / SIZE)
    off = truth + 0.1
    assert max(np.abs(one.rows @ off - one.target).max() / one.scale for one in made) > 1e-3


def test_what_symmetry_makes_zero_is_no_constraint() -> None:
    """At rest in zincblende nothing pulls; a stretch along an axis pulls no atom, a shear does."""
    edge = 2.2 * (1.0 - np.eye(3))
    topology = Topology(np.array([14, 6], np.int32))
    crystal = topology.frame(np.array([[0.0, 0.0, 0.0], [1.1, 1.1, 1.1]]), edge)
    rows = pairs_of(crystal)
    labels = {name: np.zeros(len(block)) for name, block in rows.items()}
    made = constraints(rows, labels, size=SIZE, volume=crystal.volume)
    labels_made = {one.label for one in made}
    assert "forces" not in labels_made
    internal = {label for label in labels_made if label.startswith("internal")}
    assert internal == {"internal yz", "internal xz", "internal xy"}
    assert {f"elastic {kind}" for kind in VOIGT} <= labels_made


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ({"energy": False}, {"stress", "forces", "elastic", "internal"}),
        ({"lattice": False}, {"energy", "elastic", "internal"}),
        ({"elastic": False}, {"energy", "stress", "forces"}),
        ({"energy": False, "lattice": False, "elastic": False}, set()),
    ],
)
def test_what_is_not_asked_for_is_left_out(flags: dict[str, bool], words: set[str]) -> None:
    rows = pairs_of(zincblende())
    labels = {name: np.zeros(len(block)) for name, block in rows.items()}
    made = constraints(rows, labels, size=SIZE, volume=30.0, **flags)
    assert {one.label.split()[0] for one in made} == words


def test_a_scale_is_a_stress_of_one_gigapascal_or_an_elastic_constant_of_a_hundred() -> None:
    rows = pairs_of(zincblende())
    labels = {name: np.zeros(len(block)) for name, block in rows.items()}
    made = {one.label: one for one in constraints(rows, labels, size=SIZE, volume=30.0)}
    assert made["energy"].scale == 1.0
    assert made["stress"].scale == pytest.approx(30.0 * GIGAPASCAL)
    assert made["elastic xy"].scale == pytest.approx(3000.0 * GIGAPASCAL)
