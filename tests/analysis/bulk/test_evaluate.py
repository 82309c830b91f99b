"""Asking through the dispatcher: several workers help, and every set of atoms has its stream."""

from __future__ import annotations

from collections import Counter

import numpy as np
from ase.build import bulk
from evaluators import LJ, CountingEvaluator, frame_of
from fakes import EngineListener
from mixserver_worker.engines.toy import ToyEngine

from mixserver.analysis.bulk.elasticity import elastic_constants
from mixserver.analysis.bulk.evaluate import model_evaluator
from mixserver.analysis.bulk.relaxation import relax_crystal
from mixserver.dispatch.dispatcher import Dispatcher
from mixserver.dispatch.policy import Policy


def two_workers() -> EngineListener:
    engine = ToyEngine(**LJ)
    return EngineListener(dict.fromkeys(("one", "two"), ("expensive", engine)))


async def test_answers_are_the_models_and_both_workers_help() -> None:
    door = two_workers()
    crystal = frame_of(bulk("Ar", "fcc", a=5.3, cubic=True))
    async with Dispatcher(Policy(roles={"expensive": ""}), [door]) as dispatcher:
        ask = model_evaluator(dispatcher, "expensive")
        found = await relax_crystal(ask, crystal)
        constants = await elastic_constants(ask, found)
    direct = CountingEvaluator(ToyEngine(**LJ))
    np.testing.assert_allclose(found.cell, (await relax_crystal(direct, crystal)).cell)
    expected = await elastic_constants(direct, found)
    np.testing.assert_allclose(constants.matrix, expected.matrix, atol=1e-9)
    shares = Counter(worker for worker, _ in door.jobs).values()
    assert min(shares) > 0.4 * (12 + 6 * 4)


async def test_every_set_of_atoms_has_a_stream_of_its_own() -> None:
    door = two_workers()
    crystals = [frame_of(bulk(name, "fcc", a=5.3)) for name in ("Ar", "Kr", "Ar")]
    crystals.append(frame_of(bulk("Ar", "fcc", a=5.3, cubic=True)))
    async with Dispatcher(Policy(roles={"expensive": ""}), [door]) as dispatcher:
        ask = model_evaluator(dispatcher, "expensive", stream=500)
        for crystal in crystals:
            label = await ask(crystal)
            np.testing.assert_array_equal(label.virial, label.virial.T)
    asked = sorted((job for _, job in door.jobs), key=lambda job: job.job)
    assert [job.stream for job in asked] == [500, 501, 500, 502]
    assert all(job.weight is None and not job.energies for job in asked)
