"""The scheduler's law on random histories, and its rules one by one."""

from __future__ import annotations

import hypothesis.strategies as st
import msgspec
import numpy as np
import pytest
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from mixserver.core.errors import ConfigError
from mixserver.dispatch.policy import Policy
from mixserver.dispatch.scheduling.actions import (
    AcceptWorker,
    Action,
    AssignJob,
    CompleteJob,
    DisputeResolved,
    DropWorker,
    FailJob,
    JobCancelled,
    JobCopied,
    JobDisputed,
    JobSubmitted,
    RejectWorker,
    RoleAvailable,
    RoleEmpty,
    ServerPaused,
    Tick,
    WorkerHung,
    WorkerLost,
    WorkerOverdue,
    WorkerRecovered,
)
from mixserver.dispatch.scheduling.events import (
    FailureReceived,
    ResultReceived,
    WorkerAlive,
    WorkerJoined,
    WorkerLeft,
)
from mixserver.dispatch.scheduling.scheduler import Scheduler
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
    """A scheduler and a clock."""

    def __init__(self, **changes: object) -> None:
        self.scheduler = Scheduler(policy(**changes))
        self.now = 0.0

    def __call__(self, event: object, *, after: float = 0.0) -> list[Action]:
        self.now += after
        return self.scheduler.handle(event, self.now)  # type: ignore[arg-type]

    def join(self, *names: str, role: str = "cheap") -> None:
        for name in names:
            self(WorkerJoined(name, role, CARD, f"host-{name}:1"))  # type: ignore[arg-type]

    def rejoin(self, name: str, job: int | None = None, *, after: float = 0.0) -> list[Action]:
        """The same process again, with the job it holds."""
        return self(WorkerJoined(name, "cheap", CARD, f"host-{name}:1", job), after=after)

    def hear(self, *names: str, after: float = 0.0) -> list[Action]:
        self.now += after
        return [action for name in names for action in self(WorkerAlive(name))]


def test_a_job_goes_to_a_worker_of_its_role() -> None:
    on = Bench()
    on.join("c", role="cheap")
    on.join("e", role="expensive")
    assert on(JobSubmitted(1, "expensive", 0)) == [AssignJob("e", 1)]
    assert on(JobSubmitted(2, "cheap", 0)) == [AssignJob("c", 2)]


def test_jobs_wait_in_order_until_a_worker_is_idle() -> None:
    on = Bench()
    on.join("a")
    on(JobSubmitted(1, "cheap", 0))
    assert on(JobSubmitted(2, "cheap", 0)) == []
    assert on(JobSubmitted(3, "cheap", 0)) == []
    answer = result(1)
    assert on(ResultReceived("a", answer)) == [CompleteJob(1, "a", answer), AssignJob("a", 2)]


def test_a_job_prefers_the_worker_that_knows_its_stream() -> None:
    on = Bench()
    on.join("a", "b")
    on(JobSubmitted(1, "cheap", stream=7))
    on(JobSubmitted(2, "cheap", stream=8))
    on(ResultReceived("a", result(1)), after=1.0)
    on(ResultReceived("b", result(2)), after=1.0)
    assert on(JobSubmitted(3, "cheap", stream=8)) == [AssignJob("b", 3)]
    assert on(JobSubmitted(4, "cheap", stream=7)) == [AssignJob("a", 4)]


def test_a_new_stream_goes_to_the_worker_idle_longest() -> None:
    on = Bench()
    on.join("a", "b")
    on(JobSubmitted(1, "cheap", 1))
    on(ResultReceived("a", result(1)), after=1.0)
    assert on(JobSubmitted(2, "cheap", 2)) == [AssignJob("b", 2)]


@pytest.mark.parametrize("orderly", [True, False])
def test_a_lost_workers_job_goes_to_the_head_of_the_queue(orderly: bool) -> None:
    on = Bench()
    on.join("a", "b")
    on(JobSubmitted(1, "cheap", 1))
    on(JobSubmitted(2, "cheap", 2))
    on(JobSubmitted(3, "cheap", 3))
    assert of(WorkerLost, on(WorkerLeft("a", "gone", orderly))) == [WorkerLost("a", "gone", 1)]
    assert of(AssignJob, on(ResultReceived("b", result(2)))) == [AssignJob("b", 1)]


def test_a_silent_worker_loses_its_job_to_another() -> None:
    on = Bench()
    on.join("a", "b")
    on(JobSubmitted(1, "cheap", 0))
    on.hear("b", after=4.0)
    assert on(Tick()) == []
    actions = on(Tick(), after=1.5)
    assert actions == [WorkerLost("a", "silent for 5.5 s", 1), AssignJob("b", 1)]
    assert on(Tick(), after=1.0) == [], "it is reported once"


def test_the_late_answer_of_a_silent_worker_is_ignored_and_it_is_back() -> None:
    on = Bench()
    on.join("a", "b")
    on(JobSubmitted(1, "cheap", 0))
    on.hear("b", after=6.0)
    on(Tick())
    assert of(CompleteJob, on(ResultReceived("b", result(1)))) != []
    assert on(ResultReceived("a", result(1))) == [WorkerRecovered("a")]
    on(JobSubmitted(2, "cheap", 0))
    on(JobSubmitted(3, "cheap", 0))
    assert {place.job for place in on.scheduler.workers.values()} == {2, 3}, "both are asked again"


