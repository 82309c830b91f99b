"""The ZeroMQ listener on real sockets, with workers that behave and others that do not."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import msgspec
import numpy as np
import pytest
import zmq
from limits import HANG_S

from mixserver.core.errors import ConfigError
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
from mixserver.dispatch.zmq_workers.listener import ZmqListener
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

POLICY = Policy(roles={"cheap": ""}, patience_s=1.0, heartbeat_s=0.2)


class Caller:
    """A worker as bare as can be: one DEALER that says what the test wants it to say."""

    def __init__(self, address: str) -> None:
        self.context = zmq.Context()
        self.socket = self.context.socket(zmq.DEALER)
        self.socket.setsockopt(zmq.LINGER, 200)
        self.socket.connect(address)

    def say(self, message: Message) -> None:
        self.socket.send_multipart(encode(message))

    async def hear(self, kind: type[Message]) -> Message:
        """The next message of a kind."""
        async with asyncio.timeout(HANG_S):
            while True:
                try:
                    message = decode(self.socket.recv_multipart(zmq.DONTWAIT))
                except zmq.Again:
                    await asyncio.sleep(0.002)
                    continue
                if isinstance(message, kind):
                    return message

    def close(self) -> None:
        self.context.destroy(linger=200)


class Hall:
    """An open listener and everything it has reported."""

    def __init__(self, listener: ZmqListener) -> None:
        self.listener = listener
        self.events: list[WorkerEvent] = []
        self.callers: list[Caller] = []
        self.refuse = ""
        self.then: Callable[[WorkerEvent], None] = lambda event: None
        """What follows from an event at once."""

    def note(self, listener: Listener, event: WorkerEvent) -> None:
        assert listener is self.listener
        self.events.append(event)
        if isinstance(event, WorkerJoined) and self.refuse:
            listener.drop(event.worker, self.refuse)
        elif isinstance(event, WorkerJoined):
            listener.welcome(event.worker)
        self.then(event)

    def caller(self) -> Caller:
        self.callers.append(Caller(self.listener.address))
        return self.callers[-1]

    async def join(self, hello: Hello) -> Caller:
        caller = self.caller()
        caller.say(hello)
        assert isinstance(await caller.hear(Welcome), Welcome)
        return caller

    async def event(self, kind: type[WorkerEvent]) -> WorkerEvent:
        async with asyncio.timeout(HANG_S):
            while True:
                for event in self.events:
                    if isinstance(event, kind):
                        self.events.remove(event)
                        return event
                await asyncio.sleep(0.002)


@pytest.fixture
async def hall() -> AsyncIterator[Hall]:
    hall = Hall(ZmqListener("tcp://127.0.0.1:0", POLICY))
    await hall.listener.open(hall.note)
    yield hall
    await hall.listener.close("the test ends")
    for caller in hall.callers:
        caller.close()


@pytest.fixture
def hello(card: ModelCard) -> Hello:
    return Hello(protocol=VERSION, role="cheap", name="w", model=card, host="here", pid=1)


async def test_port_0_finds_a_free_port(hall: Hall) -> None:
    assert int(hall.listener.address.rpartition(":")[2]) > 0


async def test_a_worker_is_accepted_gets_a_job_and_returns_it(
    hall: Hall, hello: Hello, question: Evaluate
) -> None:
    caller = await hall.join(hello)
    joined = await hall.event(WorkerJoined)
    assert isinstance(joined, WorkerJoined)
    assert (joined.worker, joined.role, joined.card.fingerprint) == ("w", "cheap", "aa")
    hall.listener.send("w", msgspec.structs.replace(question, job=7))
    asked = await caller.hear(Evaluate)
    assert isinstance(asked, Evaluate)
    np.testing.assert_array_equal(asked.positions, question.positions)
    caller.say(Heartbeat(job=7))
    assert await hall.event(WorkerAlive) == WorkerAlive("w")
    caller.say(Result(job=7, energy=1.5, forces=np.ones((4, 3)), virial=np.eye(3)))
    answered = await hall.event(ResultReceived)
    assert isinstance(answered, ResultReceived)
    assert (answered.worker, answered.result.job, answered.result.energy) == ("w", 7, 1.5)
    caller.say(Failure(job=8, blame="input", message="no"))
    assert await hall.event(FailureReceived) == FailureReceived("w", 8, "input", "no")
    caller.say(Goodbye(reason="tired"))
    assert await hall.event(WorkerLeft) == WorkerLeft("w", "tired", orderly=True)


async def test_large_arrays_go_through_unchanged(hall: Hall, hello: Hello) -> None:
    caller = await hall.join(hello)
    n = 50_000
    rng = np.random.default_rng(0)
    job = Evaluate(
        job=1,
        stream=0,
        positions=rng.random((n, 3)),
        numbers=rng.integers(1, 90, n, dtype=np.int32),
        cell=rng.random((3, 3)),
        pbc=(True, False, True),
        weight=rng.random(n),
    )
    hall.listener.send("w", job)
    asked = await caller.hear(Evaluate)
    assert isinstance(asked, Evaluate)
    for name in ("positions", "numbers", "cell", "weight"):
        np.testing.assert_array_equal(getattr(asked, name), getattr(job, name))
    caller.say(Result(job=1, energy=0.0, forces=job.positions, virial=np.eye(3)))
    answered = await hall.event(ResultReceived)
    assert isinstance(answered, ResultReceived)
    np.testing.assert_array_equal(answered.result.forces, job.positions)
    assert answered.result.forces.flags.aligned


async def test_the_server_sends_heartbeats(hall: Hall, hello: Hello) -> None:
    caller = await hall.join(hello)
    for _ in range(3):
        assert isinstance(await caller.hear(Heartbeat), Heartbeat)


async def test_a_vanished_connection_is_noticed_without_waiting_for_silence(
    hello: Hello,
) -> None:
    patient = Policy(roles={"cheap": ""}, patience_s=10 * HANG_S, heartbeat_s=0.2)
    hall = Hall(ZmqListener("tcp://127.0.0.1:0", patient))
    await hall.listener.open(hall.note)
    (await hall.join(hello)).close()
    hall.callers.clear()
    assert await hall.event(WorkerLeft) == WorkerLeft("w", "its connection is gone", orderly=False)
    await hall.listener.close("")


async def test_a_job_for_one_that_has_gone_is_reported_not_raised(
    hall: Hall, hello: Hello, question: Evaluate
) -> None:
    hall.listener.send("unknown", question)
    assert isinstance(await hall.event(WorkerLeft), WorkerLeft)
    caller = await hall.join(hello)
    caller.say(Goodbye())
    await hall.event(WorkerLeft)
    hall.listener.send("w", question)
    assert isinstance(await hall.event(WorkerLeft), WorkerLeft)


async def test_a_peer_that_sent_no_hello_is_unknown(hall: Hall) -> None:
    caller = hall.caller()
    caller.say(Result(job=1, energy=0.0, forces=np.zeros((1, 3)), virial=np.eye(3)))
    assert isinstance(await caller.hear(Unknown), Unknown)
    assert hall.events == []


async def test_another_protocol_version_is_refused_with_both_versions(
    hall: Hall, hello: Hello
) -> None:
    caller = hall.caller()
    caller.say(msgspec.structs.replace(hello, protocol=VERSION + 1))
    refused = await caller.hear(Refused)
    assert isinstance(refused, Refused)
    assert f"version {VERSION + 1}" in refused.reason
    assert f"version {VERSION};" in refused.reason
    assert hall.events == []


async def test_a_second_worker_of_a_name_replaces_the_first_if_it_is_accepted(
    hall: Hall, hello: Hello, question: Evaluate
) -> None:
    first = await hall.join(hello)
    second = await hall.join(msgspec.structs.replace(hello, pid=2))
    refused = await first.hear(Refused)
    assert isinstance(refused, Refused)
    assert "--name" in refused.reason
    hall.listener.send("w", question)
    assert isinstance(await second.hear(Evaluate), Evaluate)


async def test_the_same_worker_may_reconnect(hall: Hall, hello: Hello, question: Evaluate) -> None:
    await hall.join(hello)
    again = await hall.join(hello)
    hall.listener.send("w", question)
    assert isinstance(await again.hear(Evaluate), Evaluate)


async def test_a_worker_of_a_taken_name_that_is_rejected_does_not_affect_its_owner(
    hall: Hall, hello: Hello, question: Evaluate
) -> None:
    first = await hall.join(hello)
    hall.refuse = "another model"
    second = hall.caller()
    second.say(msgspec.structs.replace(hello, pid=2))
    refused = await second.hear(Refused)
    assert isinstance(refused, Refused)
    assert refused.reason == "another model"
    hall.listener.send("w", question)
    assert isinstance(await first.hear(Evaluate), Evaluate)
    first.say(Heartbeat())
    assert await hall.event(WorkerAlive) == WorkerAlive("w")


async def test_a_worker_started_again_under_its_name_finds_it_free_at_once(
    hall: Hall, hello: Hello
) -> None:
    first = await hall.join(hello)
    await hall.event(WorkerJoined)
    first.close()
    hall.callers.remove(first)
    await hall.join(msgspec.structs.replace(hello, pid=2))
    left, joined = hall.events
    assert left == WorkerLeft("w", "its connection is gone")
    assert isinstance(joined, WorkerJoined)
    assert joined.process == "here:2@0.000"


async def test_a_job_that_cannot_be_sent_is_reported_as_unsent(
    hall: Hall, hello: Hello, question: Evaluate
) -> None:
    caller = await hall.join(hello)
    caller.close()
    hall.callers.remove(caller)
    async with asyncio.timeout(HANG_S):
        while WorkerLeft("w", "its connection is gone", unsent=True) not in hall.events:
            hall.listener.send("w", question)
            await asyncio.sleep(0.01)


async def test_the_heart_beats_on_though_one_death_brings_another_to_light(
    hall: Hall, hello: Hello, question: Evaluate
) -> None:
    names = ("busy", "idle", "third")
    callers = [await hall.join(msgspec.structs.replace(hello, name=name)) for name in names]

    def hand_on(event: WorkerEvent) -> None:
        """What the scheduler does with the job of a worker that has left."""
        if isinstance(event, WorkerLeft) and event.worker == "busy":
            hall.listener.send("idle", question)

    hall.then = hand_on
    for caller in callers[:2]:
        caller.context.destroy(linger=0)
        hall.callers.remove(caller)
    gone = {(await hall.event(WorkerLeft)).worker for _ in range(2)}
    assert gone == {"busy", "idle"}
    for _ in range(3):
        assert isinstance(await callers[2].hear(Heartbeat), Heartbeat)


async def test_a_hello_names_its_process_and_the_job_it_holds(hall: Hall, hello: Hello) -> None:
    await hall.join(msgspec.structs.replace(hello, job=17, started=5.25))
    joined = await hall.event(WorkerJoined)
    assert isinstance(joined, WorkerJoined)
    assert (joined.process, joined.job) == ("here:1@5.250", 17)


@pytest.mark.parametrize(
    "changes",
    [
        {"name": ""},
        {"name": " w"},
        {"name": "a" * 201},
        {"name": "gpu\x1b[2J"},
        {"name": "two\nlines"},
    ],
)
async def test_an_invalid_name_is_refused_in_printable_words(
    hall: Hall, hello: Hello, changes: dict[str, object]
) -> None:
    caller = hall.caller()
    caller.say(msgspec.structs.replace(hello, **changes))
    refused = await caller.hear(Refused)
    assert isinstance(refused, Refused)
    assert "--name" in refused.reason
    assert refused.reason.isprintable()
    assert len(refused.reason) < 500
    assert hall.events == []


async def test_a_fingerprint_of_any_length_is_not_one(hall: Hall, hello: Hello) -> None:
    model = msgspec.structs.replace(hello.model, fingerprint="ab" * 4000)
    caller = hall.caller()
    caller.say(msgspec.structs.replace(hello, model=model))
    refused = await caller.hear(Refused)
    assert isinstance(refused, Refused)
    assert "fingerprint" in refused.reason


async def test_what_workers_say_commands_no_terminal_and_fills_no_log(
    hall: Hall, hello: Hello
) -> None:
    model = msgspec.structs.replace(hello.model, name="m\x1b]0;owned\x07" + "x" * 5000)
    caller = await hall.join(msgspec.structs.replace(hello, model=model))
    joined = await hall.event(WorkerJoined)
    assert isinstance(joined, WorkerJoined)
    assert joined.card.name.isprintable()
    assert len(joined.card.name) == 200
    caller.say(Failure(job=1, blame="input", message="\x1b[31m\nred\u202e" + "y" * 20_000))
    failed = await hall.event(FailureReceived)
    assert isinstance(failed, FailureReceived)
    assert failed.message.startswith("\\x1b[31m red\\u202eyyy")
    assert len(failed.message) == 1000
    caller.say(Goodbye(reason="\x1b[2J"))
    left = await hall.event(WorkerLeft)
    assert isinstance(left, WorkerLeft)
    assert left.reason == "\\x1b[2J"


async def test_a_frame_larger_than_the_case_can_need_is_not_received(
    hello: Hello, question: Evaluate
) -> None:
    hall = Hall(ZmqListener("tcp://127.0.0.1:0", POLICY, atoms=1000))
    await hall.listener.open(hall.note)
    try:
        good, bad = await hall.join(hello), hall.caller()
        bad.socket.send_multipart([b"x" * (8 << 20)])
        bad.say(msgspec.structs.replace(hello, name="bad"))
        good.say(Failure(job=7, blame="input", message=""))
        await hall.event(FailureReceived)
        many = np.zeros((1_000_000, 3))
        numbers = np.ones(len(many), np.int32)
        hall.listener.send("w", msgspec.structs.replace(question, positions=many, numbers=numbers))
        failed = await hall.event(FailureReceived)
        assert isinstance(failed, FailureReceived)
        assert "1000000 atoms" in failed.message
        assert failed.blame == "input"
    finally:
        await hall.listener.close("")
        for caller in hall.callers:
            caller.close()


async def test_garbage_is_logged_once_a_second_and_the_rest_is_counted(
    hello: Hello, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0]
    hall = Hall(ZmqListener("tcp://127.0.0.1:0", POLICY, clock=lambda: now[0]))
    logged: list[dict[str, object]] = []
    monkeypatch.setattr(
        "mixserver.dispatch.zmq_workers.listener.log.warning",
        lambda event, **more: logged.append(more),
    )
    await hall.listener.open(hall.note)
    try:
        good = await hall.join(hello)
        for second in (0.0, 1.5):
            now[0] = second
            bad = hall.caller()  # its connection is ended soon after
            for _ in range(300):
                bad.socket.send_multipart([b"\xc1" * 100])
            await bad.hear(Refused)
            good.say(Heartbeat())
            await hall.event(WorkerAlive)
        assert 2 <= len(logged) <= 3  # what the first has sent may be read in the next second
        assert 1 <= int(str(logged[1]["suppressed"])) < 300
        assert all(len(str(more["reason"])) < 400 for more in logged)
    finally:
        await hall.listener.close("")
        for caller in hall.callers:
            caller.close()


async def test_a_large_header_of_an_unknown_peer_is_not_read(hall: Hall) -> None:
    stranger = hall.caller()
    shape = list(range(12_000))
    header = {"type": "result", "job": 1, "energy": 0.0, "forces": [1, "f8", shape]}
    stranger.socket.send_multipart([msgspec.msgpack.encode(header)])
    refused = await stranger.hear(Refused)
    assert isinstance(refused, Refused)
    assert "before it has joined" in refused.reason
    assert len(refused.reason) < 300


async def test_a_dropped_worker_gets_the_reason(hall: Hall, hello: Hello) -> None:
    caller = await hall.join(hello)
    hall.listener.drop("w", "it returned NaN")
    refused = await caller.hear(Refused)
    assert isinstance(refused, Refused)
    assert refused.reason == "it returned NaN"


async def test_closing_says_goodbye_and_gives_the_port_back(hello: Hello) -> None:
    hall = Hall(ZmqListener("tcp://127.0.0.1:0", POLICY))
    await hall.listener.open(hall.note)
    caller = await hall.join(hello)
    address = hall.listener.address
    await hall.listener.close("done")
    goodbye = await caller.hear(Goodbye)
    assert isinstance(goodbye, Goodbye)
    assert goodbye.reason == "done"
    caller.close()
    again = ZmqListener(address, POLICY)
    await again.open(hall.note)
    assert again.address == address
    await again.close("")
    await again.close("twice does no harm")


GARBAGE = [
    [b""],
    [b"\xff" * 100],
    [b"GET / HTTP/1.1", b""],
    [msgspec.msgpack.encode({"type": "hello"})],
    [msgspec.msgpack.encode({"type": "result", "job": 1, "energy": 0.0})],
    [b"x"] * 40,
    [b"\x91" * 100_000],
    [msgspec.msgpack.encode({"type": "heartbeat"}), b"an array that is not named"],
]


@pytest.mark.parametrize("frames", GARBAGE)
async def test_garbage_messages_are_refused_and_others_are_served(
    hall: Hall, hello: Hello, frames: list[bytes]
) -> None:
    good = await hall.join(hello)
    bad = hall.caller()
    bad.socket.send_multipart(frames)
    assert isinstance(await bad.hear(Refused), Refused)
    good.say(Heartbeat())
    assert await hall.event(WorkerAlive) == WorkerAlive("w")
    assert not any(isinstance(event, WorkerLeft) for event in hall.events)


async def test_a_worker_that_sends_garbage_has_left(hall: Hall, hello: Hello) -> None:
    caller = await hall.join(hello)
    caller.socket.send_multipart([b"\xc1"])
    left = await hall.event(WorkerLeft)
    assert isinstance(left, WorkerLeft)
    assert "broke the protocol" in left.reason
    assert not left.orderly


async def test_messages_of_servers_break_the_protocol(hall: Hall, hello: Hello) -> None:
    caller = await hall.join(hello)
    caller.say(Welcome(heartbeat_s=1.0, patience_s=1.0))
    assert isinstance(await hall.event(WorkerLeft), WorkerLeft)


async def test_raw_bytes_on_the_port_do_not_affect_others(hall: Hall, hello: Hello) -> None:
    failures: list[dict[str, object]] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, what: failures.append(what))
    good = await hall.join(hello)
    host, port = hall.listener.address.removeprefix("tcp://").split(":")
    payloads = [os.urandom(5000), b"GET / HTTP/1.1\r\n\r\n", b"STATUS      ", b"\xff" * 64, b""]
    payloads.append(b"\1\0\6\0hello")  # a message of ZMTP 1.0, which has no greeting
    payloads.append(b"\xff\0\0\0\0\0\0\0\1\x7f\3\0NULL" + bytes(48) + b"\2\xff" + b"\xff" * 8)
    rng = np.random.default_rng(0)
    payloads += [rng.bytes(5000) for _ in range(50)]
    raw = []
    for payload in payloads:
        raw.append(socket.create_connection((host, int(port)), timeout=5.0))
        with contextlib.suppress(OSError):
            raw[-1].sendall(payload)
    await asyncio.sleep(0.1)
    good.say(Heartbeat())
    assert await hall.event(WorkerAlive) == WorkerAlive("w")
    for connection in raw:
        connection.close()
    good.say(Heartbeat())
    assert await hall.event(WorkerAlive) == WorkerAlive("w")
    assert not any(isinstance(event, WorkerLeft) for event in hall.events)
    assert not failures


async def test_many_messages_at_once_are_all_taken_in(hall: Hall, hello: Hello) -> None:
    caller = await hall.join(hello)
    for job in range(500):
        caller.say(Failure(job=job, blame="input", message=""))
    for job in range(500):
        failed = await hall.event(FailureReceived)
        assert isinstance(failed, FailureReceived)
        assert failed.job == job


async def test_ipc_works_and_is_not_stolen(
    tmp_path: Path, hello: Hello, question: Evaluate
) -> None:
    address = f"ipc://{tmp_path}/workers"
    hall = Hall(ZmqListener(address, POLICY))
    await hall.listener.open(hall.note)
    caller = await hall.join(hello)
    hall.listener.send("w", question)
    assert isinstance(await caller.hear(Evaluate), Evaluate)
    with pytest.raises(ConfigError, match="in use"):
        await ZmqListener(address, POLICY).open(hall.note)
    await hall.listener.close("")
    caller.close()
    again = ZmqListener(address, POLICY)
    await again.open(hall.note)
    await again.close("")


async def test_a_socket_file_that_was_left_behind_is_taken_over(
    tmp_path: Path, note: Callable[..., None]
) -> None:
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(tmp_path / "workers"))
    again = ZmqListener(f"ipc://{tmp_path}/workers", POLICY)
    await again.open(note)
    assert (tmp_path / "workers").is_socket()
    await again.close("")
    left = list(tmp_path.iterdir())  # noqa: ASYNC240
    assert left == []  # none is left behind this time


async def test_a_file_that_is_no_socket_is_not_removed(
    tmp_path: Path, note: Callable[..., None]
) -> None:
    file = tmp_path / "mix.toml"
    file.write_text("precious")
    with pytest.raises(ConfigError, match="is not a socket"):
        await ZmqListener(f"ipc://{file}", POLICY).open(note)
    assert file.read_text() == "precious"


async def test_a_port_in_use_is_named_with_its_cure(hall: Hall) -> None:
    with pytest.raises(ConfigError, match=r"workers\.door.*in use.*tcp://127\.0\.0\.1:0"):
        await ZmqListener(hall.listener.address, POLICY).open(hall.note)


@pytest.mark.parametrize(
    "address", ["", "here", "tcp://", "tcp://127.0.0.1:port", "tcp://8.8.8.8:5555", "carrot://x:1"]
)
async def test_a_malformed_address_is_refused(address: str, note: Callable[..., None]) -> None:
    with pytest.raises(ConfigError, match=r"workers\.door"):
        await ZmqListener(address, POLICY).open(note)


@pytest.fixture
def note() -> Callable[..., None]:
    return lambda listener, event: pytest.fail(f"{event} from a listener that is not open")


@pytest.mark.parametrize(
    "sent",
    [
        b"\x01\x00" + b"\x06\x00hello" * 50,  # ZMTP 1: no greeting, a length before each part
        b"\xff" + bytes(8) + b"\x7f\x01\x05\x00\x00" + b"\x00\x05hello" * 50,  # ZMTP 2
        bytes(range(1, 200)),
    ],
    ids=["ZMTP 1", "ZMTP 2", "bytes"],
)
async def test_peers_of_old_protocols_are_passed_over(
    hall: Hall, hello: Hello, sent: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    worker = await hall.join(hello)
    hall.events.clear()
    host, _, port = hall.listener.address.removeprefix("tcp://").rpartition(":")
    with socket.create_connection((host, int(port))) as peer:
        peer.sendall(sent)
        for _ in range(20):
            worker.say(Heartbeat())
            assert await hall.event(WorkerAlive) == WorkerAlive("w")
            await asyncio.sleep(0.01)
    assert not hall.events
    assert "Exception in callback" not in caplog.text
