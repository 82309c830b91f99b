"""The workers' door on real sockets, with workers that behave and others that do not."""

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

from mixserver.dispatch.events import Answered, Door, Event, Failed, Heard, Joined, Left
from mixserver.dispatch.policy import Policy
from mixserver.dispatch.zmq_door import ZmqDoor
from mixserver.errors import ConfigError
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
    decode,
    encode,
)

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
    """An open door and everything it has reported."""

    def __init__(self, door: ZmqDoor) -> None:
        self.door = door
        self.events: list[Event] = []
        self.callers: list[Caller] = []
        self.refuse = ""
        self.then: Callable[[Event], None] = lambda event: None
        """What whoever takes the events does about them at once."""

    def note(self, door: Door, event: Event) -> None:
        assert door is self.door
        self.events.append(event)
        if isinstance(event, Joined) and self.refuse:
            door.drop(event.worker, self.refuse)
        elif isinstance(event, Joined):
            door.welcome(event.worker)
        self.then(event)

    def caller(self) -> Caller:
        self.callers.append(Caller(self.door.address))
        return self.callers[-1]

    async def join(self, hello: Hello) -> Caller:
        caller = self.caller()
        caller.say(hello)
        assert isinstance(await caller.hear(Welcome), Welcome)
        return caller

    async def event(self, kind: type[Event]) -> Event:
        async with asyncio.timeout(HANG_S):
            while True:
                for event in self.events:
                    if isinstance(event, kind):
                        self.events.remove(event)
                        return event
                await asyncio.sleep(0.002)


@pytest.fixture
async def hall() -> AsyncIterator[Hall]:
    hall = Hall(ZmqDoor("tcp://127.0.0.1:0", POLICY))
    await hall.door.open(hall.note)
    yield hall
    await hall.door.close("the test ends")
    for caller in hall.callers:
        caller.close()


@pytest.fixture
def hello(card: ModelCard) -> Hello:
    return Hello(protocol=VERSION, role="cheap", name="w", model=card, host="here", pid=1)


async def test_port_0_finds_a_free_port(hall: Hall) -> None:
    assert int(hall.door.address.rpartition(":")[2]) > 0


async def test_a_worker_is_welcomed_asked_and_heard(
    hall: Hall, hello: Hello, question: Evaluate
) -> None:
    caller = await hall.join(hello)
    joined = await hall.event(Joined)
    assert isinstance(joined, Joined)
    assert (joined.worker, joined.role, joined.card.fingerprint) == ("w", "cheap", "aa")
    hall.door.send("w", msgspec.structs.replace(question, job=7))
    asked = await caller.hear(Evaluate)
    assert isinstance(asked, Evaluate)
    np.testing.assert_array_equal(asked.positions, question.positions)
    caller.say(Heartbeat(job=7))
    assert await hall.event(Heard) == Heard("w")
    caller.say(Result(job=7, energy=1.5, forces=np.ones((4, 3)), virial=np.eye(3)))
    answered = await hall.event(Answered)
    assert isinstance(answered, Answered)
    assert (answered.worker, answered.result.job, answered.result.energy) == ("w", 7, 1.5)
    caller.say(Failure(job=8, blame="input", message="no"))
    assert await hall.event(Failed) == Failed("w", 8, "input", "no")
    caller.say(Goodbye(reason="tired"))
    assert await hall.event(Left) == Left("w", "tired", orderly=True)


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
    hall.door.send("w", job)
    asked = await caller.hear(Evaluate)
    assert isinstance(asked, Evaluate)
    for name in ("positions", "numbers", "cell", "weight"):
        np.testing.assert_array_equal(getattr(asked, name), getattr(job, name))
    caller.say(Result(job=1, energy=0.0, forces=job.positions, virial=np.eye(3)))
    answered = await hall.event(Answered)
    assert isinstance(answered, Answered)
    np.testing.assert_array_equal(answered.result.forces, job.positions)
    assert answered.result.forces.flags.aligned


async def test_the_server_beats_unasked(hall: Hall, hello: Hello) -> None:
    caller = await hall.join(hello)
    for _ in range(3):
        assert isinstance(await caller.hear(Heartbeat), Heartbeat)


async def test_a_vanished_connection_is_noticed_without_waiting_for_silence(
    hello: Hello,
) -> None:
    patient = Policy(roles={"cheap": ""}, patience_s=10 * HANG_S, heartbeat_s=0.2)
    hall = Hall(ZmqDoor("tcp://127.0.0.1:0", patient))
    await hall.door.open(hall.note)
    (await hall.join(hello)).close()
    hall.callers.clear()
    assert await hall.event(Left) == Left("w", "its connection is gone", orderly=False)
    await hall.door.close("")


