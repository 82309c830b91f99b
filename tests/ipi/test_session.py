"""The session with i-PI, against a hand-written i-PI that misbehaves on purpose."""

import asyncio
import os
import threading
import time

import numpy as np
import pytest
from fake_ipi import POSITIONS, FakeIpi, at_once, play, spring
from limits import HANG_S

from mixserver.core.errors import ConfigError, EvaluationError, NoAnswer, UpstreamError
from mixserver.ipi.session import Session, exchange
from mixserver.wire.ipi import Reply


@pytest.fixture
def ipi():
    fake = FakeIpi()
    yield fake
    fake.close()


@pytest.fixture(autouse=True)
def _nothing_is_left_behind(ipi):
    threads, files = set(threading.enumerate()), len(os.listdir("/proc/self/fd"))
    yield
    ipi.close()
    left = [t for t in threading.enumerate() if t not in threads and t.name.startswith("i-PI")]
    assert not left
    assert len(os.listdir("/proc/self/fd")) < files  # the listener is gone too


@pytest.mark.parametrize("tcp", [False, True])
async def test_forces_are_answered_until_exit_on_either_kind_of_socket(tcp):
    fake = FakeIpi(tcp)
    upstream = Session(fake.address, at_once)

    def scene():
        fake.listen()
        peer = fake.accept()
        answers = [peer.force(POSITIONS) for _ in range(3)]
        peer.exit()
        return answers

    try:
        for _, forces, _ in await play(upstream, scene):
            np.testing.assert_allclose(forces, -2.0 * POSITIONS * 0.036749326 / 1.8897261**2)
    finally:
        fake.close()
    assert upstream.requests == 3
    assert upstream.last_seen is not None
    assert not upstream.connected


async def test_status_and_large_positions_are_taken_while_the_event_loop_is_busy(ipi):
    many = np.zeros((64_000, 3))

    async def slow(request):
        time.sleep(3.0)  # noqa: ASYNC251 - the point: nothing of the loop runs meanwhile
        return spring(request)

    def scene():
        ipi.listen()
        one, two = ipi.accept(), ipi.accept()
        one.ready()
        two.ready()
        one.ask(POSITIONS)
        time.sleep(0.2)
        started = time.perf_counter()
        status = two.status()
        waited = time.perf_counter() - started
        two.connection.settimeout(1.5)  # of i-PI's 0.1 s on an idle machine
        two.ask(many)
        two.connection.settimeout(HANG_S)
        one.forces(2)
        two.forces(len(many))
        one.exit()
        two.exit()
        return status, waited

    status, waited = await play(Session(ipi.address, slow, connections=2), scene)
    assert status == "READY"
    assert waited < 1.5


@pytest.mark.parametrize("tcp", [False, True])
async def test_a_large_reply_arrives_whole_however_slowly_it_is_taken(tcp):
    fake = FakeIpi(tcp)
    positions = np.random.default_rng(0).normal(size=(400_000, 3))  # more than any buffer takes
    upstream = Session(fake.address, at_once)

    def scene():
        fake.listen()
        peer = fake.accept()
        answers = []
        for _ in range(2):
            peer.ready()
            peer.ask(positions)
            assert peer.read(1) == b"F"
            time.sleep(0.2)
            peer.send("STATUS")  # its answer must not come between the pieces
            time.sleep(0.1)
            answers.append(peer.forces(len(positions), begun=True))
            assert peer.read(12) == b"READY       "
        peer.exit()
        return answers

    try:
        for _, forces, _ in await play(upstream, scene):
            np.testing.assert_allclose(forces, -2.0 * positions * 0.036749326 / 1.8897261**2)
    finally:
        fake.close()


async def test_ipi_may_come_late_vanish_and_come_again(ipi):
    upstream = Session(ipi.address, at_once)

    def scene():
        time.sleep(0.2)
        ipi.listen()
        first = ipi.accept()
        first.force(POSITIONS)
        first.ready()
        first.ask(POSITIONS, getforce=False)
        first.close()
        os.unlink(f"/tmp/ipi_{ipi.name}")
        ipi.listener.close()
        time.sleep(0.2)
        again = FakeIpi()
        again.name = ipi.name
        again.listen()
        second = again.accept()
        second.force(POSITIONS)
        second.exit()
        again.close()

    await play(upstream, scene)


