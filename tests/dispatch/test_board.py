"""The board's one law, on random histories, and its rules one by one."""

from __future__ import annotations

import hypothesis.strategies as st
import msgspec
import numpy as np
import pytest
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from mixserver.dispatch.actions import (
    Action,
    Assign,
    Back,
    Drop,
    Finish,
    GiveUp,
    Lost,
    Overdue,
    Served,
    Starved,
    Submitted,
    TakeIn,
    Tick,
    TurnAway,
    Withdrawn,
)
from mixserver.dispatch.board import Board
from mixserver.dispatch.events import Answered, Failed, Heard, Joined, Left
from mixserver.dispatch.policy import Policy
from mixserver.errors import ConfigError
from mixserver.wire.worker import ModelCard, Result

CARD = ModelCard(engine="toy", name="toy", fingerprint="aa")
OTHER = ModelCard(engine="toy", name="other", fingerprint="bb")


def policy(**changes: object) -> Policy:
    settings = {"roles": {"cheap": "", "expensive": ""}, "patience_s": 5.0, "heartbeat_s": 1.0}
    return Policy(**{**settings, "job_timeout_s": 100.0, **changes})  # type: ignore[arg-type]


def result(job: int) -> Result:
    return Result(job=job, energy=0.0, forces=np.zeros((1, 3)), virial=np.zeros((3, 3)))


def of(kind: type, actions: list[Action]) -> list[Action]:
    return [action for action in actions if isinstance(action, kind)]


class Bench:
    """A board and a clock."""

    def __init__(self, **changes: object) -> None:
        self.board = Board(policy(**changes))
        self.now = 0.0

    def __call__(self, event: object, *, after: float = 0.0) -> list[Action]:
        self.now += after
        return self.board.handle(event, self.now)  # type: ignore[arg-type]

    def join(self, *names: str, role: str = "cheap") -> None:
        for name in names:
            self(Joined(name, role, CARD))  # type: ignore[arg-type]

    def hear(self, *names: str, after: float = 0.0) -> list[Action]:
        self.now += after
        return [action for name in names for action in self(Heard(name))]


def test_a_job_goes_to_a_worker_of_its_role() -> None:
    on = Bench()
    on.join("c", role="cheap")
    on.join("e", role="expensive")
    assert on(Submitted(1, "expensive", 0)) == [Assign("e", 1)]
    assert on(Submitted(2, "cheap", 0)) == [Assign("c", 2)]


def test_jobs_wait_in_order_until_a_worker_is_idle() -> None:
    on = Bench()
    on.join("a")
    on(Submitted(1, "cheap", 0))
    assert on(Submitted(2, "cheap", 0)) == []
    assert on(Submitted(3, "cheap", 0)) == []
    answer = result(1)
    assert on(Answered("a", answer)) == [Finish(1, "a", answer), Assign("a", 2)]


def test_a_job_prefers_the_worker_that_knows_its_stream() -> None:
    on = Bench()
    on.join("a", "b")
    on(Submitted(1, "cheap", stream=7))
    on(Submitted(2, "cheap", stream=8))
    on(Answered("a", result(1)), after=1.0)
    on(Answered("b", result(2)), after=1.0)
    assert on(Submitted(3, "cheap", stream=8)) == [Assign("b", 3)]
    assert on(Submitted(4, "cheap", stream=7)) == [Assign("a", 4)]


def test_a_new_stream_goes_to_the_worker_idle_longest() -> None:
    on = Bench()
    on.join("a", "b")
    on(Submitted(1, "cheap", 1))
    on(Answered("a", result(1)), after=1.0)
    assert on(Submitted(2, "cheap", 2)) == [Assign("b", 2)]


