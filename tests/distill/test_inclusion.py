"""Strain around an inclusion: none where the models agree, Eshelby's where they do not."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

import numpy as np
import pytest
from argon import CONSTANT, crystal
from ase import Atoms
from ase.lattice.hexagonal import Graphite
from fakes import EngineListener
from mixserver_worker.engines.toy import ToyEngine

from mixserver.analysis.bulk.elasticity import elastic_constants
from mixserver.analysis.bulk.evaluate import EvaluateFn, EvaluationResult, model_evaluator
from mixserver.analysis.bulk.relaxation import relax_crystal
from mixserver.core.errors import ConfigError
from mixserver.core.frame import Frame, Topology
from mixserver.core.strain import strain_from_voigt
from mixserver.dispatch.dispatcher import Dispatcher
from mixserver.dispatch.policy import Policy
from mixserver.distill.validation.inclusion import (
    SHEAR,
    Inclusion,
    inclusion,
    local_strains,
    relaxed_inclusion,
    strain_error,
)
from mixserver.wire.worker import Role

MODEL = {"epsilon": 0.02, "sigma": 3.4, "cutoff": 6.0}


@contextlib.asynccontextmanager
async def asked(role: Role, **changes: float) -> AsyncIterator[Dispatcher]:
    engines = EngineListener.one_per_role({role: ToyEngine(**(MODEL | changes))})
    async with Dispatcher(Policy(roles={role: ""}), [engines]) as dispatcher:
        yield dispatcher


async def _at_rest(expensive: Dispatcher) -> Frame:
    return await relax_crystal(model_evaluator(expensive, "expensive"), crystal(1))


async def _error(expensive: Dispatcher, of: Inclusion, **changes: float) -> float:
    async with asked("cheap", **changes) as cheap:
        return strain_error(of, await relaxed_inclusion(expensive, cheap, of))


async def test_where_the_models_agree_the_strain_is_uniform() -> None:
    async with asked("expensive") as expensive:
        of = await inclusion(expensive, await _at_rest(expensive))
        assert 0.1 < of.share.mean() < 0.2
        assert await _error(expensive, of) < 1e-6
        small = await _error(expensive, of, epsilon=0.0202)
        large = await _error(expensive, of, epsilon=0.022)
    assert 0.001 < small < 0.003
    assert large / small == pytest.approx(10.0, rel=0.1)


async def test_a_stiffer_surrounding_stretches_it_as_eshelby_says() -> None:
    r"""In a matrix s times as stiff the inclusion's shear is the applied one over
    1 + beta (1/s - 1), with beta of an isotropic medium (Eshelby 1957, equation 3.14)."""
    stiffer = 1.2
    async with asked("expensive") as expensive:
        start = await _at_rest(expensive)
        elastic = (await elastic_constants(model_evaluator(expensive, "expensive"), start)).cubic
        assert elastic is not None
        of = await inclusion(expensive, start, core=8.0, blend=1.0, length=36.0)
        async with asked("cheap", epsilon=stiffer * MODEL["epsilon"]) as cheap:
            found = await relaxed_inclusion(expensive, cheap, of)
    strains = local_strains(of.sheared, found.positions - of.sheared.positions)
    inside = strains[of.share == 1.0].mean(axis=0) / strain_from_voigt(SHEAR)[0, 1]
    bulk, shear = (elastic.c11 + 2.0 * elastic.c12) / 3.0, elastic.c44
    poisson = (3.0 * bulk - 2.0 * shear) / (2.0 * (3.0 * bulk + shear))
    beta = 2.0 * (4.0 - 5.0 * poisson) / (15.0 * (1.0 - poisson))
    expected = 1.0 / (1.0 + beta * (1.0 / stiffer - 1.0)) - 1.0
    assert inside[0, 1] == pytest.approx(expected, rel=0.3)
    assert np.abs(np.delete(inside.ravel(), (1, 3))).max() < 0.1 * expected


def test_local_strains_of_a_uniform_strain_are_that_strain() -> None:
    frame = crystal(5)
    frame = frame.topology.frame(
        frame.positions + np.random.default_rng(0).normal(0.0, 0.1, frame.positions.shape),
        frame.cell,
    )
    strain = strain_from_voigt(np.array([0.01, -0.02, 0.005, 0.01, 0.02, -0.01]))
    inside = np.linalg.norm(frame.positions - 2.5 * CONSTANT, axis=1) < CONSTANT
    found = local_strains(frame, frame.positions @ strain)
    assert inside.sum() > 10
    np.testing.assert_allclose(
        found[inside], np.broadcast_to(strain, found[inside].shape), atol=1e-12
    )


@pytest.mark.parametrize("name", ["layers", "hydroxide"])
def test_local_strains_where_the_nearest_neighbours_lie_in_a_plane(name: str) -> None:
    atoms = Graphite("C", latticeconstant={"a": 2.46, "c": 6.7}, size=(6, 6, 3))
    if name == "hydroxide":  # a short bond in a layered crystal
        scaled = [(0, 0, 0), (1 / 3, 2 / 3, 0.22), (2 / 3, 1 / 3, 0.78)]
        scaled += [(1 / 3, 2 / 3, 0.42), (2 / 3, 1 / 3, 0.58)]
        cell = [[3.14, 0, 0], [-1.57, 2.72, 0], [0, 0, 4.77]]
        atoms = Atoms("MgO2H2", scaled_positions=scaled, cell=cell, pbc=True) * (5, 5, 4)
    frame = Topology(np.asarray(atoms.numbers, np.int32)).frame(atoms.positions, atoms.cell[:])
    strain = strain_from_voigt(np.array([0.01, -0.02, 0.005, 0.01, 0.02, -0.01]))
    middle = frame.cell.sum(axis=0) / 2.0
    inside = np.linalg.norm(frame.positions - middle, axis=1) < 2.5
    found = local_strains(frame, frame.positions @ strain)[inside]
    assert inside.sum() > 3
    np.testing.assert_allclose(found, np.broadcast_to(strain, found.shape), atol=1e-10)


def test_strains_of_a_single_sheet_cannot_be_told() -> None:
    atoms = Graphite("C", latticeconstant={"a": 2.46, "c": 6.7}, size=(4, 4, 1))
    sheet = atoms[atoms.positions[:, 2] < 1.0]
    cell = np.array(sheet.cell[:])
    cell[2] *= 10.0
    frame = Topology(np.asarray(sheet.numbers, np.int32)).frame(sheet.positions, cell)
    with pytest.raises(ConfigError, match="lie in a plane"):
        local_strains(frame, np.zeros_like(frame.positions))


async def test_every_evaluation_can_be_counted() -> None:
    told: list[int] = []

    def counted(evaluate: EvaluateFn) -> EvaluateFn:
        async def one(frame: Frame) -> EvaluationResult:
            told.append(1)
            return await evaluate(frame)

        return one

    async with asked("expensive") as expensive:
        of = await inclusion(expensive, await _at_rest(expensive), counted=counted)
        before = len(told)
        async with asked("cheap", epsilon=0.0201) as cheap:
            await relaxed_inclusion(expensive, cheap, of, counted=counted)
    assert 0 < before < len(told)