def test_a_silent_worker_that_comes_back_first_may_still_answer() -> None:
    on = Bench()
    on.join("a")
    on(JobSubmitted(1, "cheap", 0))
    assert of(RoleEmpty, on(Tick(), after=6.0)) == [RoleEmpty("cheap")]
    answer = result(1)
    assert on(ResultReceived("a", answer), after=10.0) == [
        WorkerRecovered("a"),
        CompleteJob(1, "a", answer),
        RoleAvailable("cheap"),
    ]


def test_an_overdue_job_gets_a_second_copy_and_the_first_answer_wins() -> None:
    on = Bench()
    on.join("a", "b")
    on(JobSubmitted(1, "cheap", 0))
    on.hear("a", "b", after=100.5)
    assert on(Tick()) == [WorkerOverdue("a", 1), AssignJob("b", 1)]
    assert of(CompleteJob, on(ResultReceived("a", result(1)))) != []
    assert on(ResultReceived("b", result(1))) == []
    assert [place.job for place in on.scheduler.workers.values()] == [None, None]


def test_a_worker_that_fails_is_dropped_and_another_gets_the_job() -> None:
    on = Bench()
    on.join("a", "b")
    on(JobSubmitted(1, "cheap", 0))
    assert on(FailureReceived("a", 1, "worker", "CUDA out of memory")) == [
        DropWorker("a", "CUDA out of memory"),
        WorkerLost("a", "CUDA out of memory", 1),
        AssignJob("b", 1),
    ]
    assert "a" not in on.scheduler.workers


def test_a_dropped_worker_gets_jobs_once_it_joins_again() -> None:
    on = Bench()
    on.join("a")
    on(JobSubmitted(1, "cheap", 0))
    assert of(AssignJob, on(FailureReceived("a", 1, "worker", "broken"))) == []
    assert on(ResultReceived("a", result(1))) == [], "not even listened to"
    assert "start a new one" in of(RejectWorker, on.rejoin("a"))[0].reason  # type: ignore[attr-defined]
    new = WorkerJoined("a", "cheap", CARD, "host-a:2")
    assert of(AssignJob, on(new)) == [AssignJob("a", 1)]


def test_bad_input_is_reported_at_once_and_its_worker_stays() -> None:
    on = Bench()
    on.join("a")
    on(JobSubmitted(1, "cheap", 0))
    (action,) = on(FailureReceived("a", 1, "input", "element Xx is unknown"))
    assert isinstance(action, FailJob)
    assert action.kind == "input"
    assert "element Xx is unknown" in action.reason
    assert on(JobSubmitted(2, "cheap", 0)) == [AssignJob("a", 2)]


def test_a_job_is_named_once_where_engines_name_it_too() -> None:
    on = Bench()
    on.join("a")
    on(JobSubmitted(1, "cheap", 0))
    (action,) = of(
        FailJob, on(FailureReceived("a", 1, "input", "job 1: the position of atom 3 is not finite"))
    )
    assert action.reason.count("job 1") == 1
    assert action.reason.endswith("cannot be evaluated: the position of atom 3 is not finite")


def test_a_job_that_breaks_workers_is_blamed_with_its_history() -> None:
    on = Bench(failures=3)
    on.join("a", "b", "c", "d")
    on(JobSubmitted(1, "cheap", 0))
    on(FailureReceived("a", 1, "worker", "exploded"))
    on(WorkerLeft("b", "its connection is gone"))
    on.hear("c", "d", after=6.0)  # so it is not coming back
    (failure,) = of(FailJob, on(FailureReceived("c", 1, "worker", "imploded")))
    assert isinstance(failure, FailJob)
    assert failure.kind == "input"
    for word in ("a: exploded", "b: its connection is gone", "c: imploded", "3 workers"):
        assert word in failure.reason


def test_workers_that_left_in_order_do_not_count_against_a_job() -> None:
    on = Bench(failures=1)
    on.join("a", "b")
    on(JobSubmitted(1, "cheap", 0))
    assert of(AssignJob, on(WorkerLeft("a", "SIGTERM", orderly=True))) == [AssignJob("b", 1)]


def test_a_worker_that_joins_again_without_its_job_is_given_it_again() -> None:
    on = Bench()
    on.join("a")
    on(JobSubmitted(1, "cheap", 0))
    assert on.rejoin("a") == [
        WorkerLost("a", "joined again", 1),
        AcceptWorker("a", "cheap", CARD),
        AssignJob("a", 1),
    ]


