"""Asking through the dispatcher: several workers help, and every set of atoms has its stream."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import numpy as np
from ase.build import bulk
from asked import LJ, Asked, frame_of

from clients.engines.toy import ToyEngine
from mixserver.crystal.asking import asking
from mixserver.crystal.elasticity import elastic_constants
from mixserver.crystal.lattice import relaxed_crystal
from mixserver.dispatch.dispatcher import Dispatcher
from mixserver.dispatch.events import Answered, Door, Event, Joined
from mixserver.dispatch.policy import Policy
from mixserver.wire.worker import Evaluate, Result


class TwoWorkers:
    """A door with two toy workers behind it, which remember what they were asked."""

    address = "in process"

    def __init__(self) -> None:
        self.engine = ToyEngine(**LJ)
        self.jobs: dict[str, list[Evaluate]] = {"one": [], "two": []}

    async def open(self, report: Callable[[Door, Event], None]) -> None:
        self._report = report
        for worker in self.jobs:
            report(self, Joined(worker, "expensive", self.engine.card))

    def welcome(self, worker: str) -> None:
        """They know."""

    def send(self, worker: str, job: Evaluate) -> None:
        self.jobs[worker].append(job)
        asyncio.get_running_loop().call_soon(self._answer, worker, job)

    def drop(self, worker: str, reason: str) -> None:
        raise RuntimeError(f"{worker} dropped: {reason}")

    async def close(self, reason: str) -> None:
        """Nothing is open."""

    def _answer(self, worker: str, job: Evaluate) -> None:
        answer = self.engine.evaluate(job)
        result = Result(
            job=job.job, energy=answer.energy, forces=answer.forces, virial=answer.virial
        )
        self._report(self, Answered(worker, result))


async def test_answers_are_the_models_and_both_workers_help() -> None:
    door = TwoWorkers()
    crystal = frame_of(bulk("Ar", "fcc", a=5.3, cubic=True))
    async with Dispatcher(Policy(roles={"expensive": ""}), [door]) as dispatcher:
        ask = asking(dispatcher, "expensive")
        found = await relaxed_crystal(ask, crystal)
        constants = await elastic_constants(ask, found)
    direct = Asked(door.engine)
    np.testing.assert_allclose(found.cell, (await relaxed_crystal(direct, crystal)).cell)
    expected = await elastic_constants(direct, found)
    np.testing.assert_allclose(constants.matrix, expected.matrix, atol=1e-9)
    shares = [len(jobs) for jobs in door.jobs.values()]
    assert min(shares) > 0.4 * (12 + 6 * 4)


async def test_every_set_of_atoms_has_a_stream_of_its_own() -> None:
    door = TwoWorkers()
    crystals = [frame_of(bulk(name, "fcc", a=5.3)) for name in ("Ar", "Kr", "Ar")]
    crystals.append(frame_of(bulk("Ar", "fcc", a=5.3, cubic=True)))
    async with Dispatcher(Policy(roles={"expensive": ""}), [door]) as dispatcher:
        ask = asking(dispatcher, "expensive", stream=500)
        for crystal in crystals:
            label = await ask(crystal)
            np.testing.assert_array_equal(label.virial, label.virial.T)
    asked = sorted(door.jobs["one"] + door.jobs["two"], key=lambda job: job.job)
    assert [job.stream for job in asked] == [500, 501, 500, 502]
    assert all(job.weight is None and not job.energies for job in asked)
