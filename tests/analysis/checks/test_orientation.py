"""Turning everything that i-PI sends turns the answer and changes nothing else."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import pytest
from cells import fcc, frame_of
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from in_process import prepared_case
from tolerance import EXACT

from mixserver.core.frame import Frame
from mixserver.server.coalesce import cache_async
from mixserver.server.evaluator import Evaluator, Separately
from mixserver.server.records.recorder import Recorder
from mixserver.wire.ipi import Reply, Request

TILTED = np.array([[1.0, 0.0, 0.0], [0.1, 1.0, 0.0], [-0.07, 0.05, 1.0]])
CRYSTAL = fcc(3, 5.3, rattle=0.0)
START = frame_of(CRYSTAL.positions @ TILTED, CRYSTAL.cell @ TILTED)
SPHERE = '{ kind = "sphere", centre = [4.0, 5.0, 6.0], radius = 2.0'
CYLINDER = '{ kind = "cylinder", axis = "b", centre = [4.0, 5.0, 6.0], radius = 1.0'
ATOMS = '{ kind = "atoms", indices = [0] }'
CASES = {
    "frozen, with dead loads": ("energy", "", ATOMS),
    "frozen around a sphere, with dead loads": (
        "energy",
        'dead_loads = "structure"',
        SPHERE + " }",
    ),
    "force mixing around an atom": ("force", "", ATOMS),
    "force mixing around a sphere": ("force", "", SPHERE + " }"),
    "force mixing around a sphere in fractions": (
        "force",
        "",
        '{ kind = "sphere", centre = [0.3, 0.4, 0.5], radius = 2.0, fractional = true }',
    ),
    "force mixing around a cylinder": ("force", "", CYLINDER + " }"),
    "force mixing around a slab": (
        "force",
        "",
        '{ kind = "slab", axis = "c", low = 0.4, high = 0.6 }',
    ),
}


def _hot(rng: np.random.Generator) -> Frame:
    """Shaken atoms in a cell that has strained a little, as under a barostat."""
    deform = np.eye(3) + np.triu(rng.uniform(-0.02, 0.02, (3, 3)))
    shake = rng.normal(0.0, 0.1, START.positions.shape)
    return frame_of((START.positions + shake) @ deform, START.cell @ deform)


@pytest.mark.parametrize("case", CASES)
@given(st.integers(0, 2**32 - 1))
@settings(max_examples=3, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_a_turned_system_has_turned_forces(tmp_path: Path, case: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    frame = _hot(rng)
    turn = np.linalg.qr(rng.normal(size=(3, 3)))[0]  # with an inversion in half of the cases
    kind, mixing, seeds = CASES[case]
    async with prepared_case(START, kind=kind, mixing=mixing, seeds=seeds) as setup:

        async def answer(positions: np.ndarray, cell: np.ndarray) -> Reply:
            recorder = Recorder(tmp_path)
            evaluator = Evaluator(
                START.topology,
                Separately(setup.fresh(), setup.dispatcher),
                cache_async(partial(setup.mixer, tmp_path)),
                recorder,
            )
            try:
                return await evaluator(Request(positions, cell))
            finally:
                recorder.close()

        here = await answer(frame.positions, frame.cell)
        there = await answer(frame.positions @ turn, frame.cell @ turn)
    assert there.energy == pytest.approx(here.energy, abs=EXACT)
    np.testing.assert_allclose(there.forces, here.forces @ turn, atol=EXACT)
    np.testing.assert_allclose(there.virial, turn.T @ here.virial @ turn, atol=EXACT)
    assert np.abs(here.forces).max() > 0.1
