"""One evaluation from request to reply, with a real dispatcher and toy engines next to it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import numpy as np
import pytest
from cells import fcc
from tolerance import SAME

from clients.engines.toy import ToyEngine
from mixserver.dispatch.dispatcher import Dispatcher
from mixserver.dispatch.events import Answered, Door, Event, Joined
from mixserver.dispatch.policy import Policy
from mixserver.frame import Frame
from mixserver.mixing import ForceMixer, Reach
from mixserver.record.recorder import Recorder
from mixserver.region import AtomSeeds, CriterionSeeds, Selector
from mixserver.step import MixedStep, PlainStep
from mixserver.wire.ipi import Request
from mixserver.wire.worker import Evaluate, Result, Role


class NextDoor:
    """Two toy workers in this process; they fall asleep while `open_eyes` is not set."""

    address = "next door"

    def __init__(self) -> None:
        self.open_eyes = asyncio.Event()
        self.open_eyes.set()
        self._engines: dict[Role, ToyEngine] = {
            "cheap": ToyEngine(epsilon=0.01, sigma=3.4, cutoff=5.0),
            "expensive": ToyEngine(epsilon=0.02, sigma=3.4, cutoff=5.0),
        }
        self._tasks: set[asyncio.Task[None]] = set()

    async def open(self, report: Callable[[Door, Event], None]) -> None:
        self._report = report
        for role, engine in self._engines.items():
            report(self, Joined(role, role, engine.card))

    def welcome(self, worker: str) -> None:
        """They know."""

    def send(self, worker: str, job: Evaluate) -> None:
        task = asyncio.ensure_future(self._evaluate(worker, job))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def drop(self, worker: str, reason: str) -> None:
        pytest.fail(f"{worker} dropped: {reason}")

    async def close(self, reason: str) -> None:
        await asyncio.gather(*self._tasks)

    async def _evaluate(self, worker: Role, job: Evaluate) -> None:
        await self.open_eyes.wait()
        answer = self._engines[worker].evaluate(job)
        result = Result(
            job=job.job,
            energy=answer.energy,
            forces=answer.forces,
            virial=answer.virial,
            energies=answer.energies,
            values=answer.values,
        )
        self._report(self, Answered(worker, result))


FRAME = fcc(3, 5.3)


@contextlib.asynccontextmanager
async def _steps(folder: Path, kind: str) -> AsyncIterator[tuple[MixedStep, Selector, NextDoor]]:
    door = NextDoor()
    # after the first evaluation the region moves to other atoms, and lambda follows slowly
    seeds = (
        CriterionSeeds("coord/atom cutoff 4.0", low=13.0, every=2, initial=[0])
        if kind == "criterion"
        else AtomSeeds([0])
    )
    selector = Selector(seeds, core_radius=3.0, blend_width=2.0, hysteresis=(3.0, 5.0))
    reach = Reach(receptive_field=5.0, weights=True, name="toy")
    recorder = Recorder(folder)
    policy = Policy(roles={"cheap": "", "expensive": ""})

    async def mixer() -> ForceMixer:
        return ForceMixer(reach=reach)

    async with Dispatcher(policy, [door]) as dispatcher:
        step = MixedStep(
            FRAME.topology,
            selector,
            mixer,
            dispatcher,
            recorder,
        )
        try:
            yield step, selector, door
        finally:
            recorder.close()


def _request(number: int, bead: int = 0) -> Request:
    """Atom 0 walks through the crystal, so that lambda changes all the time."""
    positions = FRAME.positions.copy()
    positions[0] += [0.7 * number, 0.0, 0.0]
    return Request(positions, FRAME.cell.copy(), bead, "", 0)


async def _forces(step: MixedStep, number: int) -> np.ndarray:
    return (await step.answer(_request(number))).forces


@pytest.mark.parametrize("kind", ["atoms", "criterion"])
async def test_what_is_asked_again_counts_once(tmp_path: Path, kind: str) -> None:
    async with _steps(tmp_path, kind) as (step, selector, _):
        undisturbed = [await _forces(step, n) for n in range(5)]
        left = selector.state()
    (tmp_path / "again").mkdir()
    async with _steps(tmp_path / "again", kind) as (step, selector, door):
        for n in range(5):
            before = selector.state()
            door.open_eyes.clear()
            for _ in range(2):  # i-PI's connection is lost while workers evaluate
                lost = asyncio.ensure_future(step.answer(_request(n)))
                await asyncio.sleep(0.01)
                lost.cancel()
                await asyncio.gather(lost, return_exceptions=True)
                assert lost.cancelled()
                assert selector.state() == before or not n
            door.open_eyes.set()
            for _ in range(2):  # i-PI's connection is lost before the reply has arrived
                np.testing.assert_allclose(
                    await _forces(step, n), undisturbed[n], rtol=0.0, atol=SAME
                )
        assert selector.state() == left


async def test_beads_are_asked_again_each_for_itself(tmp_path: Path) -> None:
    async with _steps(tmp_path, "atoms") as (step, selector, _):
        for number, bead in ((0, 0), (0, 1), (1, 0), (1, 0), (1, 1), (2, 0)):
            await step.answer(_request(number, bead))
        counted = {bead: memory["evaluations"] for bead, memory in selector.state().items()}
    assert counted == {"0": 3, "1": 2}


def test_the_same_positions_give_the_same_region() -> None:
    selector = Selector(AtomSeeds([0]), core_radius=1.0, blend_width=1.0, hysteresis=(2.0, 2.0))
    one = Frame(FRAME.topology, FRAME.positions, FRAME.cell)
    selector.begin(one)
    first = selector.select(one)
    selector.done(one)
    two = Frame(FRAME.topology, FRAME.positions.copy(), FRAME.cell.copy())
    selector.begin(two)
    second = selector.select(two)
    np.testing.assert_array_equal(first.expensive, second.expensive)
    assert selector.state()["0"]["evaluations"] == 0  # not answered yet
    selector.done(two)
    assert selector.state()["0"]["evaluations"] == 1


class Mirror:
    """Keeps what it is asked, and answers with a virial that is not symmetric."""

    address = "mirror"
    virial = np.arange(9.0).reshape(3, 3)

    def __init__(self) -> None:
        self.asked: list[Evaluate] = []

    async def open(self, report: Callable[[Door, Event], None]) -> None:
        self._report = report
        report(self, Joined("it", "cheap", ToyEngine().card))

    def welcome(self, worker: str) -> None:
        """It knows."""

    def send(self, worker: str, job: Evaluate) -> None:
        self.asked.append(job)
        forces = 0.01 * job.positions
        result = Result(job=job.job, energy=1.0, forces=forces, virial=self.virial, extras="said")
        asyncio.get_running_loop().call_soon(self._report, self, Answered(worker, result))

    def drop(self, worker: str, reason: str) -> None:
        pytest.fail(f"{worker} dropped: {reason}")

    async def close(self, reason: str) -> None:
        """Nothing is open."""


@pytest.mark.parametrize("wrap", [False, True])
async def test_without_a_region_everything_passes_as_it_is(tmp_path: Path, wrap: bool) -> None:
    door = Mirror()
    recorder = Recorder(tmp_path)
    cells = np.array([3.0, -2.0, 40.0])
    turn, _ = np.linalg.qr(np.random.default_rng(3).normal(size=(3, 3)))
    cell = -FRAME.cell @ turn  # turned, and left-handed
    inside = FRAME.fractional - np.floor(FRAME.fractional)
    request = Request((inside + cells) @ cell, cell, 5, "a : 1", 0, 7)
    async with Dispatcher(Policy(roles={"cheap": ""}), [door]) as dispatcher:
        step = PlainStep(FRAME.topology, "cheap", dispatcher, recorder, wrap=wrap)
        reply = await step.answer(request)
    recorder.close()
    (asked,) = door.asked
    if wrap:
        np.testing.assert_allclose(asked.positions, inside @ cell, atol=1e-11)
    else:
        np.testing.assert_array_equal(asked.positions, request.positions)
    np.testing.assert_array_equal(asked.cell, cell)
    assert (asked.parameters, asked.rid) == ("a : 1", 7)
    np.testing.assert_array_equal(reply.forces, 0.01 * asked.positions)
    np.testing.assert_array_equal(reply.virial, door.virial)
    assert (reply.energy, reply.extras) == (1.0, "said")
