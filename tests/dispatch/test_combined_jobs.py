"""Small jobs of several beads in one call of the engine."""

from __future__ import annotations

import asyncio
import dataclasses

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mixserver_worker.engines.toy import ToyEngine
from mixserver_worker.replicas import together
from tolerance import EXACT

from mixserver.core.errors import BadInput, NoWorkerError
from mixserver.dispatch.combined_jobs import share_out
from mixserver.dispatch.dispatcher import Dispatcher
from mixserver.dispatch.policy import Policy
from mixserver.dispatch.scheduling.events import (
    FailureReceived,
    Listener,
    ResultReceived,
    WorkerEvent,
    WorkerJoined,
    WorkerLeft,
)
from mixserver.dispatch.validation import result_error
from mixserver.wire.replicas import combine, separate, separate_result
from mixserver.wire.worker import Evaluate, ModelCard, Result
from mixserver.wire.worker_frames import decode, encode

CARD = ModelCard(engine="t", name="t", fingerprint="a", weights=True, energies=True, replicas=True)
POLICY = Policy(roles={"expensive": "", "cheap": ""}, batch_sites=100, failures=1)


def job(atoms: int, seed: int, *, weighted: bool = True, energies: bool = True) -> Evaluate:
    rng = np.random.default_rng(seed)
    weight = np.where(rng.random(atoms) < 0.7, rng.random(atoms), 0.0)
    return Evaluate(
        job=0,
        stream=seed,
        positions=rng.uniform(0.0, 8.0, (atoms, 3)),
        numbers=np.full(atoms, 14, np.int32),
        cell=np.diag(rng.uniform(7.0, 9.0, 3)),
        pbc=(True, True, False),
        weight=weight if weighted else None,
        energies=energies,
        wanted=(weight == 0.0).astype(np.int32) if weighted and seed % 2 else None,
    )


def evaluate(question: Evaluate) -> Result:
    """The toy engine, one structure after the other."""
    engine = ToyEngine(cutoff=3.0)
    answers = [engine.evaluate(one) for one in separate(question)]
    answer = answers[0] if question.replica is None else together(answers)
    return Result(
        job=question.job,
        energy=answer.energy,
        forces=answer.forces,
        virial=answer.virial,
        energies=answer.energies,
        replica_energies=answer.replica_energies,
        virials=answer.virials,
    )


@given(
    st.lists(st.integers(1, 12), min_size=1, max_size=6),
    st.booleans(),
    st.integers(0, 2**20),
)
def test_jobs_come_apart_as_they_were_put_together(
    sizes: list[int], energies: bool, seed: int
) -> None:
    jobs = [
        job(n, seed + i, weighted=(seed + i) % 3 > 0, energies=energies)
        for i, n in enumerate(sizes)
    ]
    combined = decode([bytes(frame) for frame in encode(combine(jobs))])
    assert isinstance(combined, Evaluate)
    assert combined.replicas == len(jobs)
    for one, again in zip(jobs, separate(combined), strict=True):
        np.testing.assert_array_equal(again.positions, one.positions)
        np.testing.assert_array_equal(again.cell, one.cell)
        assert again.stream == one.stream
        np.testing.assert_array_equal(again.sites, one.sites)
        weight = np.ones(len(one.positions)) if one.weight is None else one.weight
        kept = np.ones(len(one.positions)) if again.weight is None else again.weight
        np.testing.assert_array_equal(kept, weight)
    whole = decode([bytes(frame) for frame in encode(evaluate(combined))])
    assert isinstance(whole, Result)
    assert result_error(combined, whole) == ""
    for one, part in zip(jobs, separate_result(whole, combined), strict=True):
        alone = evaluate(one)
        assert part.energy == pytest.approx(alone.energy, rel=EXACT)
        np.testing.assert_allclose(part.forces, alone.forces, rtol=EXACT, atol=EXACT)
        np.testing.assert_allclose(part.virial, alone.virial, rtol=EXACT, atol=EXACT)
        assert (part.energies is None) == (alone.energies is None)


