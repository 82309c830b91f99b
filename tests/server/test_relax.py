"""Relaxation with forces that are awaited."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest
from cells import fcc
from mixserver_worker.engines.toy import ToyEngine

from mixserver.core.errors import BadInput, ConfigError
from mixserver.core.frame import Frame, Topology
from mixserver.mixing.jobs import whole_system_job
from mixserver.server.relax import FORCE, relaxed

TOY = ToyEngine(epsilon=0.02, sigma=3.4, cutoff=6.0)
START = fcc(3, 5.3, rattle=0.15)


class Counted:
    """The toy engine's forces, with a count of evaluations."""

    def __init__(self) -> None:
        self.evaluations = 0

    async def __call__(self, frame: Frame) -> np.ndarray:
        self.evaluations += 1
        await asyncio.sleep(0.0)
        return TOY.evaluate(whole_system_job(frame)).forces


def _largest(forces: np.ndarray) -> float:
    return float(np.linalg.norm(forces, axis=1).max())


async def test_a_crystal_relaxes_at_fixed_cell() -> None:
    forces = Counted()
    assert _largest(await forces(START)) > 100 * FORCE
    found = await relaxed(START, forces)
    answer = TOY.evaluate(whole_system_job(found))
    assert _largest(answer.forces) <= FORCE
    assert answer.energy < TOY.evaluate(whole_system_job(START)).energy - 1.0
    np.testing.assert_array_equal(found.cell, START.cell)
    assert found.topology is START.topology
    assert np.abs(found.positions - START.positions).max() < 1.0  # unwrapped, as they came
    assert forces.evaluations < 200


async def test_a_relaxed_structure_is_not_changed() -> None:
    once = await relaxed(START, Counted())
    forces = Counted()
    again = await relaxed(once, forces)
    np.testing.assert_array_equal(again.positions, once.positions)
    assert forces.evaluations == 1


async def test_the_tolerance_can_be_set() -> None:
    found = await relaxed(START, Counted(), largest=1e-6)
    assert _largest(TOY.evaluate(whole_system_job(found)).forces) <= 1e-6


async def test_periodicity_is_kept() -> None:
    topology = Topology(START.topology.numbers, (True, True, False))
    slab = topology.frame(START.positions, START.cell)
    found = await relaxed(slab, Counted())
    assert found.topology.pbc == (True, True, False)
    assert _largest(TOY.evaluate(whole_system_job(found)).forces) <= FORCE


async def test_forces_without_an_energy_converge() -> None:
    """Mixed forces are not the gradient of anything: here a spring, and a force that turns."""
    turning = np.array([[0.0, 0.3, 0.0], [-0.3, 0.0, 0.0], [0.0, 0.0, 0.0]])

    async def forces(frame: Frame) -> np.ndarray:
        away = frame.positions - START.positions - 0.3
        forces: np.ndarray = -away + away @ turning
        return forces

    found = await relaxed(START, forces)
    np.testing.assert_allclose(found.positions, START.positions + 0.3, atol=2 * FORCE)


async def test_a_relaxation_that_does_not_converge_names_the_cure(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("mixserver.server.relax.STEPS", 40)

    async def forces(frame: Frame) -> np.ndarray:
        return np.full(frame.positions.shape, 0.25)

    with pytest.raises(ConfigError) as caught:
        await relaxed(START, forces)
    message = str(caught.value)
    assert "within 40 steps" in message
    assert "0.433 eV/Å" in message  # what is left
    assert f"{FORCE} eV/Å" in message  # what was asked for
    assert "mixing.dead_loads = 'structure'" in message


async def test_a_failed_evaluation_ends_the_relaxation() -> None:
    async def forces(frame: Frame) -> np.ndarray:
        raise BadInput("too close")

    with pytest.raises(BadInput, match="too close"):
        await relaxed(START, forces)


async def test_a_relaxation_that_waits_for_forces_can_be_cancelled() -> None:
    waiting = asyncio.Event()

    async def hang(frame: Frame) -> np.ndarray:
        waiting.set()
        await asyncio.Event().wait()
        raise AssertionError

    task = asyncio.ensure_future(relaxed(START, hang))
    await waiting.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
