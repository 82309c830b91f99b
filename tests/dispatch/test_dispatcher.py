"""The dispatcher, with a listener that records what is sent."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

import msgspec
import numpy as np
import pytest
import structlog
from limits import HANG_S

from mixserver.core.errors import BadInput, ConfigError, NoWorkerError, ResultsDiffer
from mixserver.dispatch.dispatcher import Dispatcher
from mixserver.dispatch.policy import Policy
from mixserver.dispatch.scheduling.events import (
    FailureReceived,
    Listener,
    ResultReceived,
    WorkerAlive,
    WorkerEvent,
    WorkerJoined,
    WorkerLeft,
)
from mixserver.wire.worker import Evaluate, ModelCard, Result


class PaperListener:
    """A listener whose workers are the test; it records the jobs that are sent."""

    def __init__(self, name: str = "paper://1", broken: bool = False) -> None:
        self.address = name
        self.broken = broken
        self.jobs: list[tuple[str, Evaluate]] = []
        self.welcomed: list[str] = []
        self.dropped: dict[str, str] = {}
        self.closed = ""
        self.gone: set[str] = set()
        self.answer_at_once = False
        self._report: Callable[[Listener, WorkerEvent], None] | None = None

    async def open(self, report: Callable[[Listener, WorkerEvent], None]) -> None:
        if self.broken:
            raise ConfigError(f"{self.address} is in use")
        self._report = report

    def welcome(self, worker: str) -> None:
        self.welcomed.append(worker)

    def send(self, worker: str, job: Evaluate) -> None:
        if worker in self.gone:
            self.say(WorkerLeft(worker, "gone"))
            return
        self.jobs.append((worker, job))
        if self.answer_at_once:
            self.say(ResultReceived(worker, answer(job)))

    def drop(self, worker: str, reason: str) -> None:
        self.dropped[worker] = reason

    async def close(self, reason: str) -> None:
        self.closed = reason

    def say(self, event: WorkerEvent) -> None:
        assert self._report is not None
        self._report(self, event)


def answer(job: Evaluate, **changes: object) -> Result:
    fields = {
        "job": job.job,
        "energy": float(job.positions.sum()),
        "forces": -job.positions,
        "virial": np.eye(3),
    }
    return Result(**{**fields, **changes})  # type: ignore[arg-type]


def policy(**changes: object) -> Policy:
    settings = {"roles": {"cheap": "", "expensive": ""}, "patience_s": 5.0, "heartbeat_s": 1.0}
    return Policy(**{**settings, **changes})  # type: ignore[arg-type]


async def soon(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(HANG_S):
        while not condition():  # noqa: ASYNC110 - whatever it waits for has no event
            await asyncio.sleep(0.001)


async def test_results_come_in_the_order_of_the_jobs(question: Evaluate, card: ModelCard) -> None:
    listener = PaperListener()
    async with Dispatcher(policy(), [listener]) as dispatcher:
        listener.say(WorkerJoined("c", "cheap", card))
        listener.say(WorkerJoined("e", "expensive", card))
        asking = asyncio.create_task(
            dispatcher.run([("expensive", question), ("cheap", question), ("cheap", question)])
        )
        await soon(lambda: len(listener.jobs) == 2)
        at = dict(listener.jobs)
        listener.say(ResultReceived("c", answer(at["c"], energy=1.0)))
        await soon(lambda: len(listener.jobs) == 3)
        listener.say(ResultReceived("c", answer(listener.jobs[2][1], energy=2.0)))
        listener.say(ResultReceived("e", answer(at["e"], energy=3.0)))
        replies = await asking
    assert [reply.result.energy for reply in replies] == [3.0, 1.0, 2.0]
    assert [reply.worker for reply in replies] == ["e", "c", "c"]
    assert all(reply.waited_s >= 0.0 and reply.took_s >= 0.0 for reply in replies)
    assert len({job.job for _, job in listener.jobs}) == 3
    assert all(job.positions is question.positions for _, job in listener.jobs), "nothing is copied"


async def test_a_listener_may_report_a_result_within_send(
    question: Evaluate, card: ModelCard
) -> None:
    listener = PaperListener()
    listener.answer_at_once = True
    async with Dispatcher(policy(), [listener]) as dispatcher:
        listener.say(WorkerJoined("c", "cheap", card))
        replies = await dispatcher.run([("cheap", question)] * 20)
    assert len(replies) == 20


async def test_no_jobs_have_no_results() -> None:
    async with Dispatcher(policy(), [PaperListener()]) as dispatcher:
        assert await dispatcher.run([]) == []


@pytest.mark.parametrize(
    "spoil",
    [
        {"forces": np.full((4, 3), np.nan)},
        {"forces": np.zeros((3, 3))},
        {"energy": float("nan")},
        {"virial": np.full((3, 3), np.inf)},
    ],
)
async def test_an_invalid_result_is_the_workers_fault_and_its_job_goes_elsewhere(
    question: Evaluate, card: ModelCard, spoil: dict[str, object]
) -> None:
    listener = PaperListener()
    async with Dispatcher(policy(), [listener]) as dispatcher:
        listener.say(WorkerJoined("bad", "cheap", card))
        listener.say(WorkerJoined("good", "cheap", card))
        asking = asyncio.create_task(dispatcher.run([("cheap", question)]))
        await soon(lambda: listener.jobs)
        assert listener.jobs[0][0] == "bad"
        listener.say(ResultReceived("bad", answer(listener.jobs[0][1], **spoil)))
        await soon(lambda: len(listener.jobs) == 2)
        assert listener.jobs[1][0] == "good"
        listener.say(ResultReceived("good", answer(listener.jobs[1][1])))
        (reply,) = await asking
        assert reply.worker == "good"
        assert "worker bad returned" in listener.dropped["bad"]
        assert [view.name for view in dispatcher.workers()] == ["good"]


async def test_bad_input_is_raised_and_the_other_jobs_are_cancelled(
    question: Evaluate, card: ModelCard
) -> None:
    listener = PaperListener()
    async with Dispatcher(policy(), [listener]) as dispatcher:
        listener.say(WorkerJoined("c", "cheap", card))
        asking = asyncio.create_task(dispatcher.run([("cheap", question), ("cheap", question)]))
        await soon(lambda: listener.jobs)
        listener.say(
            FailureReceived("c", listener.jobs[0][1].job, "input", "atoms on top of each other")
        )
        with pytest.raises(BadInput, match="atoms on top of each other"):
            await asking
        # the second one had been handed out; it is not wanted, but its worker is free after it
        listener.say(ResultReceived("c", answer(listener.jobs[1][1])))
        assert [view.state for view in dispatcher.workers()] == ["idle"]


async def test_cancelling_the_task_cancels_its_jobs(question: Evaluate, card: ModelCard) -> None:
    listener = PaperListener()
    async with Dispatcher(policy(), [listener]) as dispatcher:
        asking = asyncio.create_task(dispatcher.run([("cheap", question)] * 3))
        await asyncio.sleep(0)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        listener.say(WorkerJoined("c", "cheap", card))
        assert listener.jobs == []


async def test_a_worker_that_is_gone_when_its_job_is_sent_loses_it(
    question: Evaluate, card: ModelCard
) -> None:
    listener = PaperListener()
    async with Dispatcher(policy(), [listener]) as dispatcher:
        listener.say(WorkerJoined("a", "cheap", card))
        listener.say(WorkerJoined("b", "cheap", card))
        listener.gone.add("a")
        listener.answer_at_once = True
        (reply,) = await dispatcher.run([("cheap", question)])
    assert reply.worker == "b"


async def test_silence_is_noticed_by_the_clock(question: Evaluate, card: ModelCard) -> None:
    listener = PaperListener()
    patience = policy(patience_s=0.2, heartbeat_s=0.05)
    async with Dispatcher(patience, [listener]) as dispatcher:
        listener.say(WorkerJoined("a", "cheap", card))
        asking = asyncio.create_task(dispatcher.run([("cheap", question)]))
        await soon(lambda: listener.jobs)
        await soon(lambda: dispatcher.workers()[0].state == "silent")
        listener.say(WorkerAlive("a"))
        assert dispatcher.workers()[0].state == "busy"
        listener.say(ResultReceived("a", answer(listener.jobs[0][1])))
        await asking


async def test_stop_raises_when_no_worker_is_left(question: Evaluate, card: ModelCard) -> None:
    listener = PaperListener()
    quick = policy(patience_s=0.1, heartbeat_s=0.05, when_none="stop")
    async with Dispatcher(quick, [listener]) as dispatcher:
        listener.say(WorkerJoined("a", "cheap", card))
        asking = asyncio.create_task(dispatcher.run([("cheap", question)]))
        await soon(lambda: listener.jobs)
        listener.say(WorkerLeft("a", "its connection is gone"))
        with pytest.raises(NoWorkerError, match=r"its connection is gone.*mixserver-worker"):
            await asking


async def test_the_card_of_a_role_waits_for_its_first_worker(card: ModelCard) -> None:
    listener = PaperListener()
    async with Dispatcher(policy(), [listener]) as dispatcher:
        waiting = asyncio.create_task(dispatcher.card("cheap"))
        await asyncio.sleep(0)
        listener.say(WorkerJoined("a", "cheap", card))
        assert await waiting is card
        listener.say(WorkerLeft("a", "gone"))
        assert await dispatcher.card("cheap") is card, "it outlives the worker"


async def test_the_card_under_stop_is_not_waited_for_for_ever() -> None:
    quick = policy(when_none="stop", first_worker_s=0.05)
    async with Dispatcher(quick, [PaperListener()]) as dispatcher:
        with pytest.raises(NoWorkerError, match="--role cheap"):
            await dispatcher.card("cheap")


async def test_a_role_without_a_model_is_an_error(question: Evaluate) -> None:
    async with Dispatcher(policy(roles={"cheap": ""}), [PaperListener()]) as dispatcher:
        with pytest.raises(NoWorkerError, match=r"models\.expensive"):
            await dispatcher.run([("expensive", question)])
        with pytest.raises(NoWorkerError, match=r"models\.expensive"):
            await dispatcher.card("expensive")


async def test_closing_ends_every_wait(question: Evaluate) -> None:
    listener = PaperListener()
    dispatcher = Dispatcher(policy(), [listener])
    await dispatcher.open()
    asking = asyncio.create_task(dispatcher.run([("cheap", question)]))
    waiting = asyncio.create_task(dispatcher.card("cheap"))
    await asyncio.sleep(0)
    await dispatcher.close("enough")
    for task in (asking, waiting):
        with pytest.raises(NoWorkerError, match="enough"):
            await task
    assert listener.closed == "enough"
    with pytest.raises(NoWorkerError, match="enough"):
        await dispatcher.run([("cheap", question)])


async def test_a_listener_that_cannot_open_closes_the_others() -> None:
    good, bad = PaperListener("paper://good"), PaperListener("paper://bad", broken=True)
    with pytest.raises(ConfigError, match="paper://bad"):
        await Dispatcher(policy(), [good, bad]).open()
    assert good.closed


async def test_a_worker_that_does_not_fit_is_rejected_with_the_reason(card: ModelCard) -> None:
    listener = PaperListener()
    async with Dispatcher(policy(roles={"cheap": "bb"}), [listener]) as dispatcher:
        listener.say(WorkerJoined("a", "cheap", card))
        assert "aa" in listener.dropped["a"]
        assert "bb" in listener.dropped["a"]
        assert dispatcher.workers() == []
        assert listener.welcomed == []


async def test_a_worker_cannot_return_a_job_that_it_was_not_assigned(
    question: Evaluate, card: ModelCard
) -> None:
    listener = PaperListener()
    async with Dispatcher(policy(), [listener]) as dispatcher:
        listener.say(WorkerJoined("liar", "cheap", card))
        listener.say(WorkerJoined("honest", "cheap", card))
        for _ in range(20):
            asking = asyncio.create_task(dispatcher.run([("cheap", question)]))
            await soon(lambda: listener.jobs)
            worker, job = listener.jobs.pop()
            listener.say(ResultReceived(worker, answer(job)))
            await asking
            for ahead in (1, 2, 3):  # as if numbers were counted
                guess = msgspec.structs.replace(job, job=job.job + ahead)
                listener.say(ResultReceived("liar", answer(guess, energy=-1e6)))
        asking = asyncio.create_task(dispatcher.run([("cheap", question)]))
        await soon(lambda: listener.jobs)
        worker, job = listener.jobs.pop()
        listener.say(ResultReceived(worker, answer(job)))
        (reply,) = await asking
        assert reply.result.energy == question.positions.sum()
        assert sorted(view.name for view in dispatcher.workers()) == ["honest", "liar"]


async def test_a_pause_of_the_server_is_no_workers_silence(
    question: Evaluate, card: ModelCard
) -> None:
    listener, now = PaperListener(), [0.0]
    async with Dispatcher(policy(failures=1), [listener], clock=lambda: now[0]) as dispatcher:
        listener.say(WorkerJoined("a", "cheap", card))
        asking = asyncio.create_task(dispatcher.run([("cheap", question)]))
        await soon(lambda: listener.jobs)
        for _ in range(3):
            now[0] += 3600.0
            dispatcher.check_deadlines()
            assert [view.state for view in dispatcher.workers()] == ["busy"]
        listener.say(ResultReceived("a", answer(listener.jobs[0][1])))
        assert (await asking)[0].worker == "a"
        for _ in range(7):  # and now it listens
            now[0] += 1.0
            dispatcher.check_deadlines()
        assert [view.state for view in dispatcher.workers()] == ["silent"]


async def test_a_hung_worker_is_reported_with_its_process(
    question: Evaluate, card: ModelCard
) -> None:
    listener, now = PaperListener(), [0.0]
    hung: list[tuple[str, str]] = []
    rules = policy(job_timeout_s=10.0)
    async with Dispatcher(rules, [listener], clock=lambda: now[0]) as dispatcher:
        dispatcher.on_hung = lambda worker, process: hung.append((worker, process))
        listener.say(WorkerJoined("a", "cheap", card, "here:7"))
        asking = asyncio.create_task(dispatcher.run([("cheap", question)]))
        await soon(lambda: listener.jobs)
        for second in range(21):
            assert hung == [], second
            now[0] += 1.0
            listener.say(WorkerAlive("a"))
            dispatcher.check_deadlines()
        assert hung == [("a", "here:7")]
        assert "not done within 20 s" in listener.dropped["a"]
        listener.say(WorkerJoined("b", "cheap", card, "here:8"))
        await soon(lambda: len(listener.jobs) == 2)
        listener.say(ResultReceived("b", answer(listener.jobs[1][1])))
        assert (await asking)[0].worker == "b"


async def test_a_result_whose_energy_is_not_the_sum_of_its_parts_goes_elsewhere(
    question: Evaluate, card: ModelCard
) -> None:
    listener = PaperListener()
    wanted = msgspec.structs.replace(question, energies=True)
    async with Dispatcher(policy(), [listener]) as dispatcher:
        listener.say(WorkerJoined("liar", "cheap", card))
        listener.say(WorkerJoined("good", "cheap", card))
        asking = asyncio.create_task(dispatcher.run([("cheap", wanted)]))
        await soon(lambda: listener.jobs)
        parts = question.positions.sum(axis=1)
        job = listener.jobs[0][1]
        listener.say(
            ResultReceived("liar", answer(job, energy=float(parts.sum()) + 1.0, energies=parts))
        )
        await soon(lambda: len(listener.jobs) == 2)
        listener.say(ResultReceived("good", answer(listener.jobs[1][1], energies=parts)))
        assert (await asking)[0].worker == "good"
        assert "site energies add up to" in listener.dropped["liar"]


@pytest.mark.parametrize("wrong", [False, True])
async def test_every_nth_evaluation_is_repeated_by_another_process(
    question: Evaluate, card: ModelCard, wrong: bool
) -> None:
    listener = PaperListener()
    async with Dispatcher(policy(audit=3), [listener]) as dispatcher:
        for name in ("a", "b"):
            listener.say(WorkerJoined(name, "cheap", card, f"host:{name}"))
        for evaluation in (1, 2, 3, 4, 5, 6):
            asking = asyncio.create_task(dispatcher.run([("cheap", question)] * 2))
            served = 0
            for _ in range(4 if evaluation % 3 == 0 else 2):
                await soon(lambda seen=served: len(listener.jobs) > seen)  # type: ignore[misc]
                worker, job = listener.jobs[served]
                served += 1
                changes = {"energy": 0.5} if wrong and worker == "b" else {}
                listener.say(ResultReceived(worker, answer(job, **changes)))
            if wrong and evaluation == 3:
                with pytest.raises(
                    ResultsDiffer, match=r"cheap workers . and . evaluated"
                ) as error:
                    await asking
                assert {
                    error.value.evidence["first_energy"],
                    error.value.evidence["second_energy"],
                } == {0.5, question.positions.sum()}
                return
            done = await asking
            assert [one.result.energy for one in done] != [], "as without a check"
            assert len(listener.jobs) == served
            listener.jobs.clear()


async def test_a_spot_check_without_a_second_worker_is_left_out_and_said_once(
    question: Evaluate, card: ModelCard
) -> None:
    listener = PaperListener()
    listener.answer_at_once = True
    with structlog.testing.capture_logs() as logs:
        structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.INFO))
        async with Dispatcher(policy(audit=1), [listener]) as dispatcher:
            listener.say(WorkerJoined("a", "cheap", card, "host:1"))
            for _ in range(3):
                (done,) = await dispatcher.run([("cheap", question)])
                assert done.worker == "a"
    assert [line["only"] for line in logs if "no spot check" in line["event"]] == ["a"]


async def test_a_cancelled_evaluation_cancels_its_spot_check(
    question: Evaluate, card: ModelCard
) -> None:
    listener = PaperListener()
    async with Dispatcher(policy(audit=1), [listener]) as dispatcher:
        for name in ("a", "b"):
            listener.say(WorkerJoined(name, "cheap", card, f"host:{name}"))
        asking = asyncio.create_task(dispatcher.run([("cheap", question)]))
        await soon(lambda: listener.jobs)
        listener.say(ResultReceived(listener.jobs[0][0], answer(listener.jobs[0][1])))
        await soon(lambda: len(listener.jobs) == 2)
        assert [one.doing is None for one in dispatcher.workers()].count(False) == 1
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)
        assert all(one.doing is None for one in dispatcher.workers())


@pytest.mark.parametrize("both", [False, True])
async def test_forces_beyond_reason_are_the_workers_fault_unless_a_second_one_has_them_too(
    question: Evaluate, card: ModelCard, both: bool
) -> None:
    listener = PaperListener()
    async with Dispatcher(policy(failures=1), [listener]) as dispatcher:
        for name in ("a", "b"):
            listener.say(WorkerJoined(name, "cheap", card, f"host:{name}"))
        asking = asyncio.create_task(dispatcher.run([("cheap", question)]))
        for at in (0, 1):
            await soon(lambda at=at: len(listener.jobs) > at)  # type: ignore[misc]
            worker, job = listener.jobs[at]
            forces = np.full((4, 3), 1e300 if both or at == 0 else 1.0)
            listener.say(ResultReceived(worker, answer(job, forces=forces)))
        (done,) = await asking
        assert done.worker == listener.jobs[1][0]
        if both:  # the model has such forces; limits on the mixed ones decide what becomes of them
            assert done.result.forces[0, 0] == 1e300
            assert listener.dropped == {}
        else:
            assert list(listener.dropped) == [listener.jobs[0][0]]