async def test_a_job_for_one_that_has_gone_is_reported_not_raised(
    hall: Hall, hello: Hello, question: Evaluate
) -> None:
    hall.door.send("nobody", question)
    assert isinstance(await hall.event(Left), Left)
    caller = await hall.join(hello)
    caller.say(Goodbye())
    await hall.event(Left)
    hall.door.send("w", question)
    assert isinstance(await hall.event(Left), Left)


async def test_whoever_did_not_say_hello_is_asked_to(hall: Hall) -> None:
    caller = hall.caller()
    caller.say(Result(job=1, energy=0.0, forces=np.zeros((1, 3)), virial=np.eye(3)))
    assert isinstance(await caller.hear(Unknown), Unknown)
    assert hall.events == []


async def test_another_protocol_version_is_turned_away_with_both_versions(
    hall: Hall, hello: Hello
) -> None:
    caller = hall.caller()
    caller.say(msgspec.structs.replace(hello, protocol=VERSION + 1))
    refused = await caller.hear(Refused)
    assert isinstance(refused, Refused)
    assert f"version {VERSION + 1}" in refused.reason
    assert f"version {VERSION};" in refused.reason
    assert hall.events == []


async def test_a_second_worker_of_the_same_name_replaces_the_first_if_it_is_taken_in(
    hall: Hall, hello: Hello, question: Evaluate
) -> None:
    first = await hall.join(hello)
    second = await hall.join(msgspec.structs.replace(hello, pid=2))
    refused = await first.hear(Refused)
    assert isinstance(refused, Refused)
    assert "--name" in refused.reason
    hall.door.send("w", question)
    assert isinstance(await second.hear(Evaluate), Evaluate)


async def test_the_same_worker_may_reconnect(hall: Hall, hello: Hello, question: Evaluate) -> None:
    await hall.join(hello)
    again = await hall.join(hello)
    hall.door.send("w", question)
    assert isinstance(await again.hear(Evaluate), Evaluate)


async def test_a_worker_of_a_taken_name_that_is_not_taken_in_harms_nobody(
    hall: Hall, hello: Hello, question: Evaluate
) -> None:
    first = await hall.join(hello)
    hall.refuse = "another model"
    second = hall.caller()
    second.say(msgspec.structs.replace(hello, pid=2))
    refused = await second.hear(Refused)
    assert isinstance(refused, Refused)
    assert refused.reason == "another model"
    hall.door.send("w", question)
    assert isinstance(await first.hear(Evaluate), Evaluate)
    first.say(Heartbeat())
    assert await hall.event(Heard) == Heard("w")


async def test_a_worker_started_again_under_its_name_finds_it_free_though_nobody_has_noticed(
    hall: Hall, hello: Hello
) -> None:
    first = await hall.join(hello)
    await hall.event(Joined)
    first.close()
    hall.callers.remove(first)
    await hall.join(msgspec.structs.replace(hello, pid=2))
    left, joined = hall.events
    assert left == Left("w", "its connection is gone")
    assert isinstance(joined, Joined)
    assert joined.process == "here:2"


async def test_a_job_that_cannot_be_sent_is_said_to_be_unsent(
    hall: Hall, hello: Hello, question: Evaluate
) -> None:
    caller = await hall.join(hello)
    caller.close()
    hall.callers.remove(caller)
    async with asyncio.timeout(HANG_S):
        while Left("w", "its connection is gone", unsent=True) not in hall.events:
            hall.door.send("w", question)
            await asyncio.sleep(0.01)


async def test_the_heart_beats_on_though_one_death_brings_another_to_light(
    hall: Hall, hello: Hello, question: Evaluate
) -> None:
    names = ("busy", "idle", "third")
    callers = [await hall.join(msgspec.structs.replace(hello, name=name)) for name in names]

    def hand_on(event: Event) -> None:
        """What the board does with the job of one that has left."""
        if isinstance(event, Left) and event.worker == "busy":
            hall.door.send("idle", question)

    hall.then = hand_on
    for caller in callers[:2]:
        caller.context.destroy(linger=0)
        hall.callers.remove(caller)
    gone = {(await hall.event(Left)).worker for _ in range(2)}
    assert gone == {"busy", "idle"}
    for _ in range(3):
        assert isinstance(await callers[2].hear(Heartbeat), Heartbeat)


