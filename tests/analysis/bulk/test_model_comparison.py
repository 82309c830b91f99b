"""Two models of one crystal: what is known of a pair potential that is scaled comes out."""

from __future__ import annotations

import asyncio
import dataclasses
from pathlib import Path

import numpy as np
import pytest
from ase.build import bulk
from cells import frames
from evaluators import LJ, SIC, CountingEvaluator, frame_of, lammps_engine
from hypothesis import given
from hypothesis import strategies as st
from mixserver_worker.engines.toy import ToyEngine

from mixserver.analysis.bulk.elasticity import ElasticConstants
from mixserver.analysis.bulk.model_comparison import (
    compare_models,
    cubic_constants,
    largest_strain,
    lattice_name,
)
from mixserver.core.errors import ConfigError
from mixserver.core.frame import Frame
from mixserver.core.strain import COLUMNS, ROWS

PAIRS = tuple(zip(ROWS, COLUMNS, strict=True))
START = frame_of(bulk("Ar", "fcc", a=5.3))


def _scaled(energy: float = 1.0, length: float = 1.0) -> CountingEvaluator:
    return CountingEvaluator(
        ToyEngine(
            epsilon=LJ["epsilon"] * energy,
            sigma=LJ["sigma"] * length,
            cutoff=LJ["cutoff"] * length,
        )
    )


async def test_a_model_matches_itself() -> None:
    same = await compare_models(_scaled(), _scaled(), START)
    assert same.misfit == same.force_difference == same.energy == same.pressure == 0.0
    assert abs(same.stiffness) < 1e-12
    assert same.force_scale > 0.0


async def test_a_model_with_deeper_wells_is_stiffer_and_nothing_else() -> None:
    found = await compare_models(_scaled(), _scaled(energy=1.1), START)
    assert found.misfit == pytest.approx(0.0, abs=1e-5)
    assert found.stiffness == pytest.approx(0.1, abs=1e-3)
    assert set(found.constants) == {"C11", "C12", "C44"}
    assert found.force_difference == pytest.approx(0.1 * found.force_scale, rel=1e-3)
    assert found.energy == pytest.approx(-0.1 * found.expensive.energy, rel=1e-6)


@pytest.mark.parametrize("length", [0.99, 1.01])
async def test_a_longer_model_has_a_misfit_and_pulls(length: float) -> None:
    found = await compare_models(_scaled(), _scaled(length=length), START)
    assert found.misfit == pytest.approx(length - 1.0, rel=5e-3)  # both relax to a tolerance
    modulus = found.expensive.elastic.bulk_modulus
    assert found.pressure == pytest.approx(-modulus * (length**3 - 1.0), rel=5e-3)
    assert found.stiffness == pytest.approx(length**-3 - 1.0, abs=2e-3)
    assert found.energy == pytest.approx(0.0, abs=1e-8)


async def test_forces_are_compared_at_displacements_that_cost_300_kelvin() -> None:
    """Within the harmonic crystal <F²> = 3NkT<k>: twice the springs, forces up by sqrt(2)."""
    soft = await compare_models(_scaled(energy=50.0), _scaled(energy=50.0), START)
    stiff = await compare_models(_scaled(energy=100.0), _scaled(energy=100.0), START)
    assert stiff.force_scale / soft.force_scale == pytest.approx(np.sqrt(2.0), rel=0.1)


@pytest.mark.lammps
async def test_a_crystal_of_two_elements_is_compared_too(tmp_path: Path) -> None:
    engine = lammps_engine(tmp_path, SIC)
    start = frame_of(bulk("SiC", "zincblende", a=4.36))
    found = await compare_models(CountingEvaluator(engine), CountingEvaluator(engine), start)
    assert abs(found.misfit) < 1e-12
    assert found.force_difference < 1e-12
    assert found.expensive.lattice.startswith("fcc lattice, a = 4.3")
    engine.close()


async def test_who_cannot_hold_the_crystal_is_named() -> None:
    with pytest.raises(ConfigError, match="the cheap model: "):
        await compare_models(_scaled(), _scaled(length=1.3), START)
    simple = frame_of(bulk("Ar", "sc", a=3.8))  # falls into something closer if it is pushed
    with pytest.raises(ConfigError, match=r"the (expensive|cheap) model: .*(stable|energy)"):
        await compare_models(_scaled(), _scaled(), simple)


@given(seed=st.integers(0, 2**32 - 1))
def test_constants_of_a_cubic_crystal_do_not_depend_on_how_it_stands(seed: int) -> None:
    turn = np.linalg.qr(np.random.default_rng(seed).normal(size=(3, 3)))[0]
    given_constants = np.random.default_rng(seed).uniform(20.0, 60.0, 3) + np.array([80.0, 0, 0])
    c11, c12, c44 = given_constants
    tensor = np.zeros((3, 3, 3, 3))
    d = np.eye(3)
    tensor += c12 * np.einsum("ij,kl->ijkl", d, d)
    tensor += c44 * (np.einsum("ik,jl->ijkl", d, d) + np.einsum("il,jk->ijkl", d, d))
    for axis in range(3):
        tensor[axis, axis, axis, axis] += c11 - c12 - 2.0 * c44
    turned = np.einsum("ai,bj,ck,dl,ijkl->abcd", turn, turn, turn, turn, tensor)
    matrix = np.array([[turned[i, j, k, m] for k, m in PAIRS] for i, j in PAIRS])
    np.testing.assert_allclose(cubic_constants(matrix), given_constants, rtol=1e-9)
    stretched = matrix.copy()
    stretched[0, 0] *= 1.3
    assert cubic_constants(stretched) is None


async def test_a_stiffness_is_compared_for_every_strain() -> None:
    found = await compare_models(_scaled(), _scaled(energy=1.1), START)
    other = found.cheap.elastic.matrix.copy()
    other[3:, 3:] *= 1.4  # C44 alone
    turned = dataclasses.replace(
        found,
        cheap=dataclasses.replace(
            found.cheap, elastic=ElasticConstants(other, found.cheap.elastic.clamped)
        ),
    )
    assert turned.stiffness == pytest.approx(1.1 * 1.4 - 1.0, abs=5e-3)


async def test_nobody_works_on_for_a_comparison_that_failed() -> None:
    expensive = _scaled()
    with pytest.raises(ConfigError, match="the cheap model"):
        await compare_models(expensive, _scaled(length=1.3), START)
    asked = expensive.count
    await asyncio.sleep(0.2)
    assert expensive.count == asked


def test_strains_between_cells_are_signed_and_the_largest() -> None:
    stretched = START.topology.frame(START.positions, START.cell @ np.diag([1.01, 0.97, 1.02]))
    assert largest_strain(START, stretched) == pytest.approx(-0.03)
    assert largest_strain(START, START) == 0.0


def test_lattices_are_named() -> None:
    assert lattice_name(START) == "fcc lattice, a = 5.3 Å"
    assert lattice_name(frame_of(bulk("Mg"))).startswith("hexagonal lattice, a = 3.21 Å, c = 5.2")
    left = START.topology.frame(START.positions, -START.cell)
    assert lattice_name(left) == "fcc lattice, a = 5.3 Å"


@given(frame=frames())
def test_every_cell_has_a_name(frame: Frame) -> None:
    name, *values = lattice_name(frame).split(", ")
    assert name.endswith("lattice")
    assert 1 <= len(values) <= 6
    assert all(value.endswith((" Å", "°")) for value in values)
