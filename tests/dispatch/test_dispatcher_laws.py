"""The dispatcher's laws on random histories, with workers that die unnoticed.

As with the real listener, a death is noticed when something is sent: while the actions of the
scheduler are carried out, perhaps those of another death.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

import hypothesis.strategies as st
import numpy as np
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from mixserver.core.errors import BadInput
from mixserver.dispatch.batch import JobResult
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

CARD = ModelCard(engine="toy", name="toy", fingerprint="aa")
NAMES = ("a", "b", "c", "d", "e")
MANY = 10**9


@dataclass
class Worker:
    """One process, as it really is."""

    process: str
    alive: bool = True
    mute: bool = False
    """It lives and is heard, but its engine hangs."""
    job: Evaluate | None = None
    knows: bool = True
    """Whether it is a member; otherwise it will say Hello."""
    away_s: float = 0.0
    """How long it has not been."""


class FragileListener:
    """Notices deaths as the real listener does: by sending."""

    def __init__(self) -> None:
        self.address = "fragile://"
        self.workers: dict[str, Worker] = {}
        self.peers: dict[str, Worker] = {}
        self.handed: dict[int, list[str]] = {}
        """Job to the processes that really got it."""
        self._joining: Worker | None = None
        self._report: Callable[[Listener, WorkerEvent], None] | None = None

    async def open(self, report: Callable[[Listener, WorkerEvent], None]) -> None:
        self._report = report

    def welcome(self, worker: str) -> None:
        if self._joining is not None:
            self.peers[worker] = self._joining
        self._reach(worker, unsent=False)

    def send(self, worker: str, job: Evaluate) -> None:
        if self._reach(worker, unsent=True):
            there = self.peers[worker]
            there.job = job
            self.handed.setdefault(job.job, []).append(there.process)

    def drop(self, worker: str, reason: str) -> None:
        if self._joining is None:
            self.peers.pop(worker, None)

    async def close(self, reason: str) -> None:
        self.peers.clear()

    def beat(self) -> None:
        for worker, peer in list(self.peers.items()):
            if self.peers.get(worker) is peer:
                self._reach(worker, unsent=False)

    def join(self, name: str, worker: Worker, job: int | None) -> None:
        self._joining = worker
        self.say(WorkerJoined(name, "cheap", CARD, worker.process, job))
        self._joining = None

    def say(self, event: WorkerEvent) -> None:
        assert self._report is not None
        self._report(self, event)

    def _reach(self, worker: str, *, unsent: bool) -> bool:
        peer = self.peers.get(worker)
        if peer is not None and peer.alive and peer.knows:
            return True
        self.peers.pop(worker, None)
        self.say(WorkerLeft(worker, "its connection is gone", unsent=unsent))
        return False


@dataclass
class Asked:
    """A question and what became of it."""

    seed: float
    task: asyncio.Task[list[JobResult]]
    number: int = 0


@dataclass
class Truth:
    """What really happened, for the laws."""

    crashed: set[str] = field(default_factory=set)
    """Processes that are dead, or hung."""
    said: int = 0
    """Failures that workers reported of themselves."""


class DispatcherMachine(RuleBasedStateMachine):
    """Workers die, come back, reconnect and hang; the server itself stands still."""

    @initialize(failures=st.sampled_from([1, 3, MANY]))
    def start(self, failures: int) -> None:
        self.now = 0.0
        self.failures = failures
        self.listener = FragileListener()
        self.policy = Policy(
            roles={"cheap": ""}, patience_s=5.0, heartbeat_s=1.0, failures=failures
        )
        self.loop = asyncio.new_event_loop()
        self.problems: list[object] = []
        self.loop.set_exception_handler(lambda _, about: self.problems.append(about))
        self.dispatcher = Dispatcher(self.policy, [self.listener], clock=lambda: self.now)
        self.loop.run_until_complete(self.dispatcher.open())
        self.asked: list[Asked] = []
        self.truth = Truth()
        self.processes = 0

    def turn(self) -> None:
        for _ in range(3):
            self.loop.run_until_complete(asyncio.sleep(0))

    def living(self, *, member: bool = True) -> list[str]:
        return [
            name
            for name, worker in self.listener.workers.items()
            if worker.alive and worker.knows is member
        ]

    def busy(self) -> list[str]:
        return [
            name
            for name in self.living()
            if self.listener.workers[name].job is not None and not self.listener.workers[name].mute
        ]

    @rule()
    def ask(self) -> None:
        seed = float(len(self.asked) + 1)
        question = Evaluate(
            job=0,
            stream=0,
            positions=np.full((1, 3), seed),
            numbers=np.ones(1, np.int32),
            cell=np.eye(3),
            pbc=(True, True, True),
        )
        task = self.loop.create_task(self.dispatcher.run([("cheap", question)]))
        self.asked.append(Asked(seed, task))
        self.turn()

    @rule(name=st.sampled_from(NAMES))
    def a_process_starts(self, name: str) -> None:
        there = self.listener.workers.get(name)
        if there is not None and there.alive:
            return
        self.processes += 1
        worker = Worker(f"host-{self.processes % 3}:{self.processes}")
        if name in self.listener.peers:  # the listener looks whether its owner is still connected
            self.listener._reach(name, unsent=False)
        self.listener.workers[name] = worker
        self.listener.join(name, worker, None)
        assert self.listener.peers.get(name) is worker, "a name whose owner is dead is free"
        self.turn()

    @precondition(lambda self: self.living())
    @rule(data=st.data(), noticed=st.booleans(), keeps=st.booleans())
    def a_connection_breaks(self, data: st.DataObject, noticed: bool, keeps: bool) -> None:
        name = data.draw(st.sampled_from(self.living()))
        worker = self.listener.workers[name]
        if noticed:
            worker.knows = False
            self.listener.beat()
        self.rejoin(name, keeps=keeps)

    @precondition(lambda self: self.living())
    @rule(data=st.data())
    def a_connection_breaks_for_a_while(self, data: st.DataObject) -> None:
        self.listener.workers[data.draw(st.sampled_from(self.living()))].knows = False

    @precondition(lambda self: self.living(member=False))
    @rule(data=st.data(), keeps=st.booleans())
    def it_is_back(self, data: st.DataObject, keeps: bool) -> None:
        self.rejoin(data.draw(st.sampled_from(self.living(member=False))), keeps=keeps)

    def rejoin(self, name: str, *, keeps: bool) -> None:
        worker = self.listener.workers[name]
        worker.knows, worker.away_s = True, 0
        if not keeps and not worker.mute:
            worker.job = None
        self.listener.join(name, worker, None if worker.job is None else worker.job.job)
        self.turn()

    @precondition(lambda self: self.living())
    @rule(data=st.data(), beat=st.booleans())
    def some_die_at_once(self, data: st.DataObject, beat: bool) -> None:
        for name in data.draw(st.sets(st.sampled_from(self.living()), min_size=1)):
            self.die(name)
        if beat:
            self.listener.beat()
            self.turn()

    @precondition(lambda self: self.living())
    @rule()
    def all_are_dead_when_a_question_comes(self) -> None:
        for name in self.living():
            self.die(name)
        self.ask()
        self.time_passes(8)

    def die(self, name: str) -> None:
        worker = self.listener.workers.pop(name)
        worker.alive = False
        self.truth.crashed.add(worker.process)

    @rule()
    def the_heart_beats(self) -> None:
        self.listener.beat()
        self.turn()

    @precondition(lambda self: self.living())
    @rule(data=st.data())
    def one_leaves_in_order(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(self.living()))
        self.listener.workers.pop(name)
        self.listener.peers.pop(name)
        self.listener.say(WorkerLeft(name, "SIGTERM", orderly=True))
        self.turn()

    @precondition(lambda self: self.living())
    @rule(data=st.data())
    def an_engine_hangs(self, data: st.DataObject) -> None:
        worker = self.listener.workers[data.draw(st.sampled_from(self.living()))]
        worker.mute = True
        self.truth.crashed.add(worker.process)

    @precondition(lambda self: self.busy())
    @rule(data=st.data())
    def one_answers(self, data: st.DataObject) -> None:
        self.answer(data.draw(st.sampled_from(self.busy())))

    def answer(self, name: str) -> None:
        worker = self.listener.workers[name]
        job, worker.job = worker.job, None
        assert job is not None
        result = Result(
            job=job.job,
            energy=float(job.positions[0, 0]),
            forces=np.zeros((1, 3)),
            virial=np.zeros((3, 3)),
        )
        self.listener.say(ResultReceived(name, result))
        self.turn()

    @precondition(lambda self: self.busy())
    @rule(data=st.data())
    def one_breaks_over_its_job(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(self.busy()))
        worker = self.listener.workers.pop(name)
        assert worker.job is not None
        worker.alive = False
        self.truth.crashed.add(worker.process)
        self.listener.say(FailureReceived(name, worker.job.job, "worker", "out of memory"))
        self.turn()

    @rule(seconds=st.integers(1, 8))
    def time_passes(self, seconds: int) -> None:
        for _ in range(round(seconds / self.policy.tick_s)):
            self.now += self.policy.tick_s
            for name in self.living():
                self.listener.say(WorkerAlive(name))
            self.stay_away_for_a_tick()
            self.dispatcher.check_deadlines()
        self.turn()

    def stay_away_for_a_tick(self) -> None:
        for name in self.living(member=False):
            worker = self.listener.workers[name]
            worker.away_s += self.policy.tick_s
            if worker.away_s >= self.policy.patience_s:  # as good as dead
                self.truth.crashed.add(worker.process)

    @rule(seconds=st.sampled_from([3.0, 20.0, 2000.0]), heard_first=st.booleans())
    def the_server_stands_still(self, seconds: float, heard_first: bool) -> None:
        self.time_passes(1)
        before = {view.name for view in self.dispatcher.workers() if view.state == "silent"}
        self.now += seconds
        self.stay_away_for_a_tick()  # after which the server was due; the rest is its pause
        for _ in range(2):
            if heard_first:
                for name in self.living():
                    self.listener.say(WorkerAlive(name))
            self.dispatcher.check_deadlines()
            heard_first = not heard_first
        silent = {view.name for view in self.dispatcher.workers() if view.state == "silent"}
        assert silent & set(self.living()) <= before, (
            "a pause of the server is held against a worker"
        )
        self.turn()

    @invariant()
    def answers_are_right_and_only_crashes_are_blamed(self) -> None:
        if not hasattr(self, "asked"):
            return
        assert self.problems == []
        for asked in self.asked:
            if not asked.task.done():
                continue
            error = asked.task.exception()
            if error is None:
                assert asked.task.result()[0].result.energy == asked.seed
                continue
            assert isinstance(error, BadInput)
            number = next(n for n in self.listener.handed if str(n) in str(error))
            over_it = set(self.listener.handed[number]) & self.truth.crashed
            assert len(over_it) >= self.failures, f"blamed by {over_it}: {error}"

    def teardown(self) -> None:
        """However it went: as long as one healthy worker remains, every job is answered."""
        if not hasattr(self, "loop"):
            return
        try:
            for name in list(self.listener.workers):
                self.die(name)
            blamed = {a.seed for a in self.asked if a.task.done()}
            # whole nodes die at once, while one lives that has had no job yet
            good = Worker("good:1")
            self.listener.workers["good"] = good
            self.listener.join("good", good, None)
            self.listener.beat()
            self.time_passes(8)
            for _ in range(2 * len(self.asked) + 2):
                if good.job is not None:
                    self.answer("good")
            self.answers_are_right_and_only_crashes_are_blamed()
            for asked in self.asked:
                assert asked.task.done(), f"question {asked.seed} was lost"
                if self.failures == MANY and asked.seed not in blamed:
                    assert asked.task.exception() is None
        finally:
            self.loop.run_until_complete(self.dispatcher.close("the test ends"))
            self.turn()
            for asked in self.asked:
                if asked.task.done():
                    asked.task.exception()
            self.loop.close()


DispatcherMachine.TestCase.settings = settings(
    max_examples=80, stateful_step_count=30, deadline=None
)
test_every_job_is_evaluated_while_one_worker_lives = DispatcherMachine.TestCase