async def test_a_request_nobody_waits_for_is_cancelled(ipi):
    cancelled = threading.Event()
    begun = threading.Event()

    async def never(request):
        begun.set()
        try:
            await asyncio.sleep(30)
        finally:
            cancelled.set()

    def scene():
        ipi.listen()
        peer = ipi.accept()
        peer.ready()
        peer.ask(POSITIONS)
        assert begun.wait(5)
        peer.close()
        assert cancelled.wait(5)

    await play(Session(ipi.address, never), scene, ends=False)


async def test_a_timeout_is_reported_in_a_header_and_the_request_repeated(ipi):
    failures = iter([NoAnswer("slow"), NoAnswer("slow again")])

    async def unreliable(request):
        error = next(failures, None)
        if error:
            raise error
        return spring(request)

    def scene():
        ipi.listen()
        told = []
        for _ in range(2):
            peer = ipi.accept()
            peer.ready()
            peer.ask(POSITIONS)
            told.append(peer.read(12))
            with pytest.raises(EOFError):
                peer.read(10_000)
        peer = ipi.accept()
        peer.force(POSITIONS)
        peer.exit()
        return told

    upstream = Session(ipi.address, unreliable)
    assert await play(upstream, scene) == [b"ERR:EVALUATE"] * 2
    assert (upstream.failures, upstream.requests) == (2, 1)


@pytest.mark.parametrize(
    "answer",
    [
        lambda r: Reply(float("nan"), np.zeros_like(r.positions), np.zeros((3, 3))),
        lambda r: Reply(0.0, np.zeros((1, 3)), np.zeros((3, 3))),
        lambda r: Reply(0.0, np.zeros_like(r.positions), np.zeros((3, 3)), "[1]"),
    ],
)
async def test_a_reply_that_would_hurt_ipi_never_leaves(ipi, answer):
    async def bad(request):
        return answer(request)

    def scene():
        ipi.listen()
        peer = ipi.accept()
        peer.ready()
        peer.ask(POSITIONS)
        return peer.read(12)

    running = asyncio.create_task(Session(ipi.address, bad).run())
    header = asyncio.create_task(asyncio.to_thread(scene))
    with pytest.raises(EvaluationError):
        await running
    assert await header == b"ERR:EVALUATE"


async def test_forces_are_bounded_in_time_and_repeated_failure_ends_the_run(ipi):
    async def never(request):
        await asyncio.sleep(30)
        return spring(request)

    def scene():
        ipi.listen()
        for _ in range(5):
            peer = ipi.accept()
            peer.ready()
            peer.ask(POSITIONS)
            assert peer.read(12) == b"ERR:EVALUATE"
            peer.close()

    with pytest.raises(EvaluationError, match=r"no answer after 0\.05 s"):
        await play(Session(ipi.address, never, force_timeout_s=0.05), scene)


async def test_a_bug_in_the_answer_comes_out_of_run(ipi):
    async def buggy(request):
        raise ZeroDivisionError("bug")

    def scene():
        ipi.listen()
        peer = ipi.accept()
        peer.ready()
        peer.ask(POSITIONS)
        with pytest.raises(EOFError):
            peer.read(12)

    with pytest.raises(ZeroDivisionError, match="bug"):
        await play(Session(ipi.address, buggy), scene)


async def test_no_first_contact_is_an_error_that_says_where(ipi):
    with pytest.raises(UpstreamError, match=ipi.name):
        await Session(ipi.address, at_once, first_contact_s=0.2).run()


async def test_contact_in_time_lets_ipi_think_as_long_as_it_likes(ipi):
    def scene():
        ipi.listen()
        peer = ipi.accept()
        time.sleep(0.6)
        peer.force(POSITIONS)
        peer.exit()

    await play(Session(ipi.address, at_once, first_contact_s=0.4), scene)


async def test_exit_on_one_connection_ends_those_ipi_never_used(ipi):
    def scene():
        ipi.listen()
        peer = ipi.accept()
        peer.force(POSITIONS)
        peer.exit()
        ipi.listener.close()  # the second was never accepted: reset, no EXIT
        os.unlink(f"/tmp/ipi_{ipi.name}")

    await play(Session(ipi.address, at_once, connections=2), scene)


