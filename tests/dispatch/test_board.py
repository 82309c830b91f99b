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
    Contradicted,
    Doubted,
    Drop,
    Finish,
    GiveUp,
    Hung,
    Lost,
    Overdue,
    Paused,
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
            self(Joined(name, role, CARD, f"host-{name}:1"))  # type: ignore[arg-type]

    def rejoin(self, name: str, job: int | None = None, *, after: float = 0.0) -> list[Action]:
        """The same process again, with the job it holds."""
        return self(Joined(name, "cheap", CARD, f"host-{name}:1", job), after=after)

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
    assert of(Assign, on.rejoin("a")) == [Assign("a", 1)]


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
    on.hear("c", "d", after=6.0)  # so it is not coming back
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


def test_a_worker_that_joins_again_without_its_job_is_given_it_again() -> None:
    on = Bench()
    on.join("a")
    on(Submitted(1, "cheap", 0))
    assert on.rejoin("a") == [
        Lost("a", "joined again", 1),
        TakeIn("a", "cheap", CARD),
        Assign("a", 1),
    ]


@pytest.mark.parametrize("noticed", [False, True])
def test_a_worker_that_joins_again_and_again_has_no_more_time_for_its_job(noticed: bool) -> None:
    on = Bench()
    on.join("a")
    on(Submitted(1, "cheap", 0))
    for _ in range(3):  # after 30, 60 and 90 s
        on.now += 30.0
        if noticed:
            on(Left("a", "its connection is gone"))
        on.rejoin("a", 1)
    assert on(Tick(), after=4.0) == []
    on(Paused(10.0), after=6.0)
    assert on.hear("a") == []
    assert on(Tick(), after=4.0) == []
    on.hear("a", after=4.0)
    assert of(Overdue, on(Tick(), after=3.0)) == [Overdue("a", 1)]
    on.rejoin("a", 1, after=90.0)
    on.hear("a", after=15.0)
    assert [hung.worker for hung in of(Hung, on(Tick()))] == ["a"]


def test_a_worker_that_joins_again_with_its_job_keeps_it() -> None:
    on = Bench()
    on.join("a", "b")
    on(Submitted(1, "cheap", 0))
    assert on.rejoin("a", 1) == [TakeIn("a", "cheap", CARD)]
    answer = result(1)
    assert on(Answered("a", answer)) == [Finish(1, "a", answer)]


def test_a_worker_whose_connection_broke_comes_back_with_its_result() -> None:
    on = Bench(failures=1_000)
    on.join("a")
    on(Submitted(1, "cheap", 0))
    assert of(Lost, on(Left("a", "its connection is gone"))) != []
    assert on.rejoin("a", 1) == [TakeIn("a", "cheap", CARD), Served("cheap")]
    answer = result(1)
    assert on(Answered("a", answer)) == [Finish(1, "a", answer)]


def test_where_another_got_the_job_meanwhile_the_first_answer_counts() -> None:
    on = Bench()
    on.join("a", "b")
    on(Submitted(1, "cheap", 0))
    assert of(Assign, on(Left("a", "its connection is gone"))) == [Assign("b", 1)]
    assert of(Assign, on.rejoin("a", 1)) == []
    assert of(Finish, on(Answered("a", result(1)))) != []
    assert on(Answered("b", result(1))) == []
    on(Submitted(2, "cheap", 0))
    on(Submitted(3, "cheap", 0))
    assert {place.job for place in on.board.places.values()} == {2, 3}


def test_a_result_of_before_the_server_was_restarted_is_not_taken() -> None:
    on = Bench()
    on.rejoin("a", 17)
    assert of(Assign, on(Submitted(18, "cheap", 0))) == [], "it is still at the old one"
    assert on(Answered("a", result(17))) == [Assign("a", 18)]
    on(Submitted(17, "cheap", 0))
    on.rejoin("b", 17)  # it was never given it here
    assert of(Finish, on(Answered("b", result(17)))) == []


def test_any_number_of_reconnects_is_held_against_no_job() -> None:
    on = Bench(failures=1)
    on.join("a")
    on(Submitted(1, "cheap", 0))
    for _ in range(5):
        assert of(GiveUp, on.rejoin("a", after=6.0)) == []
    assert of(Finish, on(Answered("a", result(1)))) != []


