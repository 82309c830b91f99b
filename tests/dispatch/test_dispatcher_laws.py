"""The dispatcher's laws on random histories, with a door whose workers die unnoticed.

As at the real door, a death is noticed when something is sent: in the middle of carrying out what
the board decided, and perhaps of another death.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

import hypothesis.strategies as st
import numpy as np
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from mixserver.dispatch.batch import Reply
from mixserver.dispatch.dispatcher import Dispatcher
from mixserver.dispatch.events import Answered, Door, Event, Failed, Heard, Joined, Left
from mixserver.dispatch.policy import Policy
from mixserver.errors import BadInput
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
    away_s: int = 0
    """How long it has not been."""


class FragileDoor:
    """Notices deaths as the real door does: by sending."""

    def __init__(self) -> None:
        self.address = "fragile://"
        self.workers: dict[str, Worker] = {}
        self.peers: dict[str, Worker] = {}
        self.handed: dict[int, list[str]] = {}
        """Job to the processes that really got it."""
        self._joining: Worker | None = None
        self._report: Callable[[Door, Event], None] | None = None

    async def open(self, report: Callable[[Door, Event], None]) -> None:
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
        self.say(Joined(name, "cheap", CARD, worker.process, job))
        self._joining = None

    def say(self, event: Event) -> None:
        assert self._report is not None
        self._report(self, event)

    def _reach(self, worker: str, *, unsent: bool) -> bool:
        peer = self.peers.get(worker)
        if peer is not None and peer.alive and peer.knows:
            return True
        self.peers.pop(worker, None)
        self.say(Left(worker, "its connection is gone", unsent=unsent))
        return False


@dataclass
class Asked:
    """A question and what became of it."""

    seed: float
    task: asyncio.Task[list[Reply]]
    number: int = 0


@dataclass
class Truth:
    """What really happened, for the laws."""

    crashed: set[str] = field(default_factory=set)
    """Processes that are dead, or hung."""
    said: int = 0
    """Failures that workers told of themselves."""


class DispatcherMachine(RuleBasedStateMachine):
    """Workers die, come back, reconnect and hang; the server itself stands still."""

    @initialize(failures=st.sampled_from([1, 3, MANY]))
    def start(self, failures: int) -> None:
        self.now = 0.0
        self.failures = failures
        self.door = FragileDoor()
        self.policy = Policy(
            roles={"cheap": ""}, patience_s=5.0, heartbeat_s=1.0, failures=failures
        )
        self.loop = asyncio.new_event_loop()
        self.problems: list[object] = []
        self.loop.set_exception_handler(lambda _, about: self.problems.append(about))
        self.dispatcher = Dispatcher(self.policy, [self.door], clock=lambda: self.now)
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
            for name, worker in self.door.workers.items()
            if worker.alive and worker.knows is member
        ]

    def busy(self) -> list[str]:
        return [
            name
            for name in self.living()
            if self.door.workers[name].job is not None and not self.door.workers[name].mute
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
        there = self.door.workers.get(name)
        if there is not None and there.alive:
            return
        self.processes += 1
        worker = Worker(f"host-{self.processes % 3}:{self.processes}")
        if name in self.door.peers:  # the door looks whether its owner is still connected
            self.door._reach(name, unsent=False)
        self.door.workers[name] = worker
        self.door.join(name, worker, None)
        assert self.door.peers.get(name) is worker, "a name whose owner is dead is free"
        self.turn()

    @precondition(lambda self: self.living())
    @rule(data=st.data(), noticed=st.booleans(), keeps=st.booleans())
    def a_connection_breaks(self, data: st.DataObject, noticed: bool, keeps: bool) -> None:
        name = data.draw(st.sampled_from(self.living()))
        worker = self.door.workers[name]
        if noticed:
            worker.knows = False
            self.door.beat()
        self.rejoin(name, keeps=keeps)

    @precondition(lambda self: self.living())
    @rule(data=st.data())
    def a_connection_breaks_for_a_while(self, data: st.DataObject) -> None:
        self.door.workers[data.draw(st.sampled_from(self.living()))].knows = False

    @precondition(lambda self: self.living(member=False))
    @rule(data=st.data(), keeps=st.booleans())
    def it_is_back(self, data: st.DataObject, keeps: bool) -> None:
        self.rejoin(data.draw(st.sampled_from(self.living(member=False))), keeps=keeps)

    def rejoin(self, name: str, *, keeps: bool) -> None:
        worker = self.door.workers[name]
        worker.knows, worker.away_s = True, 0
        if not keeps and not worker.mute:
            worker.job = None
        self.door.join(name, worker, None if worker.job is None else worker.job.job)
        self.turn()

    @precondition(lambda self: self.living())
    @rule(data=st.data(), beat=st.booleans())
    def some_die_at_once(self, data: st.DataObject, beat: bool) -> None:
        for name in data.draw(st.sets(st.sampled_from(self.living()), min_size=1)):
            self.die(name)
        if beat:
            self.door.beat()
            self.turn()

    @precondition(lambda self: self.living())
    @rule()
    def all_are_dead_when_a_question_comes(self) -> None:
        for name in self.living():
            self.die(name)
        self.ask()
        self.time_passes(8)

    def die(self, name: str) -> None:
        worker = self.door.workers.pop(name)
        worker.alive = False
        self.truth.crashed.add(worker.process)

    @rule()
    def the_heart_beats(self) -> None:
        self.door.beat()
        self.turn()

    @precondition(lambda self: self.living())
    @rule(data=st.data())
    def one_leaves_in_order(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(self.living()))
        self.door.workers.pop(name)
        self.door.peers.pop(name)
        self.door.say(Left(name, "SIGTERM", orderly=True))
        self.turn()

    @precondition(lambda self: self.living())
    @rule(data=st.data())
    def an_engine_hangs(self, data: st.DataObject) -> None:
        worker = self.door.workers[data.draw(st.sampled_from(self.living()))]
        worker.mute = True
        self.truth.crashed.add(worker.process)

    @precondition(lambda self: self.busy())
    @rule(data=st.data())
    def one_answers(self, data: st.DataObject) -> None:
        self.answer(data.draw(st.sampled_from(self.busy())))

    def answer(self, name: str) -> None:
        worker = self.door.workers[name]
        job, worker.job = worker.job, None
        assert job is not None
        result = Result(
            job=job.job,
            energy=float(job.positions[0, 0]),
            forces=np.zeros((1, 3)),
            virial=np.zeros((3, 3)),
        )
        self.door.say(Answered(name, result))
        self.turn()

    @precondition(lambda self: self.busy())
    @rule(data=st.data())
    def one_breaks_over_its_job(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(self.busy()))
        worker = self.door.workers.pop(name)
        assert worker.job is not None
        worker.alive = False
        self.truth.crashed.add(worker.process)
        self.door.say(Failed(name, worker.job.job, "worker", "out of memory"))
        self.turn()

    @rule(seconds=st.integers(1, 8))
    def time_passes(self, seconds: int) -> None:
        for _ in range(seconds):
            self.now += self.policy.tick_s
            for name in self.living():
                self.door.say(Heard(name))
            for name in self.living(member=False):
                worker = self.door.workers[name]
                worker.away_s += 1
                if worker.away_s >= self.policy.patience_s:  # as good as dead
                    self.truth.crashed.add(worker.process)
            self.dispatcher.look_round()
        self.turn()

    @rule(seconds=st.sampled_from([3.0, 20.0, 2000.0]), heard_first=st.booleans())
    def the_server_stands_still(self, seconds: float, heard_first: bool) -> None:
        self.time_passes(1)
        before = {view.name for view in self.dispatcher.workers() if view.state == "silent"}
        self.now += seconds
        for _ in range(2):
            if heard_first:
                for name in self.living():
                    self.door.say(Heard(name))
            self.dispatcher.look_round()
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
            number = next(n for n in self.door.handed if str(n) in str(error))
            over_it = set(self.door.handed[number]) & self.truth.crashed
            assert len(over_it) >= self.failures, f"blamed by {over_it}: {error}"

    def teardown(self) -> None:
        """However it went: as long as one healthy worker remains, every job is answered."""
        if not hasattr(self, "loop"):
            return
        try:
            for name in list(self.door.workers):
                self.die(name)
            blamed = {a.seed for a in self.asked if a.task.done()}
            # whole nodes die at once, while one lives that nobody has asked yet
            good = Worker("good:1")
            self.door.workers["good"] = good
            self.door.join("good", good, None)
            self.door.beat()
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
test_whoever_dies_as_long_as_one_lives_all_is_answered = DispatcherMachine.TestCase
