"""The link against a bare ROUTER that plays the server, good or bad."""

from __future__ import annotations

import ctypes
import threading
import time
from collections.abc import Iterator

import numpy as np
import pytest
import zmq
from mixserver_worker.link import ServerLink

from mixserver.core.errors import ConfigError, PeerGone, ProtocolError
from mixserver.wire.worker import (
    VERSION,
    Evaluate,
    Failure,
    Goodbye,
    Heartbeat,
    Hello,
    Message,
    ModelCard,
    Refused,
    Result,
    Unknown,
    Welcome,
)
from mixserver.wire.worker_frames import decode, encode

HELLO = Hello(
    protocol=VERSION,
    role="cheap",
    name="w",
    model=ModelCard(engine="toy", name="toy", fingerprint="aa"),
)
WELCOME = Welcome(heartbeat_s=0.1, patience_s=0.6)


def job(number: int) -> Evaluate:
    return Evaluate(
        job=number,
        stream=0,
        positions=np.zeros((2, 3)),
        numbers=np.ones(2, np.int32),
        cell=np.eye(3),
        pbc=(True, True, True),
    )


def result(number: int) -> Result:
    return Result(job=number, energy=1.0, forces=np.zeros((2, 3)), virial=np.eye(3))


class Server:
    """Says what the test wants it to say."""

    def __init__(self, address: str = "tcp://127.0.0.1:*") -> None:
        self.context = zmq.Context()
        self.socket = self.context.socket(zmq.ROUTER)
        self.socket.setsockopt(zmq.LINGER, 100)
        self.socket.bind(address)
        self.address = self.socket.getsockopt_string(zmq.LAST_ENDPOINT)
        self.worker = b""

    def hear(self, kind: type[Message], *, within: float = 5.0) -> Message:
        """The next message of a kind; the rest is skipped."""
        until = time.monotonic() + within
        while self.socket.poll(max(0.0, 1e3 * (until - time.monotonic()))):
            self.worker, *frames = self.socket.recv_multipart()
            message = decode(frames)
            if isinstance(message, kind):
                return message
        raise TimeoutError(f"no {kind.__name__} within {within} s")

    def say(self, message: Message) -> None:
        self.socket.send_multipart([self.worker, *encode(message)])

    def welcome(self) -> None:
        self.hear(Hello)
        self.say(WELCOME)

    def close(self) -> None:
        self.context.destroy(linger=100)


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    yield server
    server.close()


def test_a_hello_introduces_the_worker_and_heartbeats_follow(server: Server) -> None:
    with ServerLink(server.address, HELLO):
        hello = server.hear(Hello)
        assert isinstance(hello, Hello)
        assert (hello.name, hello.model.fingerprint) == ("w", "aa")
        server.say(WELCOME)
        for _ in range(5):
            server.hear(Heartbeat)


def test_a_worker_that_stays_serves_the_next_server_and_then_ends(server: Server) -> None:
    with ServerLink(server.address, HELLO, stay_s=8.0) as link:
        server.welcome()
        server.say(Goodbye(reason="it crashed"))
        server.close()
        following = Server(server.address)
        try:
            following.welcome()
            following.say(job(7))
            assert next(link.jobs()).job == 7
            link.send_result(result(7))
            following.hear(Result)
            following.say(Goodbye(reason="it is done"))
        finally:
            following.close()
        assert list(link.jobs()) == []  # nobody came within stay_s: an orderly end
        assert link.error is None


def test_jobs_come_and_answers_go(server: Server) -> None:
    with ServerLink(server.address, HELLO) as link:
        server.welcome()
        jobs = link.jobs()
        server.say(job(4))
        assert next(jobs).job == 4
        link.send_result(result(4))
        answer = server.hear(Result)
        assert isinstance(answer, Result)
        assert answer.job == 4
        server.say(job(5))
        link.report_bad_input(next(jobs), "no such element")
        failure = server.hear(Failure)
        assert isinstance(failure, Failure)
        assert (failure.job, failure.blame, failure.message) == (5, "input", "no such element")
        server.say(job(6))
        link.report_fault(next(jobs), "broken")
        failure = server.hear(Failure)
        assert isinstance(failure, Failure)
        assert failure.blame == "worker"