@pytest.mark.parametrize("event", [Left("a", "its connection is gone"), Tick()])
def test_a_process_that_was_thought_gone_and_is_there_was_not_broken(event: object) -> None:
    on = Bench(failures=2)
    on.join("a", "b")
    on(Submitted(1, "cheap", 0))
    on.hear("b", after=6.0)
    assert of(Assign, on(event)) == [Assign("b", 1)]
    on.rejoin("a")
    assert of(Assign, on(Left("b", "its connection is gone"))) == [Assign("a", 1)]
    assert of(GiveUp, on(Left("a", "its connection is gone"))) == [], "they may be back soon"
    on.rejoin("c")
    assert of(Assign, on.hear("c", after=4.9)) == [], "and nobody else is risked meanwhile"
    assert of(GiveUp, on.hear("c", after=0.2)) != [], "that makes two"


def test_a_job_is_not_blamed_for_a_network_that_blinks() -> None:
    on = Bench(failures=3)
    on.join("a", "b", "c")
    on(Submitted(1, "cheap", 0))
    for name in ("a", "b", "c"):
        assert of(GiveUp, on(Left(name, "its connection is gone"), after=0.1)) == []
    assert of(Assign, on.rejoin("b", after=1.0)) == [Assign("b", 1)]
    on.rejoin("a")
    on.rejoin("c")
    assert of(GiveUp, on.hear("a", "b", "c", after=10.0)) == []
    assert of(Finish, on(Answered("b", result(1)))) != []


def test_a_job_that_could_not_be_sent_has_broken_nobody() -> None:
    on = Bench(failures=1)
    on.join("a", "b", "c", "d")
    on(Submitted(1, "cheap", 0))
    for gone, next_one in (("a", "b"), ("b", "c"), ("c", "d")):
        left = on(Left(gone, "its connection is gone", unsent=True))
        assert of(Assign, left) == [Assign(next_one, 1)]


def test_one_worker_that_fails_again_and_again_is_not_called_three() -> None:
    on = Bench(failures=3)
    on.join("a")
    on(Submitted(1, "cheap", 0))
    for _ in range(2):
        on(Failed("a", 1, "worker", "out of memory"))
        on.rejoin("a")
    (told,) = of(GiveUp, on(Failed("a", 1, "worker", "out of memory")))
    assert isinstance(told, GiveUp)
    assert "given to 1 worker and broke 1 of them 3 times" in told.reason


def test_a_job_that_lost_a_worker_goes_to_another_machine() -> None:
    on = Bench()
    for name, process in (("a", "one:1"), ("b", "one:2"), ("c", "two:1")):
        on(Joined(name, "cheap", CARD, process), after=1.0)
    on(Submitted(1, "cheap", 0))
    assert of(Assign, on(Left("a", "its connection is gone"))) == [Assign("c", 1)]


def test_a_server_that_stood_still_blames_no_worker() -> None:
    on = Bench(failures=1)
    on.join("a", "b")
    on(Submitted(1, "cheap", 0))
    for _ in range(4):
        assert on(Paused(100.0), after=100.0) == []
        assert on(Tick()) == []
    assert of(Lost, on(Tick(), after=5.5)) != [], "from now on it listens"


def test_waiting_for_a_worker_does_not_go_on_while_the_server_stands_still() -> None:
    on = Bench(when_none="stop")
    on.join("a")
    on(Submitted(1, "cheap", 0))
    on(Left("a", "gone"))
    assert on(Paused(60.0), after=60.0) == []
    assert of(GiveUp, on(Tick(), after=5.1)) != []


def test_a_second_worker_of_a_name_is_turned_away_while_the_first_lives() -> None:
    on = Bench()
    on.join("a")
    (turned,) = on(Joined("a", "cheap", CARD, "elsewhere:7"))
    assert isinstance(turned, TurnAway)
    assert "--name" in turned.reason
    assert "host-a:1" in turned.reason
    assert on(Submitted(1, "cheap", 0)) == [Assign("a", 1)]


def test_where_it_is_not_known_whether_the_first_lives_the_second_asks_again() -> None:
    on = Bench()
    on.join("a")
    newcomer = Joined("a", "cheap", CARD, "elsewhere:7")
    assert on(newcomer, after=3.0) == []
    on(Tick(), after=2.5)
    assert of(TakeIn, on(newcomer)) == [TakeIn("a", "cheap", CARD)]


def test_a_worker_of_a_taken_name_that_does_not_fit_harms_nobody() -> None:
    on = Bench()
    on.join("a")
    on(Tick(), after=6.0)
    (turned,) = on(Joined("a", "cheap", OTHER, "elsewhere:7"))
    assert isinstance(turned, TurnAway)
    assert "bb" in turned.reason
    assert on.hear("a") == [Back("a")]


