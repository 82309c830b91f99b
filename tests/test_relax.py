"""Relaxing a structure with forces that come from elsewhere."""

from __future__ import annotations

import asyncio
import time

import numpy as np
import pytest
from cells import fcc
from limits import HANG_S

from clients.engines.toy import ToyEngine
from mixserver.errors import BadInput, ConfigError
from mixserver.frame import Frame, Topology
from mixserver.mixing.mixer import about_all
from mixserver.relax import FORCE, relaxed

TOY = ToyEngine(epsilon=0.02, sigma=3.4, cutoff=6.0)
START = fcc(3, 5.3, rattle=0.15)


class Counted:
    """The toy engine's forces, and how often they were asked for."""

    def __init__(self) -> None:
        self.asked = 0

    async def __call__(self, frame: Frame) -> np.ndarray:
        self.asked += 1
        await asyncio.sleep(0.0)
        return TOY.evaluate(about_all(frame)).forces


def _largest(forces: np.ndarray) -> float:
    return float(np.linalg.norm(forces, axis=1).max())


async def test_a_crystal_comes_to_rest_in_its_cell() -> None:
    forces = Counted()
    assert _largest(await forces(START)) > 100 * FORCE
    found = await relaxed(START, forces)
    answer = TOY.evaluate(about_all(found))
    assert _largest(answer.forces) <= FORCE
    assert answer.energy < TOY.evaluate(about_all(START)).energy - 1.0
    np.testing.assert_array_equal(found.cell, START.cell)
    assert found.topology is START.topology
    assert np.abs(found.positions - START.positions).max() < 1.0  # unwrapped, as they came
    assert forces.asked < 200


async def test_what_rests_stays_as_it_is() -> None:
    once = await relaxed(START, Counted())
    forces = Counted()
    again = await relaxed(once, forces)
    np.testing.assert_array_equal(again.positions, once.positions)
    assert forces.asked == 1


async def test_how_far_can_be_said() -> None:
    found = await relaxed(START, Counted(), largest=1e-6)
    assert _largest(TOY.evaluate(about_all(found)).forces) <= 1e-6


async def test_periods_are_kept() -> None:
    topology = Topology(START.topology.numbers, (True, True, False))
    slab = topology.frame(START.positions, START.cell)
    found = await relaxed(slab, Counted())
    assert found.topology.pbc == (True, True, False)
    assert _largest(TOY.evaluate(about_all(found)).forces) <= FORCE


async def test_forces_without_an_energy_come_to_rest_too() -> None:
    """Mixed forces are not the gradient of anything: here a spring, and a force that turns."""
    turning = np.array([[0.0, 0.3, 0.0], [-0.3, 0.0, 0.0], [0.0, 0.0, 0.0]])

    async def forces(frame: Frame) -> np.ndarray:
        away = frame.positions - START.positions - 0.3
        forces: np.ndarray = -away + away @ turning
        return forces

    found = await relaxed(START, forces)
    np.testing.assert_allclose(found.positions, START.positions + 0.3, atol=2 * FORCE)


async def test_what_does_not_come_to_rest_is_said_with_the_cure(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("mixserver.relax.STEPS", 40)

    async def forces(frame: Frame) -> np.ndarray:
        return np.full(frame.positions.shape, 0.25)

    with pytest.raises(ConfigError) as caught:
        await relaxed(START, forces)
    said = str(caught.value)
    assert "within 40 steps" in said
    assert "0.433 eV/Å" in said  # what is left
    assert f"{FORCE} eV/Å" in said  # what was asked for
    assert "mixing.dead_loads = 'structure'" in said


async def test_a_failed_evaluation_is_told() -> None:
    async def forces(frame: Frame) -> np.ndarray:
        raise BadInput("too close")

    with pytest.raises(BadInput, match="too close"):
        await relaxed(START, forces)


def test_who_stops_waiting_is_not_held() -> None:
    async def hang(frame: Frame) -> np.ndarray:
        await asyncio.Event().wait()
        raise AssertionError

    async def main() -> None:
        task = asyncio.ensure_future(relaxed(START, hang))
        await asyncio.sleep(0.2)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    started = time.monotonic()
    asyncio.run(main())
    assert time.monotonic() - started < HANG_S