@pytest.mark.parametrize("noticed", [False, True])
def test_a_worker_that_joins_again_and_again_has_no_more_time_for_its_job(noticed: bool) -> None:
    on = Bench()
    on.join("a")
    on(JobSubmitted(1, "cheap", 0))
    for _ in range(3):  # after 30, 60 and 90 s
        on.now += 30.0
        if noticed:
            on(WorkerLeft("a", "its connection is gone"))
        on.rejoin("a", 1)
    assert on(Tick(), after=4.0) == []
    on(ServerPaused(10.0), after=6.0)
    assert on.hear("a") == []
    assert on(Tick(), after=4.0) == []
    on.hear("a", after=4.0)
    assert of(WorkerOverdue, on(Tick(), after=3.0)) == [WorkerOverdue("a", 1)]
    on.rejoin("a", 1, after=90.0)
    on.hear("a", after=15.0)
    assert [hung.worker for hung in of(WorkerHung, on(Tick()))] == ["a"]


def test_a_worker_that_joins_again_with_its_job_keeps_it() -> None:
    on = Bench()
    on.join("a", "b")
    on(JobSubmitted(1, "cheap", 0))
    assert on.rejoin("a", 1) == [AcceptWorker("a", "cheap", CARD)]
    answer = result(1)
    assert on(ResultReceived("a", answer)) == [CompleteJob(1, "a", answer)]


def test_a_worker_whose_connection_broke_comes_back_with_its_result() -> None:
    on = Bench(failures=1_000)
    on.join("a")
    on(JobSubmitted(1, "cheap", 0))
    assert of(WorkerLost, on(WorkerLeft("a", "its connection is gone"))) != []
    assert on.rejoin("a", 1) == [AcceptWorker("a", "cheap", CARD), RoleAvailable("cheap")]
    answer = result(1)
    assert on(ResultReceived("a", answer)) == [CompleteJob(1, "a", answer)]


def test_where_another_got_the_job_meanwhile_the_first_answer_counts() -> None:
    on = Bench()
    on.join("a", "b")
    on(JobSubmitted(1, "cheap", 0))
    assert of(AssignJob, on(WorkerLeft("a", "its connection is gone"))) == [AssignJob("b", 1)]
    assert of(AssignJob, on.rejoin("a", 1)) == []
    assert of(CompleteJob, on(ResultReceived("a", result(1)))) != []
    assert on(ResultReceived("b", result(1))) == []
    on(JobSubmitted(2, "cheap", 0))
    on(JobSubmitted(3, "cheap", 0))
    assert {place.job for place in on.scheduler.workers.values()} == {2, 3}


def test_a_result_of_before_the_server_was_restarted_is_not_taken() -> None:
    on = Bench()
    on.rejoin("a", 17)
    assert of(AssignJob, on(JobSubmitted(18, "cheap", 0))) == [], "it is still at the old one"
    assert on(ResultReceived("a", result(17))) == [AssignJob("a", 18)]
    on(JobSubmitted(17, "cheap", 0))
    on.rejoin("b", 17)  # it was never given it here
    assert of(CompleteJob, on(ResultReceived("b", result(17)))) == []


def test_any_number_of_reconnects_is_held_against_no_job() -> None:
    on = Bench(failures=1)
    on.join("a")
    on(JobSubmitted(1, "cheap", 0))
    for _ in range(5):
        assert of(FailJob, on.rejoin("a", after=6.0)) == []
    assert of(CompleteJob, on(ResultReceived("a", result(1)))) != []


@pytest.mark.parametrize("event", [WorkerLeft("a", "its connection is gone"), Tick()])
def test_a_process_that_was_thought_gone_and_is_there_was_not_broken(event: object) -> None:
    on = Bench(failures=2)
    on.join("a", "b")
    on(JobSubmitted(1, "cheap", 0))
    on.hear("b", after=6.0)
    assert of(AssignJob, on(event)) == [AssignJob("b", 1)]
    on.rejoin("a")
    assert of(AssignJob, on(WorkerLeft("b", "its connection is gone"))) == [AssignJob("a", 1)]
    assert of(FailJob, on(WorkerLeft("a", "its connection is gone"))) == [], "they may be back soon"
    on.rejoin("c")
    assert of(AssignJob, on.hear("c", after=4.9)) == [], "and no other worker is risked meanwhile"
    assert of(FailJob, on.hear("c", after=0.2)) != [], "that makes two"


def test_a_job_is_not_blamed_for_a_network_that_blinks() -> None:
    on = Bench(failures=3)
    on.join("a", "b", "c")
    on(JobSubmitted(1, "cheap", 0))
    for name in ("a", "b", "c"):
        assert of(FailJob, on(WorkerLeft(name, "its connection is gone"), after=0.1)) == []
    assert of(AssignJob, on.rejoin("b", after=1.0)) == [AssignJob("b", 1)]
    on.rejoin("a")
    on.rejoin("c")
    assert of(FailJob, on.hear("a", "b", "c", after=10.0)) == []
    assert of(CompleteJob, on(ResultReceived("b", result(1)))) != []


def test_a_job_that_could_not_be_sent_has_broken_no_worker() -> None:
    on = Bench(failures=1)
    on.join("a", "b", "c", "d")
    on(JobSubmitted(1, "cheap", 0))
    for gone, next_one in (("a", "b"), ("b", "c"), ("c", "d")):
        left = on(WorkerLeft(gone, "its connection is gone", unsent=True))
        assert of(AssignJob, left) == [AssignJob(next_one, 1)]