def test_a_silent_worker_is_replaced_by_another_of_its_name() -> None:
    on = Bench()
    on.join("a")
    on(Submitted(1, "cheap", 0))
    on(Tick(), after=6.0)
    actions = on(Joined("a", "cheap", CARD, "elsewhere:7"))
    assert of(TakeIn, actions) != []
    assert of(Assign, actions) == [Assign("a", 1)]


def test_a_job_called_faulty_is_given_to_a_second_worker_first() -> None:
    on = Bench()
    on.join("a", "b")
    on(Submitted(1, "cheap", 0))
    actions = on(Failed("a", 1, "input", "job 1: atoms 3 and 4 are too close"))
    assert actions == [
        Doubted("a", 1, "job 1: atoms 3 and 4 are too close"),
        Assign("b", 1),
    ]
    (told,) = on(Failed("b", 1, "input", "job 1: atoms 3 and 4 are too close"))
    assert isinstance(told, GiveUp)
    assert told.reason == (
        "workers a and b say that job 1 cannot be evaluated: atoms 3 and 4 are too close"
    )
    assert len(on.board.places) == 2


def test_both_messages_are_told_where_two_workers_refuse_for_different_reasons() -> None:
    on = Bench()
    on.join("a", "b")
    on(Submitted(1, "cheap", 0))
    on(Failed("a", 1, "input", "too close"))
    (told,) = of(GiveUp, on(Failed("b", 1, "input", "no memory")))
    assert isinstance(told, GiveUp)
    assert "a: too close" in told.reason
    assert "b: no memory" in told.reason


def test_a_second_worker_that_can_do_it_is_believed() -> None:
    on = Bench()
    on.join("a", "b")
    on(Submitted(1, "cheap", 0))
    on(Failed("a", 1, "input", "too close"))
    answer = result(1)
    assert on(Answered("b", answer)) == [
        Contradicted(1, "b", "a: too close"),
        Finish(1, "b", answer),
    ]


def test_the_second_worker_is_waited_for_and_if_it_goes_the_first_is_believed() -> None:
    on = Bench()
    on.join("a", "b")
    on(Submitted(1, "cheap", 1))
    on(Submitted(2, "cheap", 2))
    assert of(Assign, on(Failed("a", 1, "input", "too close"))) == [], "b is busy, a said no"
    assert on(Submitted(3, "cheap", 3)) == [Assign("a", 3)], "but a can do others"
    (told,) = of(GiveUp, on(Left("b", "gone")))
    assert isinstance(told, GiveUp)
    assert told.job == 1
    assert "too close" in told.reason


def test_a_role_whose_workers_are_all_overdue_has_none() -> None:
    on = Bench(when_none="stop")
    on.join("a")
    on(Submitted(1, "cheap", 0))
    on.hear("a", after=100.5)
    actions = on(Tick())
    assert actions == [Overdue("a", 1), Starved("cheap")]
    assert "job 1 not done within 100 s" in of(Starved, actions)[0].reason  # type: ignore[union-attr]
    (told,) = of(GiveUp, on.hear("a", after=5.1))
    assert isinstance(told, GiveUp)
    assert told.kind == "nobody"
    assert "no cheap worker answers" in told.reason


def test_an_overdue_worker_under_hold_may_still_answer() -> None:
    on = Bench(when_none="hold")
    on.join("a")
    on(Submitted(1, "cheap", 0))
    on.hear("a", after=100.5)
    on(Tick())
    answer = result(1)
    assert on(Answered("a", answer), after=50.0) == [Finish(1, "a", answer), Served("cheap")]
    assert on(Submitted(2, "cheap", 0)) == [Assign("a", 2)]


def test_a_worker_that_hangs_is_given_up_after_twice_its_time() -> None:
    on = Bench(failures=2)
    on.join("a")
    on(Submitted(1, "cheap", 0))
    on.hear("a", after=100.5)
    on(Tick())
    on.hear("a", after=100.0)
    reason = "job 1 not done within 200 s"
    assert on(Tick()) == [
        Hung("a", "host-a:1", reason),
        Drop("a", reason),
        Lost("a", reason, 1),
    ]
    on.join("b")
    on.hear("b", after=100.5)
    (told,) = of(GiveUp, on(Tick()))
    assert isinstance(told, GiveUp)
    assert "2 workers and not done in time" in told.reason
    assert "workers.job_timeout_s" in told.reason


