"""One evaluation from request to reply, with a real dispatcher and toy engines next to it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import msgspec
import numpy as np
import pytest
from cells import fcc
from fakes import EngineListener
from mixserver_worker.engines.toy import ToyEngine
from region_models import advance
from tolerance import SAME

from mixserver.core.frame import Frame
from mixserver.dispatch.dispatcher import Dispatcher
from mixserver.dispatch.policy import Policy
from mixserver.dispatch.scheduling.events import Listener, ResultReceived, WorkerEvent, WorkerJoined
from mixserver.mixing import ForceMixer, ModelCapabilities
from mixserver.mixing.single import SingleModel
from mixserver.region import AtomSeeds, CriterionSeeds, FixedRegion, ShellRegion
from mixserver.server.evaluator import Evaluator, Separately
from mixserver.server.records.recorder import Recorder
from mixserver.wire.ipi import Request
from mixserver.wire.worker import STOCK_CLIENT, Evaluate, Result


def next_door() -> EngineListener:
    """Two toy workers in this process."""
    return EngineListener.one_per_role(
        {
            "cheap": ToyEngine(epsilon=0.01, sigma=3.4, cutoff=5.0),
            "expensive": ToyEngine(epsilon=0.02, sigma=3.4, cutoff=5.0),
        }
    )


FRAME = fcc(3, 5.3)
EVERYTHING = FixedRegion(np.zeros(len(FRAME)), np.empty(0, dtype=np.intp))


@contextlib.asynccontextmanager
async def _steps(
    folder: Path, kind: str
) -> AsyncIterator[tuple[Evaluator, ShellRegion, EngineListener]]:
    door = next_door()
    # after the first evaluation the region moves to other atoms, and lambda follows slowly
    seeds = (
        CriterionSeeds("coord/atom cutoff 4.0", low=13.0, every=2, initial=[0])
        if kind == "criterion"
        else AtomSeeds([0])
    )
    region_model = ShellRegion(seeds, core_radius=3.0, blend_width=2.0, hysteresis=(3.0, 5.0))
    reach = ModelCapabilities(receptive_field=5.0, weights=True, name="toy")
    recorder = Recorder(folder)
    policy = Policy(roles={"cheap": "", "expensive": ""})

    async def mixer() -> ForceMixer:
        return ForceMixer(model=reach)

    async with Dispatcher(policy, [door]) as dispatcher:
        step = Evaluator(FRAME.topology, Separately(region_model, dispatcher), mixer, recorder)
        try:
            yield step, region_model, door
        finally:
            recorder.close()


def _request(number: int, bead: int = 0) -> Request:
    """Atom 0 walks through the crystal, so that lambda changes all the time."""
    positions = FRAME.positions.copy()
    positions[0] += [0.7 * number, 0.0, 0.0]
    return Request(positions, FRAME.cell.copy(), bead, "", 0)


async def _forces(step: Evaluator, number: int) -> np.ndarray:
    return (await step(_request(number))).forces


@pytest.mark.parametrize("kind", ["atoms", "criterion"])
async def test_what_is_asked_again_counts_once(tmp_path: Path, kind: str) -> None:
    async with _steps(tmp_path, kind) as (step, region_model, _):
        undisturbed = [await _forces(step, n) for n in range(5)]
        left = region_model.state()
    (tmp_path / "again").mkdir()
    async with _steps(tmp_path / "again", kind) as (step, region_model, door):
        for n in range(5):
            before = region_model.state()
            door.sleep()
            for _ in range(2):  # i-PI's connection is lost while workers evaluate
                lost = asyncio.ensure_future(step(_request(n)))
                await asyncio.sleep(0.01)
                lost.cancel()
                await asyncio.gather(lost, return_exceptions=True)
                assert lost.cancelled()
                assert region_model.state() == before
            door.wake()
            for _ in range(2):  # i-PI's connection is lost before the reply has arrived
                np.testing.assert_allclose(
                    await _forces(step, n), undisturbed[n], rtol=0.0, atol=SAME
                )
        assert region_model.state() == left


async def test_beads_are_asked_again_each_for_itself(tmp_path: Path) -> None:
    async with _steps(tmp_path, "atoms") as (step, region_model, _):
        for number, bead in ((0, 0), (0, 1), (1, 0), (1, 0), (1, 1), (2, 0)):
            await step(_request(number, bead))
        counted = {bead: memory["evaluations"] for bead, memory in region_model.state().items()}
    assert counted == {"0": 3, "1": 2}


def test_the_same_positions_give_the_same_region() -> None:
    region_model = ShellRegion(
        AtomSeeds([0]), core_radius=1.0, blend_width=1.0, hysteresis=(2.0, 2.0)
    )
    one = Frame(FRAME.topology, FRAME.positions, FRAME.cell)
    first = advance(region_model, one)
    assert region_model.state()["0"]["evaluations"] == 1
    two = Frame(FRAME.topology, FRAME.positions.copy(), FRAME.cell.copy())
    with region_model.evaluation(two) as evaluation:
        second = evaluation.region()
        np.testing.assert_array_equal(first.lambda_, second.lambda_)
        assert region_model.state()["0"]["evaluations"] == 0  # not answered yet
        evaluation.commit()
    assert region_model.state()["0"]["evaluations"] == 1


class Mirror:
    """A stock client that keeps what it is asked; its virial is not symmetric."""

    address = "mirror"
    virial = np.arange(9.0).reshape(3, 3)

    def __init__(self) -> None:
        self.asked: list[Evaluate] = []

    async def open(self, report: Callable[[Listener, WorkerEvent], None]) -> None:
        self._report = report
        card = msgspec.structs.replace(ToyEngine().card, engine=STOCK_CLIENT)
        report(self, WorkerJoined("it", "cheap", card))

    def welcome(self, worker: str) -> None:
        """It knows."""

    def send(self, worker: str, job: Evaluate) -> None:
        self.asked.append(job)
        forces = 0.01 * job.positions
        result = Result(job=job.job, energy=1.0, forces=forces, virial=self.virial, extras="said")
        asyncio.get_running_loop().call_soon(self._report, self, ResultReceived(worker, result))

    def drop(self, worker: str, reason: str) -> None:
        pytest.fail(f"{worker} dropped: {reason}")

    async def close(self, reason: str) -> None:
        """Nothing is open."""


@pytest.mark.parametrize("wrap", [False, True])
async def test_without_a_region_everything_passes_as_it_is(tmp_path: Path, wrap: bool) -> None:
    door = Mirror()
    recorder = Recorder(tmp_path)

    async def mixer() -> SingleModel:
        return SingleModel("cheap", wrap=wrap)

    cells = np.array([3.0, -2.0, 40.0])
    turn, _ = np.linalg.qr(np.random.default_rng(3).normal(size=(3, 3)))
    cell = -FRAME.cell @ turn  # turned, and left-handed
    inside = FRAME.fractional - np.floor(FRAME.fractional)
    request = Request((inside + cells) @ cell, cell, 5, "a : 1", 0, 7)
    async with Dispatcher(Policy(roles={"cheap": ""}), [door]) as dispatcher:
        evaluator = Evaluator(FRAME.topology, Separately(EVERYTHING, dispatcher), mixer, recorder)
        reply = await evaluator(request)
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