def test_one_worker_that_fails_again_and_again_is_not_called_three() -> None:
    on = Bench(failures=3)
    on.join("a")
    on(JobSubmitted(1, "cheap", 0))
    for process in ("host-a:2", "host-a:3"):
        on(FailureReceived("a", 1, "worker", "out of memory"))
        on(WorkerJoined("a", "cheap", CARD, process))
    (failure,) = of(FailJob, on(FailureReceived("a", 1, "worker", "out of memory")))
    assert isinstance(failure, FailJob)
    assert "given to 1 worker and broke 1 of them 3 times" in failure.reason


def test_a_job_that_lost_a_worker_goes_to_another_machine() -> None:
    on = Bench()
    for name, process in (("a", "one:1"), ("b", "one:2"), ("c", "two:1")):
        on(WorkerJoined(name, "cheap", CARD, process), after=1.0)
    on(JobSubmitted(1, "cheap", 0))
    assert of(AssignJob, on(WorkerLeft("a", "its connection is gone"))) == [AssignJob("c", 1)]


def test_a_server_that_stood_still_blames_no_worker() -> None:
    on = Bench(failures=1)
    on.join("a", "b")
    on(JobSubmitted(1, "cheap", 0))
    for _ in range(4):
        assert on(ServerPaused(100.0), after=100.0) == []
        assert on(Tick()) == []
    assert of(WorkerLost, on(Tick(), after=5.5)) != [], "from now on it listens"


def test_waiting_for_a_worker_does_not_go_on_while_the_server_stands_still() -> None:
    on = Bench(when_none="stop")
    on.join("a")
    on(JobSubmitted(1, "cheap", 0))
    on(WorkerLeft("a", "gone"))
    assert on(ServerPaused(60.0), after=60.0) == []
    assert of(FailJob, on(Tick(), after=5.1)) != []


def test_a_second_worker_of_a_name_is_rejected_while_the_first_lives() -> None:
    on = Bench()
    on.join("a")
    (turned,) = on(WorkerJoined("a", "cheap", CARD, "elsewhere:7"))
    assert isinstance(turned, RejectWorker)
    assert "--name" in turned.reason
    assert "host-a:1" in turned.reason
    assert on(JobSubmitted(1, "cheap", 0)) == [AssignJob("a", 1)]


def test_where_it_is_not_known_whether_the_first_lives_the_second_asks_again() -> None:
    on = Bench()
    on.join("a")
    newcomer = WorkerJoined("a", "cheap", CARD, "elsewhere:7")
    assert on(newcomer, after=3.0) == []
    on(Tick(), after=2.5)
    assert of(AcceptWorker, on(newcomer)) == [AcceptWorker("a", "cheap", CARD)]


def test_a_rejected_worker_of_a_taken_name_does_not_affect_its_owner() -> None:
    on = Bench()
    on.join("a")
    on(Tick(), after=6.0)
    (turned,) = on(WorkerJoined("a", "cheap", OTHER, "elsewhere:7"))
    assert isinstance(turned, RejectWorker)
    assert "bb" in turned.reason
    assert on.hear("a") == [WorkerRecovered("a")]


def test_a_silent_worker_is_replaced_by_another_of_its_name() -> None:
    on = Bench()
    on.join("a")
    on(JobSubmitted(1, "cheap", 0))
    on(Tick(), after=6.0)
    actions = on(WorkerJoined("a", "cheap", CARD, "elsewhere:7"))
    assert of(AcceptWorker, actions) != []
    assert of(AssignJob, actions) == [AssignJob("a", 1)]


def test_a_job_called_faulty_is_given_to_a_second_worker_first() -> None:
    on = Bench()
    on.join("a", "b")
    on(JobSubmitted(1, "cheap", 0))
    actions = on(FailureReceived("a", 1, "input", "job 1: atoms 3 and 4 are too close"))
    assert actions == [
        JobDisputed("a", 1, "job 1: atoms 3 and 4 are too close"),
        AssignJob("b", 1),
    ]
    (failure,) = on(FailureReceived("b", 1, "input", "job 1: atoms 3 and 4 are too close"))
    assert isinstance(failure, FailJob)
    assert failure.reason == (
        "workers a and b report that job 1 cannot be evaluated: atoms 3 and 4 are too close"
    )
    assert len(on.scheduler.workers) == 2


def test_both_reasons_are_reported_where_two_workers_refuse_for_different_ones() -> None:
    on = Bench()
    on.join("a", "b")
    on(JobSubmitted(1, "cheap", 0))
    on(FailureReceived("a", 1, "input", "too close"))
    (failure,) = of(FailJob, on(FailureReceived("b", 1, "input", "no memory")))
    assert isinstance(failure, FailJob)
    assert "a: too close" in failure.reason
    assert "b: no memory" in failure.reason


def test_a_second_worker_that_can_do_it_is_believed() -> None:
    on = Bench()
    on.join("a", "b")
    on(JobSubmitted(1, "cheap", 0))
    on(FailureReceived("a", 1, "input", "too close"))
    answer = result(1)
    assert on(ResultReceived("b", answer)) == [
        DisputeResolved(1, "b", "a: too close"),
        CompleteJob(1, "b", answer),
    ]