def test_an_answer_is_sent_once(server: Server) -> None:
    with ServerLink(server.address, HELLO) as link:
        server.welcome()
        server.say(job(1))
        next(link.jobs())
        link.send_result(result(1))
        link.send_result(result(1))
        server.hear(Result)
        with pytest.raises(TimeoutError):
            server.hear(Result, within=0.3)


def test_heartbeats_go_on_during_a_job_and_name_it(server: Server) -> None:
    with ServerLink(server.address, HELLO) as link:
        server.welcome()
        server.say(job(9))
        next(link.jobs())
        beats = 0
        while beats < 5:
            beat = server.hear(Heartbeat)
            server.say(Heartbeat())
            assert isinstance(beat, Heartbeat)
            beats += beat.job == 9


def test_the_servers_goodbye_ends_it(server: Server) -> None:
    ended = threading.Event()
    with ServerLink(server.address, HELLO, on_end=ended.set) as link:
        server.welcome()
        server.say(Goodbye(reason="the run is over"))
        assert list(link.jobs()) == []
        assert ended.is_set()
        assert link.error is None


def test_a_rejection_ends_it_with_the_reason(server: Server) -> None:
    with ServerLink(server.address, HELLO) as link:
        server.hear(Hello)
        server.say(Refused(reason="fingerprint aa, wanted bb"))
        with pytest.raises(ConfigError, match="wanted bb"):
            list(link.jobs())


def test_texts_of_a_server_are_made_printable(server: Server) -> None:
    with ServerLink(server.address, HELLO) as link:
        server.hear(Hello)
        server.say(Refused(reason="\x1b]0;owned\x07 go away " + "x" * 5000))
        with pytest.raises(ConfigError) as refused:
            list(link.jobs())
    assert str(refused.value).isprintable()
    assert len(str(refused.value)) <= 1000


def test_a_long_traceback_of_an_engine_is_cut_before_it_is_sent(server: Server) -> None:
    with ServerLink(server.address, HELLO) as link:
        server.welcome()
        server.say(job(1))
        link.report_fault(next(link.jobs()), "RuntimeError\n" + "  at line 3\n" * 50_000)
        failure = server.hear(Failure)
        assert isinstance(failure, Failure)
        assert failure.message.startswith("RuntimeError at line 3")
        assert len(failure.message) <= 1000


def test_leaving_the_context_says_goodbye(server: Server) -> None:
    with ServerLink(server.address, HELLO):
        server.welcome()
        server.hear(Heartbeat)
    assert isinstance(server.hear(Goodbye), Goodbye)


def test_the_last_failure_still_gets_out(server: Server) -> None:
    with ServerLink(server.address, HELLO) as link:
        server.welcome()
        server.say(job(1))
        link.report_fault(next(link.jobs()), "dying")
    assert isinstance(server.hear(Failure), Failure)
    assert isinstance(server.hear(Goodbye), Goodbye)


def test_a_silent_server_is_joined_again_with_the_job_in_hand(server: Server) -> None:
    with ServerLink(server.address, HELLO) as link:
        server.welcome()
        server.say(job(1))
        next(link.jobs())
        hello = server.hear(Hello, within=30.0)  # nothing was said for patience_s
        assert isinstance(hello, Hello)
        assert hello.job == 1
        link.send_result(result(1))
        with pytest.raises(TimeoutError):  # not before it is a member
            server.hear(Result, within=0.3)
        server.say(WELCOME)
        answer = server.hear(Result)
        assert isinstance(answer, Result)
        assert answer.job == 1