@pytest.mark.parametrize("orderly", [True, False])
def test_a_lost_workers_job_goes_to_the_head_of_the_queue(orderly: bool) -> None:
    on = Bench()
    on.join("a", "b")
    on(Submitted(1, "cheap", 1))
    on(Submitted(2, "cheap", 2))
    on(Submitted(3, "cheap", 3))
    assert of(Lost, on(Left("a", "gone", orderly))) == [Lost("a", "gone", 1)]
    assert of(Assign, on(Answered("b", result(2)))) == [Assign("b", 1)]


def test_a_silent_worker_loses_its_job_to_another() -> None:
    on = Bench()
    on.join("a", "b")
    on(Submitted(1, "cheap", 0))
    on.hear("b", after=4.0)
    assert on(Tick()) == []
    actions = on(Tick(), after=1.5)
    assert actions == [Lost("a", "silent for 5.5 s", 1), Assign("b", 1)]
    assert on(Tick(), after=1.0) == [], "it is told once"


def test_the_late_answer_of_a_silent_worker_is_ignored_and_it_is_back() -> None:
    on = Bench()
    on.join("a", "b")
    on(Submitted(1, "cheap", 0))
    on.hear("b", after=6.0)
    on(Tick())
    assert of(Finish, on(Answered("b", result(1)))) != []
    assert on(Answered("a", result(1))) == [Back("a")]
    on(Submitted(2, "cheap", 0))
    on(Submitted(3, "cheap", 0))
    assert {place.job for place in on.board.places.values()} == {2, 3}, "both are asked again"


def test_a_silent_worker_that_comes_back_first_may_still_answer() -> None:
    on = Bench()
    on.join("a")
    on(Submitted(1, "cheap", 0))
    assert of(Starved, on(Tick(), after=6.0)) == [Starved("cheap")]
    answer = result(1)
    assert on(Answered("a", answer), after=10.0) == [
        Back("a"),
        Finish(1, "a", answer),
        Served("cheap"),
    ]


def test_an_overdue_job_gets_a_second_copy_and_the_first_answer_wins() -> None:
    on = Bench()
    on.join("a", "b")
    on(Submitted(1, "cheap", 0))
    on.hear("a", "b", after=100.5)
    assert on(Tick()) == [Overdue("a", 1), Assign("b", 1)]
    assert of(Finish, on(Answered("a", result(1)))) != []
    assert on(Answered("b", result(1))) == []
    assert [place.job for place in on.board.places.values()] == [None, None]


def test_a_worker_that_fails_is_dropped_and_another_gets_the_job() -> None:
    on = Bench()
    on.join("a", "b")
    on(Submitted(1, "cheap", 0))
    assert on(Failed("a", 1, "worker", "CUDA out of memory")) == [
        Drop("a", "CUDA out of memory"),
        Lost("a", "CUDA out of memory", 1),
        Assign("b", 1),
    ]
    assert "a" not in on.board.places


def test_a_dropped_worker_is_asked_again_once_it_rejoins() -> None:
    on = Bench()
    on.join("a")
    on(Submitted(1, "cheap", 0))
    assert of(Assign, on(Failed("a", 1, "worker", "broken"))) == []
    assert on(Answered("a", result(1))) == [], "not even listened to"
    assert of(Assign, on(Joined("a", "cheap", CARD))) == [Assign("a", 1)]


def test_a_bad_input_is_told_at_once_and_its_worker_stays() -> None:
    on = Bench()
    on.join("a")
    on(Submitted(1, "cheap", 0))
    (action,) = on(Failed("a", 1, "input", "element Xx is unknown"))
    assert isinstance(action, GiveUp)
    assert action.kind == "input"
    assert "element Xx is unknown" in action.reason
    assert on(Submitted(2, "cheap", 0)) == [Assign("a", 2)]


def test_a_job_is_named_once_where_engines_name_it_too() -> None:
    on = Bench()
    on.join("a")
    on(Submitted(1, "cheap", 0))
    (action,) = of(
        GiveUp, on(Failed("a", 1, "input", "job 1: the position of atom 3 is not finite"))
    )
    assert action.reason.count("job 1") == 1
    assert action.reason.endswith("cannot be evaluated: the position of atom 3 is not finite")