def test_jobs_that_differ_in_kind_are_not_combined() -> None:
    plain = job(3, 0)
    for other in (
        combine([plain, plain]),
        msgspec.structs.replace(plain, criterion="coord/atom cutoff 3.0"),
        msgspec.structs.replace(plain, pbc=(True, True, True)),
        msgspec.structs.replace(plain, energies=False),
    ):
        with pytest.raises(ValueError, match="combined"):
            combine([plain, other])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"replica_energies": None, "virials": None}, "energies of 2 structures but returned none"),
        ({"replica_energies": np.zeros(3), "virials": np.zeros((3, 3, 3))}, "those of 3"),
        ({"replica_energies": np.array([np.nan, 0.0])}, "not finite"),
        ({"replica_energies": np.array([1.0, 1e3])}, "add up to"),
        ({"virials": np.full((2, 3, 3), 50.0)}, "do not add up to that of the job"),
    ],
)
def test_parts_that_do_not_fit_their_job_are_the_workers_fault(
    change: dict[str, object], message: str
) -> None:
    question = combine([job(5, 0), job(6, 1)])
    good = evaluate(question)
    assert result_error(question, good) == ""
    assert message in result_error(question, msgspec.structs.replace(good, **change))


@given(
    st.lists(st.integers(0, 50), min_size=1, max_size=30), st.integers(50, 200), st.integers(0, 5)
)
def test_groups_are_neighbours_and_none_is_too_large(
    sites: list[int], most: int, workers: int
) -> None:
    groups = share_out(sites, most, workers)
    assert [at for group in groups for at in group] == list(range(len(sites)))
    assert all(sum(sites[at] for at in group) <= most for group in groups)
    if sum(sites) <= most and workers <= 1:
        assert len(groups) == 1


def test_equal_jobs_are_shared_out_equally() -> None:
    assert [len(group) for group in share_out([10] * 8, 1000, 2)] == [4, 4]
    assert [len(group) for group in share_out([10] * 9, 1000, 4)] == [2, 2, 3, 2]
    assert [len(group) for group in share_out([10] * 8, 30, 1)] == [3, 3, 2]


class Paper:
    """A listener with workers that the test speaks for."""

    address = "paper"

    def __init__(self) -> None:
        self.jobs: list[tuple[str, Evaluate]] = []

    async def open(self, report: object) -> None:
        self._report = report

    def say(self, event: WorkerEvent) -> None:
        self._report(self, event)  # type: ignore[operator]

    def send(self, worker: str, sent: Evaluate) -> None:
        self.jobs.append((worker, sent))

    def welcome(self, worker: str) -> None: ...
    def drop(self, worker: str, reason: str) -> None: ...
    async def close(self, reason: str) -> None: ...


async def until(holds: object) -> None:
    async with asyncio.timeout(30.0):
        while not holds():  # type: ignore[operator]  # noqa: ASYNC110 - there is no event for it
            await asyncio.sleep(0.001)


@pytest.fixture
def paper() -> Paper:
    return Paper()


def beads(dispatcher: Dispatcher, count: int) -> list[asyncio.Task[object]]:
    """Each bead asks by itself."""

    async def ask(bead: int) -> object:
        (done,) = await dispatcher.run([("expensive", job(6, bead))])
        return done.result

    return [asyncio.create_task(ask(bead)) for bead in range(count)]


async def test_beads_are_evaluated_together_and_each_gets_its_own(paper: Paper) -> None:
    listener: Listener = paper  # type: ignore[assignment]
    async with Dispatcher(POLICY, [listener]) as dispatcher:
        for name in ("a", "b"):
            paper.say(WorkerJoined(name, "expensive", CARD, f"host:{name}"))
        asking = beads(dispatcher, 8)
        await until(lambda: len(paper.jobs) == 2)
        assert [sent.replicas for _, sent in paper.jobs] == [4, 4]
        assert [name for name, _ in paper.jobs] == ["a", "b"]
        for name, sent in paper.jobs:
            paper.say(ResultReceived(name, evaluate(sent)))
        for bead, result in enumerate(await asyncio.gather(*asking)):
            assert isinstance(result, Result)
            alone = evaluate(job(6, bead))
            np.testing.assert_allclose(result.forces, alone.forces, atol=EXACT)
            assert result.energy == pytest.approx(alone.energy, abs=EXACT)


async def test_only_beads_that_want_the_same_are_evaluated_together(paper: Paper) -> None:
    """With a criterion, a bead in whose region something joins wants site energies, too."""
    listener: Listener = paper  # type: ignore[assignment]
    async with Dispatcher(POLICY, [listener]) as dispatcher:
        paper.say(WorkerJoined("a", "expensive", CARD))
        with dispatcher.batch() as batch:
            for bead in range(5):
                batch.submit(bead, "expensive", job(6, bead, energies=bead in (1, 4)))
            for streams in ([0, 2, 3], [1, 4]):
                await until(lambda: paper.jobs)
                name, sent = paper.jobs.pop()
                assert sent.streams is not None
                assert sent.streams.tolist() == streams
                paper.say(ResultReceived(name, evaluate(sent)))
            for bead, done in (await batch.gather()).items():
                assert (done.result.energies is not None) == (bead in (1, 4))


