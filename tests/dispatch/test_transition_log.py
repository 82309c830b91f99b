"""The log of transitions: what it keeps, and how it is queried."""

from __future__ import annotations

import numpy as np

from mixserver.dispatch.scheduling.actions import AssignJob, CompleteJob, FailJob, WorkerLost
from mixserver.dispatch.transition_log import Transition, TransitionLog
from mixserver.wire.worker import Result

RESULT = Result(job=1, energy=0.0, forces=np.zeros((1, 3)), virial=np.zeros((3, 3)))


def filled() -> TransitionLog:
    log = TransitionLog(size=5)
    log.record(AssignJob("a", 1), 10.0)
    log.record(AssignJob("b", 2), 10.5)
    log.record(WorkerLost("a", "silent for 5.0 s", 1), 15.0)
    log.record(AssignJob("b", 1), 15.0)
    return log


def test_a_job_and_a_worker_have_their_transitions() -> None:
    log = filled()
    assert log.select(job=1, worker="a") == [
        Transition(10.0, "AssignJob", "a", 1),
        Transition(15.0, "WorkerLost", "a", 1, "silent for 5.0 s"),
    ]
    assert [step.job for step in log.select(worker="b")] == [2, 1]
    assert len(log.select()) == 4


def test_old_transitions_are_dropped() -> None:
    log = filled()
    for job in range(3, 8):
        log.record(AssignJob("a", job), 20.0)
    assert [step.job for step in log.select()] == [3, 4, 5, 6, 7]


def test_no_array_is_kept() -> None:
    log = TransitionLog()
    log.record(CompleteJob(1, "a", RESULT), 1.0)
    assert log.select() == [Transition(1.0, "CompleteJob", "a", 1)]


def test_a_description_is_one_line_relative_to_the_first_assignment() -> None:
    log = filled()
    log.record(FailJob(1, "input", "it broke 2 workers"), 16.0)
    assert log.describe(1) == (
        "0.0 s: AssignJob a; 5.0 s: WorkerLost a (silent for 5.0 s); 5.0 s: AssignJob b"
    )