def test_a_job_that_breaks_workers_is_blamed_with_its_story() -> None:
    on = Bench(failures=3)
    on.join("a", "b", "c", "d")
    on(Submitted(1, "cheap", 0))
    on(Failed("a", 1, "worker", "exploded"))
    on(Left("b", "its connection is gone"))
    (told,) = of(GiveUp, on(Failed("c", 1, "worker", "imploded")))
    assert isinstance(told, GiveUp)
    assert told.kind == "input"
    for word in ("a: exploded", "b: its connection is gone", "c: imploded", "3 workers"):
        assert word in told.reason


def test_workers_that_were_asked_to_leave_do_not_count_against_a_job() -> None:
    on = Bench(failures=1)
    on.join("a", "b")
    on(Submitted(1, "cheap", 0))
    assert of(Assign, on(Left("a", "SIGTERM", orderly=True))) == [Assign("b", 1)]


def test_a_worker_that_joins_again_is_lost_first() -> None:
    on = Bench()
    on.join("a")
    on(Submitted(1, "cheap", 0))
    assert on(Joined("a", "cheap", CARD)) == [
        Lost("a", "joined again", 1),
        TakeIn("a", "cheap", CARD),
        Assign("a", 1),
    ]


def test_a_busy_worker_that_answers_another_job_is_dropped() -> None:
    on = Bench()
    on.join("a", "b")
    on(Submitted(1, "cheap", 0))
    actions = on(Answered("a", result(99)))
    assert of(Drop, actions) == [Drop("a", "answered job 99 but was asked for job 1")]
    assert of(Finish, actions) == []
    assert of(Assign, actions) == [Assign("b", 1)]


def test_the_first_worker_pins_the_model_even_after_all_have_died() -> None:
    on = Bench()
    on.join("a")
    on(Left("a", "gone"))
    (turned,) = on(Joined("b", "cheap", OTHER))
    assert isinstance(turned, TurnAway)
    assert "aa" in turned.reason
    assert "bb" in turned.reason
    assert on.board.card("cheap") is CARD


def test_a_configured_fingerprint_is_demanded_of_the_first_worker() -> None:
    on = Bench(roles={"cheap": "bb"})
    assert isinstance(on(Joined("a", "cheap", CARD))[0], TurnAway)
    assert on(Joined("a", "cheap", OTHER)) == [TakeIn("a", "cheap", OTHER)]


def test_a_worker_with_other_units_is_turned_away() -> None:
    on = Bench()
    card = msgspec.structs.replace(CARD, units="bohr,hartree")
    (turned,) = on(Joined("a", "cheap", card))
    assert isinstance(turned, TurnAway)
    assert "'bohr,hartree'" in turned.reason
    assert "'angstrom,electronvolt'" in turned.reason
    assert on(Joined("a", "cheap", CARD)) == [TakeIn("a", "cheap", CARD)]  # it pinned nothing


def test_a_worker_for_a_role_that_is_not_asked_is_turned_away() -> None:
    on = Bench(roles={"cheap": ""})
    (turned,) = on(Joined("a", "expensive", CARD))
    assert isinstance(turned, TurnAway)
    assert "--role cheap" in turned.reason


def test_hold_waits_for_ever() -> None:
    on = Bench(when_none="hold")
    assert on(Submitted(1, "cheap", 0)) == [Starved("cheap")]
    assert on(Tick(), after=1e6) == []
    assert on(Joined("a", "cheap", CARD)) == [
        TakeIn("a", "cheap", CARD),
        Served("cheap"),
        Assign("a", 1),
    ]


