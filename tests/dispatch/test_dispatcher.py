"""The shell around the board, with a door that is a list."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import msgspec
import numpy as np
import pytest
from limits import HANG_S

from mixserver.dispatch.dispatcher import Dispatcher
from mixserver.dispatch.events import Answered, Door, Event, Failed, Heard, Joined, Left
from mixserver.dispatch.policy import Policy
from mixserver.errors import BadInput, ConfigError, NoWorkerError
from mixserver.wire.worker import Evaluate, ModelCard, Result


class PaperDoor:
    """A door whose workers are the test: what is handed out through it is written down."""

    def __init__(self, name: str = "paper://1", broken: bool = False) -> None:
        self.address = name
        self.broken = broken
        self.jobs: list[tuple[str, Evaluate]] = []
        self.welcomed: list[str] = []
        self.dropped: dict[str, str] = {}
        self.closed = ""
        self.gone: set[str] = set()
        self.answer_at_once = False
        self._report: Callable[[Door, Event], None] | None = None

    async def open(self, report: Callable[[Door, Event], None]) -> None:
        if self.broken:
            raise ConfigError(f"{self.address} is in use")
        self._report = report

    def welcome(self, worker: str) -> None:
        self.welcomed.append(worker)

    def send(self, worker: str, job: Evaluate) -> None:
        if worker in self.gone:
            self.say(Left(worker, "gone"))
            return
        self.jobs.append((worker, job))
        if self.answer_at_once:
            self.say(Answered(worker, answer(job)))

    def drop(self, worker: str, reason: str) -> None:
        self.dropped[worker] = reason

    async def close(self, reason: str) -> None:
        self.closed = reason

    def say(self, event: Event) -> None:
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


async def test_replies_come_in_the_order_of_the_questions(
    question: Evaluate, card: ModelCard
) -> None:
    door = PaperDoor()
    async with Dispatcher(policy(), [door]) as dispatcher:
        door.say(Joined("c", "cheap", card))
        door.say(Joined("e", "expensive", card))
        asking = asyncio.create_task(
            dispatcher.run([("expensive", question), ("cheap", question), ("cheap", question)])
        )
        await soon(lambda: len(door.jobs) == 2)
        at = dict(door.jobs)
        door.say(Answered("c", answer(at["c"], energy=1.0)))
        await soon(lambda: len(door.jobs) == 3)
        door.say(Answered("c", answer(door.jobs[2][1], energy=2.0)))
        door.say(Answered("e", answer(at["e"], energy=3.0)))
        replies = await asking
    assert [reply.result.energy for reply in replies] == [3.0, 1.0, 2.0]
    assert [reply.worker for reply in replies] == ["e", "c", "c"]
    assert all(reply.waited_s >= 0.0 and reply.took_s >= 0.0 for reply in replies)
    assert len({job.job for _, job in door.jobs}) == 3
    assert all(job.positions is question.positions for _, job in door.jobs), "nothing is copied"


async def test_a_door_may_answer_while_it_is_being_asked(
    question: Evaluate, card: ModelCard
) -> None:
    door = PaperDoor()
    door.answer_at_once = True
    async with Dispatcher(policy(), [door]) as dispatcher:
        door.say(Joined("c", "cheap", card))
        replies = await dispatcher.run([("cheap", question)] * 20)
    assert len(replies) == 20


async def test_no_questions_have_no_replies() -> None:
    async with Dispatcher(policy(), [PaperDoor()]) as dispatcher:
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
async def test_a_wrong_result_is_the_workers_fault_and_goes_elsewhere(
    question: Evaluate, card: ModelCard, spoil: dict[str, object]
) -> None:
    door = PaperDoor()
    async with Dispatcher(policy(), [door]) as dispatcher:
        door.say(Joined("bad", "cheap", card))
        door.say(Joined("good", "cheap", card))
        asking = asyncio.create_task(dispatcher.run([("cheap", question)]))
        await soon(lambda: door.jobs)
        assert door.jobs[0][0] == "bad"
        door.say(Answered("bad", answer(door.jobs[0][1], **spoil)))
        await soon(lambda: len(door.jobs) == 2)
        assert door.jobs[1][0] == "good"
        door.say(Answered("good", answer(door.jobs[1][1])))
        (reply,) = await asking
        assert reply.worker == "good"
        assert "worker bad returned" in door.dropped["bad"]
        assert [view.name for view in dispatcher.workers()] == ["good"]


async def test_bad_input_is_raised_and_the_other_questions_are_withdrawn(
    question: Evaluate, card: ModelCard
) -> None:
    door = PaperDoor()
    async with Dispatcher(policy(), [door]) as dispatcher:
        door.say(Joined("c", "cheap", card))
        asking = asyncio.create_task(dispatcher.run([("cheap", question), ("cheap", question)]))
        await soon(lambda: door.jobs)
        door.say(Failed("c", door.jobs[0][1].job, "input", "atoms on top of each other"))
        with pytest.raises(BadInput, match="atoms on top of each other"):
            await asking
        # the second one had been handed out; it is not wanted, but its worker is free after it
        door.say(Answered("c", answer(door.jobs[1][1])))
        assert [view.state for view in dispatcher.workers()] == ["idle"]


async def test_cancelling_withdraws(question: Evaluate, card: ModelCard) -> None:
    door = PaperDoor()
    async with Dispatcher(policy(), [door]) as dispatcher:
        asking = asyncio.create_task(dispatcher.run([("cheap", question)] * 3))
        await asyncio.sleep(0)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        door.say(Joined("c", "cheap", card))
        assert door.jobs == []


async def test_a_worker_that_is_gone_when_asked_loses_the_job(
    question: Evaluate, card: ModelCard
) -> None:
    door = PaperDoor()
    async with Dispatcher(policy(), [door]) as dispatcher:
        door.say(Joined("a", "cheap", card))
        door.say(Joined("b", "cheap", card))
        door.gone.add("a")
        door.answer_at_once = True
        (reply,) = await dispatcher.run([("cheap", question)])
    assert reply.worker == "b"


async def test_silence_is_noticed_by_the_clock(question: Evaluate, card: ModelCard) -> None:
    door = PaperDoor()
    patience = policy(patience_s=0.2, heartbeat_s=0.05)
    async with Dispatcher(patience, [door]) as dispatcher:
        door.say(Joined("a", "cheap", card))
        asking = asyncio.create_task(dispatcher.run([("cheap", question)]))
        await soon(lambda: door.jobs)
        await soon(lambda: dispatcher.workers()[0].state == "silent")
        door.say(Heard("a"))
        assert dispatcher.workers()[0].state == "busy"
        door.say(Answered("a", answer(door.jobs[0][1])))
        await asking


async def test_stop_raises_when_nobody_is_left(question: Evaluate, card: ModelCard) -> None:
    door = PaperDoor()
    quick = policy(patience_s=0.1, heartbeat_s=0.05, when_none="stop")
    async with Dispatcher(quick, [door]) as dispatcher:
        door.say(Joined("a", "cheap", card))
        asking = asyncio.create_task(dispatcher.run([("cheap", question)]))
        await soon(lambda: door.jobs)
        door.say(Left("a", "its connection is gone"))
        with pytest.raises(NoWorkerError, match=r"its connection is gone.*mixserver-worker"):
            await asking


async def test_the_card_of_a_role_waits_for_its_first_worker(card: ModelCard) -> None:
    door = PaperDoor()
    async with Dispatcher(policy(), [door]) as dispatcher:
        waiting = asyncio.create_task(dispatcher.card("cheap"))
        await asyncio.sleep(0)
        door.say(Joined("a", "cheap", card))
        assert await waiting is card
        door.say(Left("a", "gone"))
        assert await dispatcher.card("cheap") is card, "it outlives the worker"


async def test_the_card_under_stop_is_not_waited_for_for_ever() -> None:
    quick = policy(when_none="stop", first_worker_s=0.05)
    async with Dispatcher(quick, [PaperDoor()]) as dispatcher:
        with pytest.raises(NoWorkerError, match="--role cheap"):
            await dispatcher.card("cheap")


async def test_a_role_without_a_model_is_nobodys(question: Evaluate) -> None:
    async with Dispatcher(policy(roles={"cheap": ""}), [PaperDoor()]) as dispatcher:
        with pytest.raises(NoWorkerError, match=r"models\.expensive"):
            await dispatcher.run([("expensive", question)])
        with pytest.raises(NoWorkerError, match=r"models\.expensive"):
            await dispatcher.card("expensive")


async def test_closing_ends_every_wait(question: Evaluate) -> None:
    door = PaperDoor()
    dispatcher = Dispatcher(policy(), [door])
    await dispatcher.open()
    asking = asyncio.create_task(dispatcher.run([("cheap", question)]))
    waiting = asyncio.create_task(dispatcher.card("cheap"))
    await asyncio.sleep(0)
    await dispatcher.close("enough")
    for task in (asking, waiting):
        with pytest.raises(NoWorkerError, match="enough"):
            await task
    assert door.closed == "enough"
    with pytest.raises(NoWorkerError, match="enough"):
        await dispatcher.run([("cheap", question)])


async def test_a_door_that_cannot_open_closes_the_others() -> None:
    good, bad = PaperDoor("paper://good"), PaperDoor("paper://bad", broken=True)
    with pytest.raises(ConfigError, match="paper://bad"):
        await Dispatcher(policy(), [good, bad]).open()
    assert good.closed


async def test_a_worker_that_does_not_fit_is_told_why(card: ModelCard) -> None:
    door = PaperDoor()
    async with Dispatcher(policy(roles={"cheap": "bb"}), [door]) as dispatcher:
        door.say(Joined("a", "cheap", card))
        assert "aa" in door.dropped["a"]
        assert "bb" in door.dropped["a"]
        assert dispatcher.workers() == []
        assert door.welcomed == []


async def test_nobody_can_answer_ahead_what_it_was_not_asked(
    question: Evaluate, card: ModelCard
) -> None:
    door = PaperDoor()
    async with Dispatcher(policy(), [door]) as dispatcher:
        door.say(Joined("liar", "cheap", card))
        door.say(Joined("honest", "cheap", card))
        for _ in range(20):
            asking = asyncio.create_task(dispatcher.run([("cheap", question)]))
            await soon(lambda: door.jobs)
            worker, job = door.jobs.pop()
            door.say(Answered(worker, answer(job)))
            await asking
            for ahead in (1, 2, 3):  # as if numbers were counted
                guess = msgspec.structs.replace(job, job=job.job + ahead)
                door.say(Answered("liar", answer(guess, energy=-1e6)))
        asking = asyncio.create_task(dispatcher.run([("cheap", question)]))
        await soon(lambda: door.jobs)
        worker, job = door.jobs.pop()
        door.say(Answered(worker, answer(job)))
        (reply,) = await asking
        assert reply.result.energy == question.positions.sum()
        assert sorted(view.name for view in dispatcher.workers()) == ["honest", "liar"]


async def test_time_in_which_the_server_stood_still_is_nobodys_silence(
    question: Evaluate, card: ModelCard
) -> None:
    door, now = PaperDoor(), [0.0]
    async with Dispatcher(policy(failures=1), [door], clock=lambda: now[0]) as dispatcher:
        door.say(Joined("a", "cheap", card))
        asking = asyncio.create_task(dispatcher.run([("cheap", question)]))
        await soon(lambda: door.jobs)
        for _ in range(3):
            now[0] += 3600.0
            dispatcher.look_round()
            assert [view.state for view in dispatcher.workers()] == ["busy"]
        door.say(Answered("a", answer(door.jobs[0][1])))
        assert (await asking)[0].worker == "a"
        for _ in range(7):  # and now it listens
            now[0] += 1.0
            dispatcher.look_round()
        assert [view.state for view in dispatcher.workers()] == ["silent"]


async def test_a_worker_that_hangs_is_named_to_whoever_can_kill_it(
    question: Evaluate, card: ModelCard
) -> None:
    door, now = PaperDoor(), [0.0]
    hung: list[tuple[str, str]] = []
    rules = policy(job_timeout_s=10.0)
    async with Dispatcher(rules, [door], clock=lambda: now[0]) as dispatcher:
        dispatcher.on_hung = lambda worker, process: hung.append((worker, process))
        door.say(Joined("a", "cheap", card, "here:7"))
        asking = asyncio.create_task(dispatcher.run([("cheap", question)]))
        await soon(lambda: door.jobs)
        for second in range(21):
            assert hung == [], second
            now[0] += 1.0
            door.say(Heard("a"))
            dispatcher.look_round()
        assert hung == [("a", "here:7")]
        assert "not done within 20 s" in door.dropped["a"]
        door.say(Joined("b", "cheap", card, "here:8"))
        await soon(lambda: len(door.jobs) == 2)
        door.say(Answered("b", answer(door.jobs[1][1])))
        assert (await asking)[0].worker == "b"


async def test_a_result_whose_energy_is_not_the_sum_of_its_parts_goes_elsewhere(
    question: Evaluate, card: ModelCard
) -> None:
    door = PaperDoor()
    wanted = msgspec.structs.replace(question, energies=True)
    async with Dispatcher(policy(), [door]) as dispatcher:
        door.say(Joined("liar", "cheap", card))
        door.say(Joined("good", "cheap", card))
        asking = asyncio.create_task(dispatcher.run([("cheap", wanted)]))
        await soon(lambda: door.jobs)
        parts = question.positions.sum(axis=1)
        job = door.jobs[0][1]
        door.say(Answered("liar", answer(job, energy=float(parts.sum()) + 1.0, energies=parts)))
        await soon(lambda: len(door.jobs) == 2)
        door.say(Answered("good", answer(door.jobs[1][1], energies=parts)))
        assert (await asking)[0].worker == "good"
        assert "site energies add up to" in door.dropped["liar"]
