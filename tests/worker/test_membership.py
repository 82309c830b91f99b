"""When a link joins again, beats and gives up, on a clock of the test's own."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mixserver_worker.membership import Membership

PATIENCE = 4.0


def joined(now: float = 0.0) -> Membership:
    membership = Membership(math.inf, now)
    membership.welcome(1.0, PATIENCE)
    return membership


def test_a_server_that_sends_nothing_is_silent_after_its_patience() -> None:
    membership = joined()
    for now in (0.5, 1.0, 3.9):
        membership.woke(now, now)
        assert not membership.server_silent
    membership.woke(4.1, 4.0)
    assert membership.server_silent
    membership.received(4.1)
    assert not membership.server_silent


@given(pause=st.floats(0.6, 1e6))
def test_a_pause_of_the_link_is_not_the_servers_silence(pause: float) -> None:
    membership = joined()
    membership.woke(pause, 0.5)
    assert not membership.server_silent


def test_a_heartbeat_is_due_when_nothing_was_sent_for_half_the_interval() -> None:
    membership = joined()
    assert not membership.heartbeat_due(0.4)
    assert membership.heartbeat_due(0.5)
    membership.sent(0.5)
    assert not membership.heartbeat_due(0.9)
    membership.lost(0.9)
    assert not membership.heartbeat_due(9.0)


def test_a_server_that_never_answers_is_missing_after_the_wait() -> None:
    membership = Membership(2.0, 10.0)
    assert membership.poll_s == 0.5
    membership.woke(11.8, 1.8)
    assert membership.poll_s == pytest.approx(0.2)
    assert not membership.server_missing
    membership.woke(12.0, 0.2)
    assert membership.server_missing


def test_the_wait_begins_again_when_a_server_is_lost() -> None:
    membership = Membership(2.0, 0.0)
    membership.welcome(1.0, PATIENCE)
    membership.lost(50.0)
    membership.woke(51.9, 51.9)
    assert not membership.server_missing
    membership.lost(51.9)
    membership.woke(52.0, 0.1)
    assert membership.server_missing, "it was alone already"


def test_a_hello_that_got_lost_is_repeated_long_before_the_patience_has_passed() -> None:
    membership = joined()
    now, waited = 0.0, list[float]()
    for _ in range(4):
        membership.said_hello(now)
        start = now
        while not membership.server_silent:
            now += 0.25
            membership.woke(now, 0.25)
        waited.append(now - start)
    assert waited == [1.25, 2.25, 4.25, 4.25], "twice as long each, up to the patience"
    membership.welcome(1.0, PATIENCE)
    membership.said_hello(now)
    membership.woke(now + 1.1, 1.1)
    assert membership.server_silent, "the next connection begins anew"