def test_stop_gives_up_after_patience_and_names_the_last_loss() -> None:
    on = Bench(when_none="stop")
    on.join("a")
    on(Submitted(1, "cheap", 0))
    assert of(GiveUp, on(Left("a", "its connection is gone"))) == []
    assert on(Tick(), after=4.9) == []
    (told,) = on(Tick(), after=0.2)
    assert isinstance(told, GiveUp)
    assert told.kind == "nobody"
    assert "its connection is gone" in told.reason


def test_stop_waits_longer_for_the_very_first_worker() -> None:
    on = Bench(when_none="stop", first_worker_s=60.0)
    on(Submitted(1, "cheap", 0))
    assert on(Tick(), after=59.0) == []
    assert of(GiveUp, on(Tick(), after=2.0)) != []


def test_a_withdrawn_job_is_not_handed_out_and_its_answer_is_ignored() -> None:
    on = Bench()
    on.join("a")
    on(Submitted(1, "cheap", 0))
    on(Submitted(2, "cheap", 0))
    on(Withdrawn(1))
    on(Withdrawn(2))
    assert on(Answered("a", result(1))) == []
    assert on(Submitted(3, "cheap", 0)) == [Assign("a", 3)]


def test_strangers_are_ignored() -> None:
    on = Bench()
    for event in (Heard("x"), Answered("x", result(1)), Failed("x", 1, "input", ""), Left("x", "")):
        assert on(event) == []


@pytest.mark.parametrize(
    "changes",
    [
        {"roles": {}},
        {"patience_s": 1.0, "heartbeat_s": 1.0},
        {"failures": 0},
        {"job_timeout_s": 0.0},
        {"patience_s": float("nan")},
    ],
)
def test_a_policy_that_cannot_work_is_refused(changes: dict[str, object]) -> None:
    with pytest.raises(ConfigError):
        policy(**changes)


NAMES = st.sampled_from(["a", "b", "c", "d"])
ROLES = st.sampled_from(["cheap", "expensive"])