def test_the_second_worker_is_waited_for_and_if_it_goes_the_first_is_believed() -> None:
    on = Bench()
    on.join("a", "b")
    on(JobSubmitted(1, "cheap", 1))
    on(JobSubmitted(2, "cheap", 2))
    assert of(AssignJob, on(FailureReceived("a", 1, "input", "too close"))) == [], (
        "b is busy, a said no"
    )
    assert on(JobSubmitted(3, "cheap", 3)) == [AssignJob("a", 3)], "but a can do others"
    (failure,) = of(FailJob, on(WorkerLeft("b", "gone")))
    assert isinstance(failure, FailJob)
    assert failure.job == 1
    assert "too close" in failure.reason


def test_a_role_whose_workers_are_all_overdue_has_none() -> None:
    on = Bench(when_none="stop")
    on.join("a")
    on(JobSubmitted(1, "cheap", 0))
    on.hear("a", after=100.5)
    actions = on(Tick())
    assert actions == [WorkerOverdue("a", 1), RoleEmpty("cheap")]
    assert "job 1 not done within 100 s" in of(RoleEmpty, actions)[0].reason  # type: ignore[union-attr]
    (failure,) = of(FailJob, on.hear("a", after=5.1))
    assert isinstance(failure, FailJob)
    assert failure.kind == "no_worker"
    assert "no cheap worker answers" in failure.reason


def test_an_overdue_worker_under_hold_may_still_answer() -> None:
    on = Bench(when_none="hold")
    on.join("a")
    on(JobSubmitted(1, "cheap", 0))
    on.hear("a", after=100.5)
    on(Tick())
    answer = result(1)
    assert on(ResultReceived("a", answer), after=50.0) == [
        CompleteJob(1, "a", answer),
        RoleAvailable("cheap"),
    ]
    assert on(JobSubmitted(2, "cheap", 0)) == [AssignJob("a", 2)]


def test_a_hung_worker_is_dropped_after_twice_its_time() -> None:
    on = Bench(failures=2)
    on.join("a")
    on(JobSubmitted(1, "cheap", 0))
    on.hear("a", after=100.5)
    on(Tick())
    on.hear("a", after=100.0)
    reason = "job 1 not done within 200 s"
    assert on(Tick()) == [
        WorkerHung("a", "host-a:1", reason),
        DropWorker("a", reason),
        WorkerLost("a", reason, 1),
    ]
    on.join("b")
    on.hear("b", after=100.5)
    (failure,) = of(FailJob, on(Tick()))
    assert isinstance(failure, FailJob)
    assert "2 workers and not done in time" in failure.reason
    assert "workers.job_timeout_s" in failure.reason


def test_a_silent_hung_worker_is_reported_once_and_dropped_when_it_recovers() -> None:
    on = Bench()
    on.join("a", "b")
    on(JobSubmitted(1, "cheap", 0))
    on.hear("b", after=201.0)
    assert len(of(WorkerHung, on(Tick()))) == 1
    assert of(WorkerHung, on(Tick())) == []
    assert "a" in on.scheduler.workers
    on.hear("a")
    assert of(DropWorker, on(Tick())) != []


def test_a_busy_worker_that_answers_another_job_is_dropped() -> None:
    on = Bench()
    on.join("a", "b")
    on(JobSubmitted(1, "cheap", 0))
    actions = on(ResultReceived("a", result(99)))
    assert of(DropWorker, actions) == [DropWorker("a", "answered job 99 but was asked for job 1")]
    assert of(CompleteJob, actions) == []
    assert of(AssignJob, actions) == [AssignJob("b", 1)]


def test_the_first_worker_pins_the_model_even_after_all_have_died() -> None:
    on = Bench()
    on.join("a")
    on(WorkerLeft("a", "gone"))
    (turned,) = on(WorkerJoined("b", "cheap", OTHER))
    assert isinstance(turned, RejectWorker)
    assert "aa" in turned.reason
    assert "bb" in turned.reason
    assert on(WorkerJoined("b", "cheap", CARD)) == [AcceptWorker("b", "cheap", CARD)]


def test_a_configured_fingerprint_is_demanded_of_the_first_worker() -> None:
    on = Bench(roles={"cheap": "bb"})
    assert isinstance(on(WorkerJoined("a", "cheap", CARD))[0], RejectWorker)
    assert on(WorkerJoined("a", "cheap", OTHER)) == [AcceptWorker("a", "cheap", OTHER)]


def test_a_worker_with_other_units_is_rejected() -> None:
    on = Bench()
    card = msgspec.structs.replace(CARD, units="bohr,hartree")
    (turned,) = on(WorkerJoined("a", "cheap", card))
    assert isinstance(turned, RejectWorker)
    assert "'bohr,hartree'" in turned.reason
    assert "'angstrom,electronvolt'" in turned.reason
    assert on(WorkerJoined("a", "cheap", CARD)) == [
        AcceptWorker("a", "cheap", CARD)
    ]  # it pinned nothing


def test_a_worker_for_an_unused_role_is_rejected() -> None:
    on = Bench(roles={"cheap": ""})
    (turned,) = on(WorkerJoined("a", "expensive", CARD))
    assert isinstance(turned, RejectWorker)
    assert "--role cheap" in turned.reason