async def test_a_hello_says_which_process_it_is_and_what_it_holds(hall: Hall, hello: Hello) -> None:
    await hall.join(msgspec.structs.replace(hello, job=17))
    joined = await hall.event(Joined)
    assert isinstance(joined, Joined)
    assert (joined.process, joined.job) == ("here:1", 17)


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
async def test_a_name_that_is_none_is_refused_in_printable_words(
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
    joined = await hall.event(Joined)
    assert isinstance(joined, Joined)
    assert joined.card.name.isprintable()
    assert len(joined.card.name) == 200
    caller.say(Failure(job=1, blame="input", message="\x1b[31m\nred\u202e" + "y" * 20_000))
    failed = await hall.event(Failed)
    assert isinstance(failed, Failed)
    assert failed.message.startswith("\\x1b[31m red\\u202eyyy")
    assert len(failed.message) == 1000
    caller.say(Goodbye(reason="\x1b[2J"))
    left = await hall.event(Left)
    assert isinstance(left, Left)
    assert left.reason == "\\x1b[2J"


async def test_a_frame_larger_than_the_case_can_need_is_not_received(
    hello: Hello, question: Evaluate
) -> None:
    hall = Hall(ZmqDoor("tcp://127.0.0.1:0", POLICY, atoms=1000))
    await hall.door.open(hall.note)
    try:
        good, bad = await hall.join(hello), hall.caller()
        bad.socket.send_multipart([b"x" * (8 << 20)])
        bad.say(msgspec.structs.replace(hello, name="bad"))
        good.say(Failure(job=7, blame="input", message=""))
        await hall.event(Failed)
        many = np.zeros((1_000_000, 3))
        numbers = np.ones(len(many), np.int32)
        hall.door.send("w", msgspec.structs.replace(question, positions=many, numbers=numbers))
        failed = await hall.event(Failed)
        assert isinstance(failed, Failed)
        assert "1000000 atoms" in failed.message
        assert failed.blame == "input"
    finally:
        await hall.door.close("")
        for caller in hall.callers:
            caller.close()


async def test_garbage_is_told_once_a_second_and_the_rest_is_counted(
    hello: Hello, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0]
    hall = Hall(ZmqDoor("tcp://127.0.0.1:0", POLICY, clock=lambda: now[0]))
    told: list[dict[str, object]] = []
    monkeypatch.setattr(
        "mixserver.dispatch.zmq_door.log.warning", lambda event, **more: told.append(more)
    )
    await hall.door.open(hall.note)
    try:
        good, bad = await hall.join(hello), hall.caller()
        for second in (0.0, 1.5):
            now[0] = second
            for _ in range(300):
                bad.socket.send_multipart([b"\xc1" * 100])
            bad.say(msgspec.structs.replace(hello, name=f"bad-{second}"))
            await bad.hear(Welcome)
        good.say(Heartbeat())
        await hall.event(Heard)
        assert len(told) == 2
        assert told[1]["more_like_it"] == 299
        assert all(len(str(more["reason"])) < 400 for more in told)
    finally:
        await hall.door.close("")
        for caller in hall.callers:
            caller.close()


async def test_a_large_header_of_a_stranger_is_not_even_read(hall: Hall) -> None:
    stranger = hall.caller()
    shape = list(range(12_000))
    header = {"type": "result", "job": 1, "energy": 0.0, "forces": [1, "f8", shape]}
    stranger.socket.send_multipart([msgspec.msgpack.encode(header)])
    refused = await stranger.hear(Refused)
    assert isinstance(refused, Refused)
    assert "before it has joined" in refused.reason
    assert len(refused.reason) < 300


async def test_a_dropped_worker_is_told_why(hall: Hall, hello: Hello) -> None:
    caller = await hall.join(hello)
    hall.door.drop("w", "it returned NaN")
    refused = await caller.hear(Refused)
    assert isinstance(refused, Refused)
    assert refused.reason == "it returned NaN"


async def test_closing_says_goodbye_and_gives_the_port_back(hello: Hello) -> None:
    hall = Hall(ZmqDoor("tcp://127.0.0.1:0", POLICY))
    await hall.door.open(hall.note)
    caller = await hall.join(hello)
    address = hall.door.address
    await hall.door.close("done")
    goodbye = await caller.hear(Goodbye)
    assert isinstance(goodbye, Goodbye)
    assert goodbye.reason == "done"
    caller.close()
    again = ZmqDoor(address, POLICY)
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
    [msgspec.msgpack.encode({"type": "heartbeat"}), b"an array nobody named"],
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
    assert await hall.event(Heard) == Heard("w")
    assert not any(isinstance(event, Left) for event in hall.events)


async def test_a_worker_that_sends_garbage_has_left(hall: Hall, hello: Hello) -> None:
    caller = await hall.join(hello)
    caller.socket.send_multipart([b"\xc1"])
    left = await hall.event(Left)
    assert isinstance(left, Left)
    assert "broke the protocol" in left.reason
    assert not left.orderly


async def test_what_only_servers_say_is_a_breach(hall: Hall, hello: Hello) -> None:
    caller = await hall.join(hello)
    caller.say(Welcome(heartbeat_s=1.0, patience_s=1.0))
    assert isinstance(await hall.event(Left), Left)


async def test_raw_bytes_on_the_port_harm_nobody(hall: Hall, hello: Hello) -> None:
    good = await hall.join(hello)
    host, port = hall.door.address.removeprefix("tcp://").split(":")
    payloads = [os.urandom(5000), b"GET / HTTP/1.1\r\n\r\n", b"STATUS      ", b"\xff" * 64, b""]
    payloads.append(b"\xff\0\0\0\0\0\0\0\1\x7f\3\0NULL" + bytes(48) + b"\2\xff" + b"\xff" * 8)
    raw = []
    for payload in payloads:
        raw.append(socket.create_connection((host, int(port)), timeout=5.0))
        with contextlib.suppress(OSError):
            raw[-1].sendall(payload)
    await asyncio.sleep(0.1)
    good.say(Heartbeat())
    assert await hall.event(Heard) == Heard("w")
    for connection in raw:
        connection.close()
    good.say(Heartbeat())
    assert await hall.event(Heard) == Heard("w")
    assert not any(isinstance(event, Left) for event in hall.events)


async def test_many_messages_at_once_are_all_taken_in(hall: Hall, hello: Hello) -> None:
    caller = await hall.join(hello)
    for job in range(500):
        caller.say(Failure(job=job, blame="input", message=""))
    for job in range(500):
        failed = await hall.event(Failed)
        assert isinstance(failed, Failed)
        assert failed.job == job


async def test_ipc_works_and_is_not_stolen(
    tmp_path: Path, hello: Hello, question: Evaluate
) -> None:
    address = f"ipc://{tmp_path}/door"
    hall = Hall(ZmqDoor(address, POLICY))
    await hall.door.open(hall.note)
    caller = await hall.join(hello)
    hall.door.send("w", question)
    assert isinstance(await caller.hear(Evaluate), Evaluate)
    with pytest.raises(ConfigError, match="in use"):
        await ZmqDoor(address, POLICY).open(hall.note)
    await hall.door.close("")
    caller.close()
    again = ZmqDoor(address, POLICY)
    await again.open(hall.note)
    await again.close("")


async def test_a_socket_file_that_was_left_behind_is_taken_over(
    tmp_path: Path, note: Callable[..., None]
) -> None:
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(tmp_path / "door"))
    again = ZmqDoor(f"ipc://{tmp_path}/door", POLICY)
    await again.open(note)
    await again.close("")


async def test_a_file_that_is_no_socket_is_not_removed(
    tmp_path: Path, note: Callable[..., None]
) -> None:
    file = tmp_path / "mix.toml"
    file.write_text("precious")
    with pytest.raises(ConfigError, match="is no socket"):
        await ZmqDoor(f"ipc://{file}", POLICY).open(note)
    assert file.read_text() == "precious"


async def test_a_port_in_use_is_named_with_its_cure(hall: Hall) -> None:
    with pytest.raises(ConfigError, match=r"workers\.door.*in use.*tcp://127\.0\.0\.1:0"):
        await ZmqDoor(hall.door.address, POLICY).open(hall.note)


@pytest.mark.parametrize(
    "address", ["", "here", "tcp://", "tcp://127.0.0.1:port", "tcp://8.8.8.8:5555", "carrot://x:1"]
)
async def test_an_address_that_is_none_is_refused(address: str, note: Callable[..., None]) -> None:
    with pytest.raises(ConfigError, match=r"workers\.door"):
        await ZmqDoor(address, POLICY).open(note)


@pytest.fixture
def note() -> Callable[..., None]:
    return lambda door, event: pytest.fail(f"{event} at a door that is not open")