def test_a_silent_worker_that_hangs_is_named_once_and_dropped_once_it_is_heard() -> None:
    on = Bench()
    on.join("a", "b")
    on(Submitted(1, "cheap", 0))
    on.hear("b", after=201.0)
    assert len(of(Hung, on(Tick()))) == 1
    assert of(Hung, on(Tick())) == []
    assert "a" in on.board.places
    on.hear("a")
    assert of(Drop, on(Tick())) != []


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
        self.given: dict[int, set[str]] = {}
        self.refused: dict[int, set[str]] = {}
        self.holds: int | None = None

    def feed(self, event: object) -> list[Action]:
        actions = self.board.handle(event, self.now)  # type: ignore[arg-type]
        for action in actions:
            match action:
                case TakeIn(worker, role, _):
                    self.at[worker] = self.holds
                    self.role_of[worker] = role
                case Assign(worker, job):
                    assert job in self.open, "a job that is over was handed out"
                    assert self.at[worker] is None, "a busy worker was asked"
                    assert self.role_of[worker] == self.roles[job]
                    assert worker not in self.refused.get(job, ()), "it said no already"
                    self.at[worker] = job
                    self.given.setdefault(job, set()).add(worker)
                case Doubted(worker, job):
                    self.refused.setdefault(job, set()).add(worker)
                case Finish(job, worker, answer):
                    assert job in self.open, "a job was answered twice"
                    assert answer.job == job
                    assert self.at[worker] == job, "answered by one that was not asked"
                    assert worker in self.given[job]
                    self.open.discard(job)
                    self.at[worker] = None
                case GiveUp(job, kind, reason):
                    assert job in self.open
                    assert reason
                    assert kind == "input" or self.when_none == "stop"
                    self.open.discard(job)
                case Drop(worker) | TurnAway(worker):
                    if worker not in self.board.places:
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

    @rule(
        name=NAMES,
        role=ROLES,
        card=st.sampled_from([CARD, CARD, CARD, OTHER]),
        process=st.sampled_from(["h:1", "h:1", "h:2", "g:1", ""]),
        holds=st.sampled_from(["what it has", "nothing", "something else"]),
        other=st.integers(1, 30),
    )
    def join(
        self, name: str, role: str, card: ModelCard, process: str, holds: str, other: int
    ) -> None:
        place = self.board.places.get(name)
        held = {"what it has": self.at.get(name), "nothing": None, "something else": other}[holds]
        self.holds = held
        actions = self.feed(Joined(name, role, card, process, held))  # type: ignore[arg-type]
        if place is not None and place.process == process and of(TakeIn, actions):
            blamed = [a for a in of(GiveUp, actions) if isinstance(a, GiveUp) and a.kind == "input"]
            assert blamed == [], "a reconnect counts against no job"
        if place is not None and not place.silent and place.process != process:
            assert of(TakeIn, actions) == [], "the owner of a name lives"
            assert self.board.places[name] is place
        self.holds = None

    @precondition(lambda self: any(job is not None for job in self.at.values()))
    @rule(data=st.data())
    def answer(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(sorted(n for n, job in self.at.items() if job)))
        self.say(name, self.at[name])

    def say(self, name: str, job: int | None) -> None:
        """A worker answers what it is at."""
        assert job is not None
        counts = job in self.open and name in self.given.get(job, ())
        if not counts:
            self.at[name] = None
        assert len(of(Finish, self.feed(Answered(name, result(job))))) == counts

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

    @rule(name=NAMES, orderly=st.booleans(), unsent=st.booleans())
    def leave(self, name: str, orderly: bool, unsent: bool) -> None:
        self.at.pop(name, None)
        self.feed(Left(name, "gone", orderly, unsent))

    @rule(seconds=st.sampled_from([0.5, 7.0, 150.0]))
    def stand_still(self, seconds: float) -> None:
        self.now += seconds
        actions = self.feed(Paused(seconds)) + self.feed(Tick())
        assert of(GiveUp, actions) == [], "nobody is to blame for a pause of the server"

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
            free = [n for n in free if n not in self.refused.get(job, ())]
            free = [] if job in self.board.suspended else free
            assert worked_on or not free, f"job {job} lies about while {free} are idle"

    def teardown(self) -> None:
        """However it went: with good workers that stay, every job that is open is answered."""
        if not hasattr(self, "board"):
            return
        for role in ("cheap", "expensive"):
            card = self.board.card(role) or CARD  # type: ignore[arg-type]
            self.feed(Joined(f"good-{role}", role, card, f"good:{role}"))  # type: ignore[arg-type]
        # the others have hung: only the good ones are heard
        for seconds in (150.0, 6.0):  # longer than job_timeout_s, not twice; longer than patience
            self.now += seconds
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