def test_hold_waits_for_ever() -> None:
    on = Bench(when_none="hold")
    assert on(JobSubmitted(1, "cheap", 0)) == [RoleEmpty("cheap")]
    assert on(Tick(), after=1e6) == []
    assert on(WorkerJoined("a", "cheap", CARD)) == [
        AcceptWorker("a", "cheap", CARD),
        RoleAvailable("cheap"),
        AssignJob("a", 1),
    ]


def test_stop_fails_jobs_after_patience_and_names_the_last_loss() -> None:
    on = Bench(when_none="stop")
    on.join("a")
    on(JobSubmitted(1, "cheap", 0))
    assert of(FailJob, on(WorkerLeft("a", "its connection is gone"))) == []
    assert on(Tick(), after=4.9) == []
    (failure,) = on(Tick(), after=0.2)
    assert isinstance(failure, FailJob)
    assert failure.kind == "no_worker"
    assert "its connection is gone" in failure.reason


def test_stop_waits_longer_for_the_very_first_worker() -> None:
    on = Bench(when_none="stop", first_worker_s=60.0)
    on(JobSubmitted(1, "cheap", 0))
    assert on(Tick(), after=59.0) == []
    assert of(FailJob, on(Tick(), after=2.0)) != []


def test_a_cancelled_job_is_not_assigned_and_its_result_is_ignored() -> None:
    on = Bench()
    on.join("a")
    on(JobSubmitted(1, "cheap", 0))
    on(JobSubmitted(2, "cheap", 0))
    on(JobCancelled(1))
    on(JobCancelled(2))
    assert on(ResultReceived("a", result(1))) == []
    assert on(JobSubmitted(3, "cheap", 0)) == [AssignJob("a", 3)]


def test_events_of_unknown_workers_are_ignored() -> None:
    on = Bench()
    for event in (
        WorkerAlive("x"),
        ResultReceived("x", result(1)),
        FailureReceived("x", 1, "input", ""),
        WorkerLeft("x", ""),
    ):
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


SIZE = (64, 64, False)


def usual(on: Bench, seconds: float, times: int = 8, size: tuple[int, int, bool] = SIZE) -> None:
    """Jobs of a size that take so long."""
    for number in range(1000, 1000 + times):
        (given,) = of(AssignJob, on(JobSubmitted(number, "cheap", 0, size)))
        assert isinstance(given, AssignJob)
        on(ResultReceived(given.worker, result(number)), after=seconds)


def test_a_job_that_takes_much_longer_than_usual_is_evaluated_twice() -> None:
    on = Bench(patience_s=1000.0, job_timeout_s=1e4)
    on.join("a", "b")
    usual(on, 3.0)
    (given,) = on(JobSubmitted(1, "cheap", 0, SIZE))
    assert isinstance(given, AssignJob)
    other = "b" if given.worker == "a" else "a"
    assert on(Tick(), after=11.9) == []
    assert on(Tick(), after=0.2) == [JobCopied(given.worker, 1, other, 12.0), AssignJob(other, 1)]
    assert on(Tick(), after=50.0) == [], "only one copy"
    answer = result(1)
    assert on(ResultReceived(other, answer)) == [CompleteJob(1, other, answer)]
    assert on(ResultReceived(given.worker, result(1))) == [], "the late one does not matter"
    assert of(AssignJob, on(JobSubmitted(2, "cheap", 0, SIZE))), "and its worker is free again"


@pytest.mark.parametrize(
    ("learned", "asked"),
    [
        pytest.param(7, SIZE, id="too little is known"),
        pytest.param(32, (128, 64, False), id="more atoms"),
        pytest.param(32, (64, 80, False), id="more sites"),
        pytest.param(32, (64, 64, True), id="a criterion"),
    ],
)
def test_a_job_that_is_merely_larger_is_not_late(
    learned: int, asked: tuple[int, int, bool]
) -> None:
    on = Bench(patience_s=1000.0)
    on.join("a", "b")
    usual(on, 1.0, learned)
    on(JobSubmitted(1, "cheap", 0, asked))
    assert on(Tick(), after=90.0) == []


def test_a_smaller_job_that_takes_longer_than_larger_ones_is_late() -> None:
    on = Bench(patience_s=1000.0)
    on.join("a", "b")
    usual(on, 1.0)
    on(JobSubmitted(1, "cheap", 0, (32, 12, False)))
    assert of(JobCopied, on(Tick(), after=5.0))


def test_one_slow_result_does_not_change_what_is_usual() -> None:
    on = Bench(patience_s=1e4, job_timeout_s=1e4)
    on.join("a", "b")
    usual(on, 1.0, 9)
    usual(on, 500.0, 1)
    on(JobSubmitted(1, "cheap", 0, SIZE))
    assert of(JobCopied, on(Tick(), after=4.1))


