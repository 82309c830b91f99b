"""Who gets in through a lock, on real sockets: those with a key of the list, and no others."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import shutil
import struct
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import structlog
import zmq
from limits import HANG_S
from structlog.testing import capture_logs
from test_zmq_listener import POLICY, Caller, Hall

from mixserver.core.key_folder import KeyFolder
from mixserver.core.keys import KeyPair, read_public_key, read_secret_key, secure_client
from mixserver.dispatch.scheduling.events import (
    ResultReceived,
    WorkerAlive,
    WorkerJoined,
    WorkerLeft,
)
from mixserver.dispatch.zmq_workers.connections import MOST_UNKNOWN
from mixserver.dispatch.zmq_workers.listener import ZmqListener
from mixserver.dispatch.zmq_workers.lock import ZmqLock
from mixserver.wire.worker import (
    VERSION,
    Evaluate,
    Heartbeat,
    Hello,
    ModelCard,
    Refused,
    Result,
    Welcome,
)
from mixserver.wire.worker_frames import decode, encode


class KeyCaller(Caller):
    """A worker with a key."""

    def __init__(
        self, address: str, pair: KeyPair | None, server: bytes, identity: bytes = b""
    ) -> None:
        self.context = zmq.Context()
        self.socket = self.context.socket(zmq.DEALER)
        self.socket.setsockopt(zmq.LINGER, 200)
        self.socket.setsockopt(zmq.RECONNECT_IVL, 20)
        if identity:
            self.socket.setsockopt(zmq.ROUTING_ID, identity)
        if pair is not None:
            secure_client(self.socket, pair, server)
        self.monitor = self.socket.get_monitor_socket()
        self.socket.connect(address)

    def close(self) -> None:
        self.socket.disable_monitor()
        self.monitor.close(linger=0)
        super().close()

    async def happened(self, *events: int) -> int:
        """Wait until one of some events has happened to the connection."""
        async with asyncio.timeout(HANG_S):
            while True:
                try:
                    kind, _ = struct.unpack("=Hi", self.monitor.recv_multipart(zmq.DONTWAIT)[0])
                except zmq.Again:
                    await asyncio.sleep(0.002)
                    continue
                if kind in events:
                    return int(kind)


class LockedHall(Hall):
    """A listener with a lock."""

    def __init__(self, keys: KeyFolder, address: str = "tcp://127.0.0.1:0") -> None:
        self.keys = keys
        super().__init__(ZmqListener(address, POLICY, atoms=100, lock=ZmqLock(keys.folder)))
        self.server = read_public_key(keys.server_public)

    def with_key(self, key: str | KeyPair | None, identity: bytes = b"") -> KeyCaller:
        """A caller with the key of a name, with another, or without."""
        pair = read_secret_key(self.keys.folder / f"{key}.key") if isinstance(key, str) else key
        caller = KeyCaller(self.listener.address, pair, self.server, identity)
        self.callers.append(caller)
        return caller

    async def joins(self, key: str, hello: Hello, identity: bytes = b"") -> KeyCaller:
        caller = self.with_key(key, identity)
        caller.say(hello)
        assert isinstance(await caller.hear(Welcome), Welcome)
        return caller


@pytest.fixture
def logged() -> Iterator[list[Any]]:
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.INFO))
    with capture_logs() as entries:
        yield entries


@pytest.fixture
def keys(tmp_path: Path) -> KeyFolder:
    folder = KeyFolder(tmp_path / "keys")
    for name in ("good", "other"):
        folder.new(name)
    return folder


@pytest.fixture
async def hall(keys: KeyFolder) -> AsyncIterator[LockedHall]:
    hall = LockedHall(keys)
    await hall.listener.open(hall.note)
    yield hall
    await hall.listener.close("the test ends")
    for caller in hall.callers:
        caller.close()


@pytest.fixture
def hello(card: ModelCard) -> Hello:
    return Hello(protocol=VERSION, role="cheap", name="w", model=card, host="here", pid=1)


async def unharmed(hall: LockedHall, good: Caller) -> None:
    """The good worker is still connected, and nobody else has joined."""
    good.say(Heartbeat())
    assert await hall.event(WorkerAlive) == WorkerAlive("w")
    joined = {event.worker for event in hall.events if isinstance(event, WorkerJoined)}
    assert joined <= {"w"}
    assert not any(isinstance(event, WorkerLeft) for event in hall.events)


@pytest.mark.parametrize("kind", ["tcp", "ipc"])
async def test_a_key_of_the_list_gets_in(
    keys: KeyFolder, tmp_path: Path, hello: Hello, question: Evaluate, kind: str
) -> None:
    hall = LockedHall(keys, "tcp://127.0.0.1:0" if kind == "tcp" else f"ipc://{tmp_path}/door")
    await hall.listener.open(hall.note)
    try:
        caller = await hall.joins("good", hello)
        hall.listener.send("w", question)
        asked = await caller.hear(Evaluate)
        assert isinstance(asked, Evaluate)
        caller.say(Result(job=7, energy=1.5, forces=asked.positions, virial=asked.cell))
        answered = await hall.event(ResultReceived)
        assert isinstance(answered, ResultReceived)
        assert answered.result.forces.tobytes() == question.positions.tobytes()
    finally:
        await hall.listener.close("")
        for caller in hall.callers:
            caller.close()


async def test_a_key_that_is_not_on_the_list_is_refused_and_logged_once(
    hall: LockedHall, hello: Hello, logged: list[Any]
) -> None:
    good, pair = await hall.joins("good", hello), KeyPair.new()
    for _ in range(3):  # it is started again and again
        stranger = hall.with_key(pair)
        stranger.say(msgspec.structs.replace(hello, name="stranger"))
        await stranger.happened(zmq.EVENT_HANDSHAKE_FAILED_AUTH)
    await unharmed(hall, good)
    (entry,) = (entry for entry in logged if "not on the list" in entry["event"])
    assert entry["address"] == "127.0.0.1"


async def test_a_revoked_key_is_refused(hall: LockedHall, hello: Hello, logged: list[Any]) -> None:
    good = await hall.joins("good", hello)
    hall.keys.revoke("other")
    for _ in range(3):
        stranger = hall.with_key("other")
        stranger.say(msgspec.structs.replace(hello, name="stranger"))
        await stranger.happened(zmq.EVENT_HANDSHAKE_FAILED_AUTH)
    await unharmed(hall, good)
    assert sum("not on the list" in entry["event"] for entry in logged) == 1


async def test_no_key_or_the_key_of_another_server_is_refused_and_logged_once(
    hall: LockedHall, hello: Hello, logged: list[Any]
) -> None:
    good = await hall.joins("good", hello)
    pair = read_secret_key(hall.keys.folder / "good.key")
    for _ in range(3):
        elsewhere = KeyCaller(hall.listener.address, pair, KeyPair.new().public)
        hall.callers.append(elsewhere)
        for caller in (hall.with_key(None), elsewhere):
            caller.say(msgspec.structs.replace(hello, name="stranger"))
            await caller.happened(
                zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL, zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL
            )
    await unharmed(hall, good)
    entries = [entry for entry in logged if entry["event"] == "connection refused in the handshake"]
    assert len(entries) == 1
    assert "--server-key" in entries[0]["reason"]
    assert entries[0]["peer"].startswith(("127.0.0.1:", "unknown: "))


async def test_a_new_key_gets_in_without_a_restart(hall: LockedHall, hello: Hello) -> None:
    hall.keys.new("later")
    await hall.joins("later", hello)


async def test_sessions_of_a_revoked_key_end(hall: LockedHall, hello: Hello) -> None:
    good = await hall.joins("good", hello)
    caller = await hall.joins("other", msgspec.structs.replace(hello, name="x", pid=2))
    idle = hall.with_key("other")  # connected, but it has not said Hello yet
    await idle.happened(zmq.EVENT_HANDSHAKE_SUCCEEDED)
    hall.keys.revoke("other")
    left = await hall.event(WorkerLeft)
    assert isinstance(left, WorkerLeft)
    assert left.worker == "x"
    assert "revoked" in left.reason
    assert left.orderly  # its job is not suspected
    refused = await caller.hear(Refused)
    assert isinstance(refused, Refused)
    assert "revoked" in refused.reason
    await caller.happened(zmq.EVENT_DISCONNECTED)
    idle.say(msgspec.structs.replace(hello, name="idle", pid=3))
    await idle.happened(zmq.EVENT_DISCONNECTED)
    assert {event.worker for event in hall.events if isinstance(event, WorkerLeft)} == set()
    good.say(Heartbeat())
    assert await hall.event(WorkerAlive) == WorkerAlive("w")


async def test_the_same_name_with_another_key_never_evicts(
    hall: LockedHall, hello: Hello, question: Evaluate
) -> None:
    good = await hall.joins("good", hello)
    thief = hall.with_key("other")
    thief.say(hello)  # the same process, too
    refused = await thief.hear(Refused)
    assert isinstance(refused, Refused)
    assert "the key good" in refused.reason
    assert "--name" in refused.reason
    hall.listener.send("w", question)
    assert isinstance(await good.hear(Evaluate), Evaluate)
    await unharmed(hall, good)


async def test_the_name_of_a_key_is_reserved_for_it(hall: LockedHall, hello: Hello) -> None:
    caller = hall.with_key("other")
    caller.say(msgspec.structs.replace(hello, name="good"))
    refused = await caller.hear(Refused)
    assert isinstance(refused, Refused)
    assert "reserved for the key good" in refused.reason
    assert hall.events == []
    await hall.joins("good", msgspec.structs.replace(hello, name="good"))


async def test_a_key_serves_the_role_it_was_made_for(
    hall: LockedHall, hello: Hello, logged: list[Any]
) -> None:
    good = await hall.joins("good", hello)
    hall.keys.new("gpu", role="expensive")
    for _ in range(2):  # it is started again
        caller = hall.with_key("gpu")
        caller.say(msgspec.structs.replace(hello, name="x", pid=2))
        refused = await caller.hear(Refused)
        assert isinstance(refused, Refused)
        assert "its key gpu is for 'expensive' only: start it with --role" in refused.reason
    await unharmed(hall, good)
    assert sum("expensive" in entry.get("reason", "") for entry in logged) == 2
    await hall.joins("gpu", msgspec.structs.replace(hello, name="x", pid=3, role="expensive"))


async def test_a_routing_id_is_no_proof_of_who_speaks(
    hall: LockedHall, hello: Hello, question: Evaluate
) -> None:
    """Another key under the routing id of a worker whose connection has just broken."""
    owner = await hall.joins("good", hello, identity=b"chosen")
    hall.callers.remove(owner)
    owner.close()
    async with asyncio.timeout(HANG_S):
        while not any(isinstance(event, WorkerLeft) for event in hall.events):
            # one that connects while the owner's connection is still known is never heard
            thief = hall.with_key("other", identity=b"chosen")
            thief.say(Result(job=7, energy=1.5, forces=question.positions, virial=question.cell))
            await asyncio.sleep(0.1)
    assert not any(isinstance(event, ResultReceived) for event in hall.events)


class Tap:
    """A TCP proxy that records what either side sends."""

    def __init__(self, address: str) -> None:
        host, port = address.removeprefix("tcp://").split(":")
        self.target = host, int(port)
        self.sent, self.answered = bytearray(), bytearray()

    async def __aenter__(self) -> Tap:
        self.server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        port = self.server.sockets[0].getsockname()[1]
        self.address = f"tcp://127.0.0.1:{port}"
        self.tasks: list[asyncio.Task[None]] = []
        return self

    async def __aexit__(self, *_: object) -> None:
        self.server.close()
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection(*self.target)
        self.tasks += [
            asyncio.ensure_future(self._pump(reader, far_writer, self.sent)),
            asyncio.ensure_future(self._pump(far_reader, writer, self.answered)),
        ]

    async def _pump(
        self, source: asyncio.StreamReader, to: asyncio.StreamWriter, record: bytearray
    ) -> None:
        with contextlib.closing(to):
            while data := await source.read(1 << 16):
                record += data
                to.write(data)
                await to.drain()


@pytest.mark.parametrize("kind", ["replayed", "reflected"])
async def test_recorded_bytes_do_nothing(
    hall: LockedHall, hello: Hello, question: Evaluate, kind: str
) -> None:
    async with Tap(hall.listener.address) as tap:
        pair = read_secret_key(hall.keys.folder / "good.key")
        good = KeyCaller(tap.address, pair, hall.server)
        hall.callers.append(good)
        good.say(hello)
        await good.hear(Welcome)
        await hall.event(WorkerJoined)
        result = Result(job=7, energy=1.5, forces=question.positions, virial=question.cell)
        good.say(result)
        await hall.event(ResultReceived)
        record = bytes(tap.sent if kind == "replayed" else tap.answered)
        assert len(record) > 400
        assert b"here" not in record  # nothing can be read on the way
        for size in (1, 64, len(record)):  # as one piece, and in small ones
            reader, writer = await asyncio.open_connection(*tap.target)
            with contextlib.suppress(OSError):
                for at in range(0, len(record), size):
                    writer.write(record[at : at + size])
                    await writer.drain()
            async with asyncio.timeout(HANG_S):
                with contextlib.suppress(OSError):
                    while await reader.read(1 << 16):
                        pass
            writer.close()
        assert not any(isinstance(event, ResultReceived | WorkerJoined) for event in hall.events)
        await unharmed(hall, good)


def greeting(mechanism: bytes) -> bytes:
    """The first 64 bytes of a ZMTP connection."""
    return b"\xff\0\0\0\0\0\0\0\1\x7f\3\1" + mechanism.ljust(20, b"\0") + bytes(32)


def long_frame(flags: int, body: int) -> bytes:
    return bytes([flags]) + struct.pack(">Q", body)


_READY = b"\5READY\x0bSocket-Type\0\0\0\6DEALER\x08Identity\0\0\0\0"
NULL_READY = bytes([4, len(_READY)]) + _READY


async def answered_with(reader: asyncio.StreamReader, word: bytes) -> None:
    """Wait for a word in the answer."""
    async with asyncio.timeout(HANG_S):
        await reader.readuntil(word)


async def sent_until_ended(writer: asyncio.StreamWriter, data: bytes) -> int:
    """Bytes that could be sent, the same data over and over, until the connection was ended."""
    sent = 0
    async with asyncio.timeout(HANG_S):
        while True:
            try:
                writer.write(data)
                await writer.drain()
            except ConnectionError:
                return sent
            sent += len(data)
            await asyncio.sleep(0.001)


@pytest.mark.parametrize(
    ("mechanism", "head", "endless"),
    [
        (b"NULL", b"", long_frame(3, 1 << 16) + bytes(1 << 16)),
        (b"NULL", b"", b"\1\1x" * 20_000),
        (b"NULL", long_frame(2, 3 << 20), bytes(1 << 16)),
        (b"CURVE", long_frame(6, 3 << 20), bytes(1 << 16)),
        (b"CURVE", b"", long_frame(3, 1 << 16) + bytes(1 << 16)),
    ],
    ids=["many parts", "many small parts", "one part", "handshake", "parts instead of handshake"],
)
async def test_a_message_that_never_ends_ends_its_connection(
    keys: KeyFolder, hello: Hello, mechanism: bytes, head: bytes, endless: bytes
) -> None:
    locked = LockedHall(keys)
    plain = Hall(ZmqListener("tcp://127.0.0.1:0", POLICY, atoms=100))
    hall: Hall = locked if mechanism == b"CURVE" else plain
    await hall.listener.open(hall.note)
    good = await (locked.joins("good", hello) if hall is locked else plain.join(hello))
    await hall.event(WorkerJoined)
    host, port = hall.listener.address.removeprefix("tcp://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(greeting(mechanism))
    if mechanism == b"NULL":
        writer.write(NULL_READY)
        await answered_with(reader, b"READY")
    writer.write(head)
    try:
        assert await sent_until_ended(writer, endless) < 1 << 30
        good.say(Heartbeat())
        await hall.event(WorkerAlive)
        assert not any(isinstance(event, WorkerLeft) for event in hall.events)
    finally:
        writer.transport.abort()
        await hall.listener.close("")
        for caller in hall.callers:
            caller.close()


async def test_a_welcomed_worker_may_send_whole_results_but_no_endless_message(
    hello: Hello,
) -> None:
    hall = Hall(ZmqListener("tcp://127.0.0.1:0", POLICY, atoms=100))
    await hall.listener.open(hall.note)
    host, port = hall.listener.address.removeprefix("tcp://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        (header,) = encode(hello)
        writer.write(greeting(b"NULL") + NULL_READY)
        await answered_with(reader, b"READY")
        writer.write(long_frame(2, len(header)) + bytes(header))
        await hall.event(WorkerJoined)
        await answered_with(reader, b"welcome")
        (header, forces, virial) = encode(
            Result(job=7, energy=0.0, forces=np.zeros((100_000, 3)), virial=np.eye(3))
        )
        for flags, frame in ((3, header), (3, forces), (2, virial)):
            writer.write(long_frame(flags, len(frame)) + bytes(frame))
        await hall.event(ResultReceived)
        endless = long_frame(3, 1 << 20) + bytes(1 << 20)
        assert await sent_until_ended(writer, endless) < 1 << 30
        await hall.event(WorkerLeft)
    finally:
        writer.transport.abort()
        await hall.listener.close("")


async def test_a_connection_that_never_says_hello_is_ended(hello: Hello) -> None:
    now = [0.0]
    hall = Hall(ZmqListener("tcp://127.0.0.1:0", POLICY, clock=lambda: now[0]))
    await hall.listener.open(hall.note)
    try:
        good, silent = await hall.join(hello), KeyCaller(hall.listener.address, None, b"")
        hall.callers.append(silent)
        await silent.happened(zmq.EVENT_HANDSHAKE_SUCCEEDED)
        await asyncio.sleep(0.5)  # so that it is known here, too
        now[0] = 31.0
        await silent.happened(zmq.EVENT_DISCONNECTED)
        good.say(Heartbeat())
        await hall.event(WorkerAlive)
    finally:
        await hall.listener.close("")
        for caller in hall.callers:
            caller.close()


JOIN = """
import os, sys, zmq
os.setuid(int(sys.argv[4]))
context = zmq.Context()
socket = context.socket(zmq.DEALER)
socket.linger = 0
socket.ipv6 = 1
socket.connect(sys.argv[1])
socket.send(bytes.fromhex(sys.argv[2]))
print("answered" if socket.poll(int(sys.argv[3])) else "silence")
"""


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def open_to_all(door: Path) -> None:
    door.parent.chmod(0o777)
    door.chmod(0o777)


async def test_a_crowd_that_says_nothing_leaves_room_for_a_worker(hello: Hello) -> None:
    hall = Hall(ZmqListener("tcp://127.0.0.1:0", POLICY))
    await hall.listener.open(hall.note)
    host, port = hall.listener.address.removeprefix("tcp://").split(":")
    before = descriptors()
    crowd = [await asyncio.open_connection(host, int(port)) for _ in range(MOST_UNKNOWN + 40)]
    try:
        async with asyncio.timeout(HANG_S):
            with contextlib.suppress(OSError):
                await crowd[0][0].read()  # ended
        await hall.join(hello)
        assert descriptors() - before < len(crowd) + MOST_UNKNOWN + 20
    finally:
        for _, writer in crowd:
            writer.transport.abort()
        await hall.listener.close("")
        for caller in hall.callers:
            caller.close()


@pytest.mark.skipif(os.getuid() != 0, reason="only root can be two users")
@pytest.mark.parametrize("address", ["tcp://127.0.0.1:0", "tcp://[::1]:0", "ipc"])
async def test_without_keys_other_users_of_this_machine_do_not_get_in(
    hello: Hello, address: str, logged: list[Any]
) -> None:
    folder = Path(tempfile.mkdtemp())
    hall = Hall(ZmqListener(f"ipc://{folder}/door" if address == "ipc" else address, POLICY))
    await hall.listener.open(hall.note)
    if address == "ipc":
        open_to_all(folder / "door")
    try:
        for user, wait_ms, said in ((0, int(1e3 * HANG_S), "answered"), (65534, 500, "silence")):
            words = [JOIN, hall.listener.address, bytes(encode(hello)[0]).hex(), str(wait_ms)]
            words.append(str(user))
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-c", *words, stdout=asyncio.subprocess.PIPE
            )
            out, _ = await process.communicate()
            assert out.decode().strip() == said
        assert sum(isinstance(event, WorkerJoined) for event in hall.events) == 1
        if address != "ipc":
            assert any("user 65534" in entry.get("reason", "") for entry in logged)
    finally:
        await hall.listener.close("")
        shutil.rmtree(folder)


async def test_without_an_open_lock_nobody_gets_in(keys: KeyFolder) -> None:
    """A server that forgot to open its lock lets nobody in, rather than everybody."""
    lock, context = ZmqLock(keys.folder), zmq.Context()
    server = context.socket(zmq.ROUTER)
    lock.secure(server)
    server.bind("tcp://127.0.0.1:0")
    caller = KeyCaller(
        server.LAST_ENDPOINT.decode(),
        read_secret_key(keys.folder / "good.key"),
        lock.public,
    )
    try:
        caller.say(Heartbeat())
        await caller.happened(
            zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL,
            zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL,
            zmq.EVENT_HANDSHAKE_FAILED_AUTH,
        )
        assert not server.poll(0)
    finally:
        caller.close()
        context.destroy(linger=0)


async def test_a_list_that_cannot_be_read_any_more_ends_no_session(
    hall: LockedHall, hello: Hello, logged: list[Any]
) -> None:
    good = await hall.joins("good", hello)
    away = hall.keys.workers.rename(hall.keys.folder / "away")
    async with asyncio.timeout(HANG_S):
        while not any(  # noqa: ASYNC110 - a log line has no event
            "list of keys" in entry["event"] for entry in logged
        ):
            await asyncio.sleep(0.05)
    await unharmed(hall, good)
    away.rename(hall.keys.workers)


async def test_any_socket_can_have_the_lock(keys: KeyFolder) -> None:
    """As the read-only socket of a server's state does."""
    lock, context = ZmqLock(keys.folder), zmq.Context()
    lock.open(context)
    server, client = context.socket(zmq.REP), zmq.Context().socket(zmq.REQ)
    lock.secure(server)
    server.bind("tcp://127.0.0.1:0")
    secure_client(client, read_secret_key(keys.folder / "good.key"), lock.public)
    client.connect(server.LAST_ENDPOINT.decode())
    try:
        client.send_multipart(encode(Heartbeat()))
        async with asyncio.timeout(HANG_S):
            while not server.poll(0):  # noqa: ASYNC110 - the socket is not watched
                await asyncio.sleep(0.01)
        frames = server.recv_multipart(copy=False)
        assert isinstance(decode([frame.bytes for frame in frames]), Heartbeat)
        assert lock.name(str(frames[0].get("User-Id"))) == "good"
    finally:
        lock.close()
        server.close(linger=0)
        context.term()
        client.close(linger=0)
        client.context.term()


async def test_an_issued_key_is_for_this_process_alone(keys: KeyFolder) -> None:
    lock = ZmqLock(keys.folder)
    pair = lock.issue("local")
    assert lock.name(pair.public.decode()) == "local"
    assert ZmqLock(keys.folder).name(pair.public.decode()) is None
    assert sorted(file.name for file in keys.workers.iterdir()) == ["good.pub", "other.pub"]