def test_a_result_that_may_not_have_arrived_is_sent_again_after_joining(server: Server) -> None:
    with ServerLink(server.address, HELLO) as link:
        server.welcome()
        server.say(job(1))
        jobs = link.jobs()
        next(jobs)
        link.send_result(result(1))
        server.hear(Result)
        server.say(Unknown())  # as if the connection had broken with the result in it
        hello = server.hear(Hello)
        assert isinstance(hello, Hello)
        assert hello.job == 1
        server.say(WELCOME)
        answer = server.hear(Result)
        assert isinstance(answer, Result)
        assert answer.job == 1
        server.say(job(2))  # so the server has it
        next(jobs)
        link.report_bad_input(job(2), "no")
        server.hear(Failure)
        server.say(job(3))
        next(jobs)
        server.say(Unknown())
        hello = server.hear(Hello)
        assert isinstance(hello, Hello)
        assert hello.job == 3


def test_waiting_messages_are_read_before_silence_is_judged(server: Server) -> None:
    """A link that could not run for long, as where an engine holds the interpreter's lock."""
    with ServerLink(server.address, HELLO) as link:
        server.welcome()
        server.hear(Heartbeat)
        server.say(job(1))
        assert next(link.jobs()).job == 1
        pause = ctypes.PyDLL(None).usleep  # with the lock held: no other thread runs
        for _ in range(3):
            server.say(Heartbeat())
            pause(int(2e6 * WELCOME.patience_s))
        server.say(Heartbeat())
        link.send_result(result(1))
        until = time.monotonic() + 30.0
        while time.monotonic() < until:
            server.worker, *frames = server.socket.recv_multipart()
            said = decode(frames)
            assert not isinstance(said, Hello), "it has joined again"
            if isinstance(said, Result):
                break
        assert isinstance(said, Result)


def test_a_job_of_an_earlier_membership_is_not_begun(server: Server) -> None:
    with ServerLink(server.address, HELLO) as link:
        server.welcome()
        server.say(job(1))
        time.sleep(0.1)
        server.say(Unknown())
        server.welcome()
        server.say(job(2))
        assert next(link.jobs()).job == 2


def test_a_server_that_does_not_know_the_worker_gets_one_hello(server: Server) -> None:
    with ServerLink(server.address, HELLO):
        server.welcome()
        server.hear(Heartbeat)
        server.say(Unknown())
        server.say(Unknown())
        server.hear(Hello)
        with pytest.raises(TimeoutError):
            server.hear(Hello, within=0.3)


def test_a_worker_waits_for_a_server_that_does_not_exist_yet() -> None:
    first = Server()
    address = first.address
    first.close()
    with ServerLink(address, HELLO):
        time.sleep(0.3)
        late = Server(address)
        try:
            late.welcome()
            late.hear(Heartbeat)
        finally:
            late.close()


def test_a_worker_finds_a_restarted_server() -> None:
    first = Server()
    with ServerLink(first.address, HELLO):
        first.welcome()
        first.hear(Heartbeat)
        address = first.address
        first.close()
        second = Server(address)
        try:
            second.welcome()
            second.hear(Heartbeat)
        finally:
            second.close()


def test_waiting_can_be_limited() -> None:
    words = r"tcp://127\.0\.0\.1:1 within 0\.2 s"
    link = ServerLink("tcp://127.0.0.1:1", HELLO, wait_s=0.2)
    with link, pytest.raises(PeerGone, match=words):
        list(link.jobs())


@pytest.mark.parametrize("address", ["nonsense", "tcp://127.0.0.1", "tcp://127.0.0.1:x"])
def test_a_malformed_address_ends_it(address: str) -> None:
    with ServerLink(address, HELLO) as link, pytest.raises(ConfigError, match="--server"):
        list(link.jobs())


def test_garbage_from_the_server_ends_it(server: Server) -> None:
    with ServerLink(server.address, HELLO) as link:
        server.hear(Hello)
        server.socket.send_multipart([server.worker, b"\xc1\xc1"])
        with pytest.raises(ProtocolError, match="is not a mixserver of this version"):
            list(link.jobs())


def test_no_thread_outlives_the_link(server: Server) -> None:
    before = set(threading.enumerate())
    with ServerLink(server.address, HELLO):
        server.welcome()
    assert not {t for t in threading.enumerate() if t.name == "link"} - before