def test_copies_take_no_worker_from_jobs_that_wait_and_can_be_switched_off() -> None:
    for factor, workers in ((4.0, ("a",)), (0.0, ("a", "b"))):
        on = Bench(patience_s=1000.0, second_copy=factor)
        on.join(*workers)
        usual(on, 1.0)
        on(JobSubmitted(1, "cheap", 0, SIZE))
        assert on(Tick(), after=50.0) == []
    on = Bench(patience_s=1000.0)
    on.join("a", "b")
    usual(on, 1.0)
    on(JobSubmitted(1, "cheap", 0, SIZE))
    on(JobSubmitted(2, "cheap", 0, SIZE))
    on(JobSubmitted(3, "cheap", 0, SIZE))
    assert on(Tick(), after=50.0) == []


def test_a_job_whose_first_worker_dies_stays_with_the_second() -> None:
    on = Bench(patience_s=1000.0)
    on.join("a", "b", "c")
    usual(on, 1.0)
    (given,) = on(JobSubmitted(1, "cheap", 0, SIZE))
    assert isinstance(given, AssignJob)
    (copied,) = of(JobCopied, on(Tick(), after=5.0))
    assert isinstance(copied, JobCopied)
    assert of(AssignJob, on(WorkerLeft(given.worker, "gone"))) == []
    (again,) = of(AssignJob, on(WorkerLeft(copied.other, "gone")))
    assert isinstance(again, AssignJob)
    assert again.worker not in (given.worker, copied.other)


def test_a_spot_check_goes_to_another_process_or_fails() -> None:
    on = Bench()
    on.join("a", "b")
    assert on(JobSubmitted(1, "cheap", 0, checks="a")) == [AssignJob("b", 1)]
    assert on(JobSubmitted(2, "cheap", 0, checks="b")) == [AssignJob("a", 2)]
    assert on(JobSubmitted(3, "cheap", 0, checks="b")) == [], "it waits for the other"
    actions = on(WorkerLeft("a", "gone", orderly=True))
    assert of(FailJob, actions) == [
        FailJob(job, "no_worker", "no second cheap worker is left for it") for job in (2, 3)
    ]


NAMES = st.sampled_from(["a", "b", "c", "d"])
ROLES = st.sampled_from(["cheap", "expensive"])