class BoardMachine(RuleBasedStateMachine):
    """Whatever workers do, no job is lost and none is answered twice."""

    @initialize(
        failures=st.sampled_from([1, 3, 10**9]), when_none=st.sampled_from(["hold", "hold", "stop"])
    )
    def start(self, failures: int, when_none: str) -> None:
        self.failures = failures
        self.when_none = when_none
        self.board = Board(policy(failures=failures, when_none=when_none))
        self.now = 0.0
        self.numbers = 0
        self.roles: dict[int, str] = {}
        self.open: set[int] = set()
        self.at: dict[str, int | None] = {}
        self.role_of: dict[str, str] = {}

    def feed(self, event: object) -> list[Action]:
        actions = self.board.handle(event, self.now)  # type: ignore[arg-type]
        for action in actions:
            match action:
                case TakeIn(worker, role, _):
                    self.at[worker] = None
                    self.role_of[worker] = role
                case Assign(worker, job):
                    assert job in self.open, "a job that is over was handed out"
                    assert self.at[worker] is None, "a busy worker was asked"
                    assert self.role_of[worker] == self.roles[job]
                    self.at[worker] = job
                case Finish(job, worker, answer):
                    assert job in self.open, "a job was answered twice"
                    assert answer.job == job
                    assert self.at[worker] == job, "answered by one that was not asked"
                    self.open.discard(job)
                    self.at[worker] = None
                case GiveUp(job, kind, reason):
                    assert job in self.open
                    assert reason
                    assert kind == "input" or self.when_none == "stop"
                    self.open.discard(job)
                case Drop(worker) | TurnAway(worker):
                    self.at.pop(worker, None)
        return actions

    @rule(role=ROLES, stream=st.integers(0, 2))
    def submit(self, role: str, stream: int) -> None:
        self.numbers += 1
        self.roles[self.numbers] = role
        self.open.add(self.numbers)
        self.feed(Submitted(self.numbers, role, stream))  # type: ignore[arg-type]

    @precondition(lambda self: self.open)
    @rule(data=st.data())
    def withdraw(self, data: st.DataObject) -> None:
        job = data.draw(st.sampled_from(sorted(self.open)))
        self.open.discard(job)
        self.feed(Withdrawn(job))

    @rule(name=NAMES, role=ROLES, card=st.sampled_from([CARD, CARD, CARD, OTHER]))
    def join(self, name: str, role: str, card: ModelCard) -> None:
        self.at.pop(name, None)
        self.feed(Joined(name, role, card))  # type: ignore[arg-type]

    @precondition(lambda self: any(job is not None for job in self.at.values()))
    @rule(data=st.data())
    def answer(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(sorted(n for n, job in self.at.items() if job)))
        self.say(name, self.at[name])

    def say(self, name: str, job: int | None) -> None:
        """A worker answers what it is at."""
        assert job is not None
        was_open = job in self.open
        if not was_open:
            self.at[name] = None
        assert len(of(Finish, self.feed(Answered(name, result(job))))) == was_open

    @rule(name=NAMES, job=st.integers(0, 30))
    def answer_anything(self, name: str, job: int) -> None:
        if self.at.get(name) == job:
            self.say(name, job)
        else:
            assert of(Finish, self.feed(Answered(name, result(job)))) == []

    @precondition(lambda self: any(job is not None for job in self.at.values()))
    @rule(data=st.data(), blame=st.sampled_from(["input", "worker", "worker"]))
    def fail(self, data: st.DataObject, blame: str) -> None:
        name = data.draw(st.sampled_from(sorted(n for n, job in self.at.items() if job)))
        job = self.at[name]
        self.at[name] = None
        self.feed(Failed(name, job, blame, "it broke"))  # type: ignore[arg-type]

    @rule(name=NAMES, job=st.integers(0, 30), blame=st.sampled_from(["input", "worker"]))
    def fail_anything(self, name: str, job: int, blame: str) -> None:
        if self.at.get(name) == job:
            self.at[name] = None
        self.feed(Failed(name, job, blame, "it broke"))  # type: ignore[arg-type]

    @rule(name=NAMES, orderly=st.booleans())
    def leave(self, name: str, orderly: bool) -> None:
        self.at.pop(name, None)
        self.feed(Left(name, "gone", orderly))

    @rule(name=NAMES)
    def hear(self, name: str) -> None:
        self.feed(Heard(name))

    @rule(seconds=st.sampled_from([0.1, 2.0, 6.0, 101.0]))
    def pass_time(self, seconds: float) -> None:
        self.now += seconds
        self.feed(Tick())

    @invariant()
    def every_open_job_is_waited_for_or_worked_on(self) -> None:
        if not hasattr(self, "board"):
            return
        places = self.board.places
        for job in self.open:
            role = self.roles[job]
            worked_on = any(place.job == job for place in places.values())
            free = [n for n, p in places.items() if p.role == role and p.job is None]
            free = [n for n in free if not places[n].silent]
            assert worked_on or not free, f"job {job} lies about while {free} are idle"

    def teardown(self) -> None:
        """However it went: with good workers that stay, every job that is open is answered."""
        if not hasattr(self, "board"):
            return
        for role in ("cheap", "expensive"):
            card = self.board.card(role) or CARD  # type: ignore[arg-type]
            self.feed(Joined(f"good-{role}", role, card))  # type: ignore[arg-type]
        # the others have hung: only the good ones are heard
        self.now += 200.0
        for role in ("cheap", "expensive"):
            self.feed(Heard(f"good-{role}"))
        self.feed(Tick())
        for _ in range(2 * len(self.open) + 2):
            for role in ("cheap", "expensive"):
                name = f"good-{role}"
                if (job := self.at.get(name)) is not None:
                    self.say(name, job)
        assert not self.open, f"jobs were lost: {self.open}"


BoardMachine.TestCase.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
test_no_job_is_lost_and_none_is_answered_twice = BoardMachine.TestCase
