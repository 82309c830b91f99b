"""When a worker that got a signal leaves."""

from __future__ import annotations

import os

import pytest
from mixserver_worker.leaving import Leaving


def test_it_leaves_after_its_job() -> None:
    leaving = Leaving()
    assert not leaving.due(idle=True, joined=True), "no signal came"
    leaving.signalled("SIGTERM", 10.0)
    assert not leaving.due(idle=False, joined=True)
    assert leaving.due(idle=True, joined=True)
    assert leaving.due(idle=False, joined=False), "there is no server to finish a job for"


@pytest.mark.parametrize(("after", "at_once"), [(0.1, False), (1.5, True)])
def test_a_second_signal_ends_it_and_one_delivered_twice_does_not(
    after: float, at_once: bool
) -> None:
    leaving = Leaving()
    leaving.signalled("SIGTERM", 10.0)
    leaving.signalled("SIGTERM", 10.0 + after)
    assert leaving.due(idle=False, joined=True) is at_once


def test_one_whose_parent_died_leaves_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    leaving = Leaving()
    monkeypatch.setattr(os, "getppid", lambda: 1)
    leaving.signalled("SIGTERM", 10.0)
    assert leaving.due(idle=False, joined=True)