class SchedulerMachine(RuleBasedStateMachine):
    """Whatever workers do, no job is lost and none is answered twice."""

    @initialize(
        failures=st.sampled_from([1, 3, 10**9]), when_none=st.sampled_from(["hold", "hold", "stop"])
    )
    def start(self, failures: int, when_none: str) -> None:
        self.failures = failures
        self.when_none = when_none
        self.scheduler = Scheduler(policy(failures=failures, when_none=when_none))
        for role in ("cheap", "expensive"):
            for _ in range(8):
                self.scheduler._assigner._durations.record(role, SIZE, 0.1)  # type: ignore[arg-type]
        self.checks: dict[int, tuple[str, str]] = {}
        self.now = 0.0
        self.numbers = 0
        self.roles: dict[int, str] = {}
        self.open: set[int] = set()
        self.at: dict[str, int | None] = {}
        self.role_of: dict[str, str] = {}
        self.given: dict[int, set[str]] = {}
        self.refused: dict[int, set[str]] = {}
        self.holds: int | None = None
        self.cards: dict[str, ModelCard] = {}

    def feed(self, event: object) -> list[Action]:
        actions = self.scheduler.handle(event, self.now)  # type: ignore[arg-type]
        for action in actions:
            match action:
                case AcceptWorker(worker, role, card):
                    self.cards.setdefault(role, card)
                    self.at[worker] = self.holds
                    self.role_of[worker] = role
                case AssignJob(worker, job):
                    assert job in self.open, "a job that is over was handed out"
                    assert self.at[worker] is None, "a busy worker was asked"
                    assert self.role_of[worker] == self.roles[job]
                    assert worker not in self.refused.get(job, ()), "it said no already"
                    assert self.may(worker, job), "a spot check by the same process"
                    self.at[worker] = job
                    self.given.setdefault(job, set()).add(worker)
                case JobDisputed(worker, job):
                    self.refused.setdefault(job, set()).add(worker)
                case CompleteJob(job, worker, answer):
                    assert job in self.open, "a job was answered twice"
                    assert answer.job == job
                    assert self.at[worker] == job, "answered by one that was not asked"
                    assert worker in self.given[job]
                    self.open.discard(job)
                    self.at[worker] = None
                case FailJob(job, kind, reason):
                    assert job in self.open
                    assert reason
                    assert kind == "input" or self.when_none == "stop" or job in self.checks
                    self.open.discard(job)
                case DropWorker(worker) | RejectWorker(worker):
                    if worker not in self.scheduler.workers:
                        self.at.pop(worker, None)
        return actions

    @rule(role=ROLES, stream=st.integers(0, 2))
    def submit(self, role: str, stream: int) -> None:
        self.numbers += 1
        self.roles[self.numbers] = role
        self.open.add(self.numbers)
        self.feed(JobSubmitted(self.numbers, role, stream, SIZE))  # type: ignore[arg-type]

    def may(self, worker: str, job: int) -> bool:
        name, process = self.checks.get(job, ("", ""))
        theirs = self.scheduler.workers[worker].process
        return theirs != process if theirs and process else worker != name

    @rule(name=NAMES, role=ROLES)
    def spot_check(self, name: str, role: str) -> None:
        self.numbers += 1
        self.roles[self.numbers] = role
        self.open.add(self.numbers)
        place = self.scheduler.workers.get(name)
        self.checks[self.numbers] = name, place.process if place is not None else ""
        self.feed(JobSubmitted(self.numbers, role, 0, checks=name))  # type: ignore[arg-type]

    @precondition(lambda self: self.open)
    @rule(data=st.data())
    def withdraw(self, data: st.DataObject) -> None:
        job = data.draw(st.sampled_from(sorted(self.open)))
        self.open.discard(job)
        self.feed(JobCancelled(job))

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
        place = self.scheduler.workers.get(name)
        held = {"what it has": self.at.get(name), "nothing": None, "something else": other}[holds]
        self.holds = held
        actions = self.feed(WorkerJoined(name, role, card, process, held))  # type: ignore[arg-type]
        if place is not None and place.process == process and of(AcceptWorker, actions):
            blamed = [
                a for a in of(FailJob, actions) if isinstance(a, FailJob) and a.kind == "input"
            ]
            assert blamed == [], "a reconnect counts against no job"
        if place is not None and not place.silent and place.process != process:
            assert of(AcceptWorker, actions) == [], "the owner of a name lives"
            assert self.scheduler.workers[name] is place
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
        assert len(of(CompleteJob, self.feed(ResultReceived(name, result(job))))) == counts

    @rule(name=NAMES, job=st.integers(0, 30))
    def answer_anything(self, name: str, job: int) -> None:
        if self.at.get(name) == job:
            self.say(name, job)
        else:
            assert of(CompleteJob, self.feed(ResultReceived(name, result(job)))) == []

    @precondition(lambda self: any(job is not None for job in self.at.values()))
    @rule(data=st.data(), blame=st.sampled_from(["input", "worker", "worker"]))
    def fail(self, data: st.DataObject, blame: str) -> None:
        name = data.draw(st.sampled_from(sorted(n for n, job in self.at.items() if job)))
        job = self.at[name]
        self.at[name] = None
        self.feed(FailureReceived(name, job, blame, "it broke"))  # type: ignore[arg-type]

    @rule(name=NAMES, job=st.integers(0, 30), blame=st.sampled_from(["input", "worker"]))
    def fail_anything(self, name: str, job: int, blame: str) -> None:
        if self.at.get(name) == job:
            self.at[name] = None
        self.feed(FailureReceived(name, job, blame, "it broke"))  # type: ignore[arg-type]

    @rule(name=NAMES, orderly=st.booleans(), unsent=st.booleans())
    def leave(self, name: str, orderly: bool, unsent: bool) -> None:
        self.at.pop(name, None)
        self.feed(WorkerLeft(name, "gone", orderly, unsent))

    @rule(seconds=st.sampled_from([0.5, 7.0, 150.0]))
    def stand_still(self, seconds: float) -> None:
        self.now += seconds
        actions = self.feed(ServerPaused(seconds)) + self.feed(Tick())
        assert of(FailJob, actions) == [], "no worker is to blame for a pause of the server"

    @rule(name=NAMES)
    def hear(self, name: str) -> None:
        self.feed(WorkerAlive(name))

    @rule(seconds=st.sampled_from([0.1, 2.0, 6.0, 101.0]))
    def pass_time(self, seconds: float) -> None:
        self.now += seconds
        self.feed(Tick())

    @invariant()
    def every_open_job_is_waited_for_or_worked_on(self) -> None:
        if not hasattr(self, "scheduler"):
            return
        places = self.scheduler.workers
        for job in self.open:
            role = self.roles[job]
            worked_on = any(place.job == job for place in places.values())
            free = [n for n, p in places.items() if p.role == role and p.job is None]
            free = [n for n in free if not places[n].silent]
            free = [n for n in free if n not in self.refused.get(job, ()) and self.may(n, job)]
            free = [] if job in self.scheduler.suspended else free
            assert worked_on or not free, f"job {job} lies about while {free} are idle"

    def teardown(self) -> None:
        """However it went: with good workers that stay, every job that is open is answered."""
        if not hasattr(self, "scheduler"):
            return
        for role in ("cheap", "expensive"):
            card = self.cards.get(role, CARD)
            self.feed(WorkerJoined(f"good-{role}", role, card, f"good:{role}"))  # type: ignore[arg-type]
        # the others have hung: only the good ones are heard
        for seconds in (150.0, 6.0):  # longer than job_timeout_s, not twice; longer than patience
            self.now += seconds
            for role in ("cheap", "expensive"):
                self.feed(WorkerAlive(f"good-{role}"))
            self.feed(Tick())
        for _ in range(2 * len(self.open) + 2):
            for role in ("cheap", "expensive"):
                name = f"good-{role}"
                if (job := self.at.get(name)) is not None:
                    self.say(name, job)
        assert not self.open, f"jobs were lost: {self.open}"


SchedulerMachine.TestCase.settings = settings(
    max_examples=150, stateful_step_count=40, deadline=None
)
test_no_job_is_lost_and_none_is_answered_twice = SchedulerMachine.TestCase