async def test_only_small_jobs_of_engines_that_can_are_combined(paper: Paper) -> None:
    listener: Listener = paper  # type: ignore[assignment]
    async with Dispatcher(POLICY, [listener]) as dispatcher:
        plain = msgspec.structs.replace(CARD, replicas=False, fingerprint="c")
        paper.say(WorkerJoined("cheap", "cheap", plain))
        for name in ("a", "b", "c"):
            paper.say(WorkerJoined(name, "expensive", CARD))
        with dispatcher.batch() as batch:
            batch.submit("large", "expensive", job(60, 0, weighted=False))
            assert [sent.replicas for _, sent in paper.jobs] == [1]  # at once
            batch.submit("cheap", "cheap", job(5, 1))
            assert [sent.replicas for _, sent in paper.jobs] == [1, 1]
            batch.submit("alone", "expensive", job(5, 2))
            await until(lambda: len(paper.jobs) == 3)
            assert paper.jobs[2][1].replica is None  # nothing to combine it with


async def test_a_combined_job_that_is_at_fault_is_tried_bead_by_bead(paper: Paper) -> None:
    listener: Listener = paper  # type: ignore[assignment]
    async with Dispatcher(POLICY, [listener]) as dispatcher:
        paper.say(WorkerJoined("a", "expensive", CARD))
        asking = beads(dispatcher, 3)
        await until(lambda: paper.jobs)
        name, sent = paper.jobs.pop()
        assert sent.replicas == 3
        paper.say(FailureReceived(name, sent.job, "input", "atoms overlap"))
        for bead in range(3):
            await until(lambda: paper.jobs)
            name, sent = paper.jobs.pop()
            assert sent.replica is None
            assert sent.stream == bead
            if bead == 1:
                paper.say(FailureReceived(name, sent.job, "input", "atoms overlap"))
            else:
                paper.say(ResultReceived(name, evaluate(sent)))
        first, second, third = await asyncio.gather(*asking, return_exceptions=True)
        assert isinstance(first, Result)
        assert isinstance(second, BadInput)
        assert isinstance(third, Result)


async def test_a_lost_worker_costs_a_combined_job_nothing(paper: Paper) -> None:
    listener: Listener = paper  # type: ignore[assignment]
    async with Dispatcher(dataclasses.replace(POLICY, failures=3), [listener]) as dispatcher:
        paper.say(WorkerJoined("a", "expensive", CARD, "host:a"))
        asking = beads(dispatcher, 3)
        await until(lambda: paper.jobs)
        paper.say(WorkerJoined("b", "expensive", CARD, "host:b"))
        paper.say(WorkerLeft("a", "died"))
        await until(lambda: len(paper.jobs) == 2)
        name, sent = paper.jobs[1]
        assert (name, sent.replicas) == ("b", 3)
        paper.say(ResultReceived(name, evaluate(sent)))
        assert all(isinstance(result, Result) for result in await asyncio.gather(*asking))


async def test_a_bead_that_is_cancelled_leaves_the_others(paper: Paper) -> None:
    listener: Listener = paper  # type: ignore[assignment]
    async with Dispatcher(POLICY, [listener]) as dispatcher:
        paper.say(WorkerJoined("a", "expensive", CARD))
        asking = beads(dispatcher, 3)
        await asyncio.sleep(0)
        asking[0].cancel()  # while it waits for others
        await until(lambda: paper.jobs)
        name, sent = paper.jobs[0]
        assert sent.streams is not None
        assert sent.streams.tolist() == [1, 2]
        asking[1].cancel()  # while it is evaluated
        await asyncio.sleep(0)
        paper.say(ResultReceived(name, evaluate(sent)))
        assert isinstance(await asking[2], Result)
        # all cancelled: the worker's job is not wanted any more
        asking = beads(dispatcher, 2)
        await until(lambda: len(paper.jobs) == 2)
        assert [one.doing is not None for one in dispatcher.workers()] == [True]
        for one in asking:
            one.cancel()
        await asyncio.gather(*asking, return_exceptions=True)
        assert [one.doing for one in dispatcher.workers()] == [None]


async def test_beads_that_wait_fail_when_the_dispatcher_closes(paper: Paper) -> None:
    listener: Listener = paper  # type: ignore[assignment]
    async with Dispatcher(POLICY, [listener]) as dispatcher:
        paper.say(WorkerJoined("a", "expensive", CARD))
        asking = beads(dispatcher, 2)
        await until(lambda: paper.jobs)
        waiting = beads(dispatcher, 2)
        await asyncio.sleep(0)
    for one in (*asking, *waiting):
        with pytest.raises(NoWorkerError):
            await one