async def test_an_exit_that_does_not_wait_for_forces_is_no_end(ipi):
    async def slow(request):
        await asyncio.sleep(0.3)
        return spring(request)

    def scene():
        ipi.listen()
        impatient = ipi.accept()
        impatient.ready()
        impatient.ask(POSITIONS)
        impatient.exit()
        peer = ipi.accept()
        peer.force(POSITIONS)
        peer.exit()

    await play(Session(ipi.address, slow), scene)


async def test_slots_of_a_batch_run_at_once_and_padding_is_not_evaluated(ipi):
    running, most, asked = 0, 0, []

    async def counting(request):
        nonlocal running, most
        running += 1
        most = max(most, running)
        asked.append(request.slot)
        await asyncio.sleep(0.05)
        running -= 1
        return spring(request)

    frames = np.stack([POSITIONS, POSITIONS + 1.0, POSITIONS + 1.0, POSITIONS + 1.0])

    def scene():
        ipi.listen()
        peer = ipi.accept()
        peer.ready(" , batch_size:4")
        peer.ask(frames.reshape(-1, 3), slots=4)
        assert peer.read(12) == b"FORCEREADY  "
        energies = np.frombuffer(peer.read(32))
        peer.read(4 + 4 * 48 + 4 * 72 + 4 * (4 + 2))
        assert peer.status() == "READY"
        peer.exit()
        return energies

    energies = await play(Session(ipi.address, counting), scene)
    assert sorted(asked) == [0, 1]
    assert most == 2
    assert energies[1] == energies[2] == energies[3] != energies[0]


async def test_garbage_from_the_address_is_dropped_and_the_session_goes_on(ipi):
    def scene():
        ipi.listen()
        liar = ipi.accept()
        liar.connection.sendall(b"SSH-2.0-OpenSSH_9.2p1")
        with pytest.raises((EOFError, ConnectionError)):
            liar.read(12)
        peer = ipi.accept()
        peer.force(POSITIONS)
        peer.exit()

    await play(Session(ipi.address, at_once), scene)


@pytest.mark.parametrize("how", ["stop", "cancel"])
async def test_stopping_in_mid_evaluation_hangs_up_and_leaves_nothing(ipi, how):
    begun = asyncio.Event()
    cancelled = False

    async def never(request):
        nonlocal cancelled
        begun.set()
        try:
            await asyncio.sleep(30)
        except asyncio.CancelledError:
            cancelled = True
            raise

    def scene():
        ipi.listen()
        peer = ipi.accept()
        peer.ready()
        peer.ask(POSITIONS)
        with pytest.raises(EOFError):
            peer.read(12)

    upstream = Session(ipi.address, never)
    running = asyncio.create_task(upstream.run())
    there = asyncio.create_task(asyncio.to_thread(scene))
    await begun.wait()
    if how == "stop":
        upstream.stop()
        await asyncio.wait_for(running, 5)
    else:
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
    await there
    assert cancelled


async def test_stop_before_anybody_listens(ipi):
    upstream = Session(ipi.address, at_once)
    running = asyncio.create_task(upstream.run())
    await asyncio.sleep(0.1)
    upstream.stop()
    await asyncio.wait_for(running, 2)

    early = Session(ipi.address, at_once)
    early.stop()
    await asyncio.wait_for(early.run(), 2)


def test_nonsense_is_refused_when_made():
    with pytest.raises(ConfigError, match="connections"):
        Session("unix:x", at_once, connections=0)
    with pytest.raises(ConfigError, match="expected unix:NAME"):
        Session("nowhere", at_once)


async def test_a_peer_that_connects_and_stays_silent_is_reported(ipi, monkeypatch, capsys):
    monkeypatch.setattr(exchange, "_SILENT_S", 0.2)

    def scene():
        ipi.listen()
        peer = ipi.accept()
        time.sleep(1.0)
        peer.force(POSITIONS)
        peer.exit()

    await play(Session(ipi.address, at_once), scene)
    assert capsys.readouterr().out.count("connected, but no message comes") == 1
