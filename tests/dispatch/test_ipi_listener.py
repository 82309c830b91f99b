"""The listener for stock i-PI clients, against a hand-written client on its own thread."""

import asyncio
import contextlib
import os
import re
import socket
import struct
import threading
import time
import uuid
from pathlib import Path

import msgspec
import numpy as np
import pytest
from limits import HANG_S

from mixserver.core import units
from mixserver.core.errors import ConfigError, NoWorkerError
from mixserver.dispatch.dispatcher import Dispatcher
from mixserver.dispatch.ipi_clients.listener import IpiListener
from mixserver.dispatch.policy import Policy
from mixserver.dispatch.scheduling.events import (
    FailureReceived,
    ResultReceived,
    WorkerAlive,
    WorkerJoined,
    WorkerLeft,
)
from mixserver.wire.worker import Evaluate, ModelCard

EXACT = 1e-12

CARD = ModelCard(engine="ipi-client", name="stock", fingerprint="f" * 64, cutoff=5.0)
CELL = np.array([[9.0, 0.0, 0.0], [1.0, 8.0, 0.0], [2.0, 3.0, 7.0]])


def job(n=3, number=1, **more):
    values = {
        "job": number,
        "stream": 0,
        "positions": np.random.default_rng(5).uniform(0, 6, (n, 3)),
        "numbers": np.full(n, 14, np.int32),
        "cell": CELL,
        "pbc": (True, True, True),
        **more,
    }
    return Evaluate(**values)


def pairs(positions):
    """A rotation-invariant energy without a cell: sum of squared distances (any unit)."""
    apart = positions[:, None] - positions[None, :]
    energy = 0.5 * float((apart**2).sum())
    forces = -2.0 * apart.sum(axis=1)
    return energy, forces, positions.T @ forces


class FakeClient:
    """Blocking; speaks what LAMMPS and ASE speak."""

    def __init__(self, address, status="READY", answer=None, late_s=0.0):
        self.answer = answer or (lambda cell, positions: pairs(positions))
        self.late_s = late_s
        self.inits = []
        if address.startswith("/"):
            self.connection = socket.socket(socket.AF_UNIX)
            self.connection.connect(address)
        else:
            host, port = address.rsplit(":", 1)
            self.connection = socket.create_connection((host, int(port)))
        self.connection.settimeout(HANG_S)
        self.status = status
        self.initialised = status == "READY"
        self.seen = []

    def read(self, n):
        data = b""
        while len(data) < n:
            chunk = self.connection.recv(n - len(data))
            if not chunk:
                raise EOFError
            data += chunk
        return data

    def serve(self, jobs, extras=b"{}\0", every_time=False):
        """Answer so many jobs, then return the first header that follows (or "EOF")."""
        try:
            while True:
                word = self.read(12).decode().strip()
                if word == "STATUS":
                    time.sleep(self.late_s if self.seen else 0.0)
                    said = "READY" if self.initialised else "NEEDINIT"
                    self.connection.sendall(said.ljust(12).encode())
                elif word == "INIT":
                    (rid,) = struct.unpack("<i", self.read(4))
                    text = self.read(struct.unpack("<i", self.read(4))[0]).decode()
                    self.inits.append((rid, text))
                    self.initialised = True
                elif word == "POSDATA" and jobs:
                    jobs -= 1
                    cell = np.frombuffer(self.read(72)).reshape(3, 3)
                    self.read(72)
                    (n,) = struct.unpack("<i", self.read(4))
                    positions = np.frombuffer(self.read(24 * n)).reshape(n, 3)
                    self.seen.append((cell, positions))
                    energy, forces, virial = self.answer(cell, positions)
                    assert self.read(12) == b"GETFORCE    "
                    # in small pieces, as ASE does
                    for piece in (
                        b"FORCEREADY  ",
                        struct.pack("<d", energy),
                        struct.pack("<i", n),
                        forces.tobytes(),
                        virial.T.tobytes(),
                        struct.pack("<i", len(extras)),
                        extras,
                    ):
                        self.connection.sendall(piece)
                    self.initialised = not every_time
                else:
                    return word
        except (EOFError, OSError):
            return "EOF"

    def close(self):
        with contextlib.suppress(OSError):
            self.connection.shutdown(socket.SHUT_RDWR)  # wakes `serve`, if it runs
        self.connection.close()


class Events:
    def __init__(self):
        self.queue = asyncio.Queue()

    def report(self, listener, event):
        self.queue.put_nowait(event)

    async def next(self, kind):
        async with asyncio.timeout(HANG_S):
            while not isinstance(event := await self.queue.get(), kind):
                assert isinstance(event, WorkerAlive), event
        return event


@pytest.fixture
def events():
    return Events()


@pytest.fixture
def settings():
    """Of the listener, beyond its defaults."""
    return {}


@pytest.fixture(params=["unix", "tcp"])
async def listener(request, events, settings):
    address = f"unix:mix_{uuid.uuid4().hex[:8]}" if request.param == "unix" else "127.0.0.1:0"
    listener = IpiListener(address, "cheap", card=CARD, heartbeat_s=0.1, **settings)
    files = len(os.listdir("/proc/self/fd"))
    await listener.open(events.report)
    yield listener
    await listener.close("the test ends")
    await asyncio.sleep(0)
    assert len(asyncio.all_tasks()) <= 2  # this fixture and the test
    assert len(os.listdir("/proc/self/fd")) == files
    assert not Path(listener.address).exists()  # noqa: ASYNC240


@pytest.fixture
def connect(listener):
    made = []

    def make(**settings):
        made.append(FakeClient(listener.address, **settings))
        return made[-1]

    yield make
    for client in made:
        client.close()


@pytest.mark.parametrize("every_time", [False, True])
@pytest.mark.parametrize("status", ["READY", "NEEDINIT"])
async def test_a_client_joins_and_answers_jobs(listener, events, connect, status, every_time):
    client = connect(status=status)
    served = asyncio.create_task(asyncio.to_thread(client.serve, 3, every_time=every_time))
    joined = await events.next(WorkerJoined)
    assert (joined.role, joined.card) == ("cheap", CARD)
    listener.welcome(joined.worker)
    for number in range(3):
        asked = job(number=number, weight=np.ones(3) if number else None)
        listener.send(joined.worker, asked)
        answer = await events.next(ResultReceived)
        assert answer.worker == joined.worker
        result = answer.result
        assert (result.job, result.extras) == (number, "{}")
        # the client reckons in bohr and hartree
        energy, forces, virial = pairs(asked.positions * units.ANGSTROM)
        np.testing.assert_allclose(result.energy, energy * units.HARTREE, rtol=EXACT)
        np.testing.assert_allclose(result.forces, forces * units.HARTREE_PER_BOHR, rtol=EXACT)
        np.testing.assert_allclose(result.virial, virial * units.HARTREE, rtol=EXACT)
        assert result.seconds > 0.0
    np.testing.assert_allclose(client.seen[0][0], CELL.T * units.ANGSTROM, rtol=EXACT)
    await asyncio.sleep(0.05)  # it still says that it is ready again
    listener.drop(joined.worker, "enough")
    assert await served == "EXIT"


async def test_any_cell_reaches_a_client_as_ipi_would_send_it(listener, events, connect):
    client = connect()
    served = asyncio.create_task(asyncio.to_thread(client.serve, 1))
    joined = await events.next(WorkerJoined)
    random, _ = np.linalg.qr(np.random.default_rng(3).normal(size=(3, 3)))
    asked = job(cell=CELL @ random)
    listener.send(joined.worker, asked)
    result = (await events.next(ResultReceived)).result
    columns, placed = client.seen[0]
    assert columns[1, 0] == columns[2, 0] == columns[2, 1] == 0.0
    np.testing.assert_allclose(columns.T, CELL * units.ANGSTROM, atol=1e-12)
    inside = placed @ np.linalg.inv(columns.T)
    np.testing.assert_allclose(inside, asked.positions @ np.linalg.inv(asked.cell), atol=1e-12)
    _, forces, virial = pairs(asked.positions * units.ANGSTROM)
    np.testing.assert_allclose(result.forces, forces * units.HARTREE_PER_BOHR, atol=1e-9)
    np.testing.assert_allclose(result.virial, virial * units.HARTREE, atol=1e-9)
    client.close()
    await served


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"weight": np.array([1.0, 0.5, 0.0])}, "site weights"),
        ({"criterion": "coord/atom cutoff 3"}, "criterion"),
        ({"energies": True}, "site energies"),
    ],
)
async def test_a_job_no_client_can_do_is_blamed_on_the_input(
    listener, events, connect, more, message
):
    client = connect()
    served = asyncio.create_task(asyncio.to_thread(client.serve, 0))
    joined = await events.next(WorkerJoined)
    listener.send(joined.worker, job(number=7, **more))
    failed = await events.next(FailureReceived)
    assert (failed.job, failed.blame) == (7, "input")
    assert message in failed.message
    listener.drop(joined.worker, "enough")
    assert await served == "EXIT"


async def test_a_client_keeps_its_number_of_atoms(listener, events, connect):
    client = connect()
    served = asyncio.create_task(asyncio.to_thread(client.serve, 1))
    joined = await events.next(WorkerJoined)
    listener.send(joined.worker, job(3))
    await events.next(ResultReceived)
    listener.send(joined.worker, job(4))
    assert "had 3 atoms, this one has 4" in (await events.next(FailureReceived)).message
    client.close()
    await served


async def test_another_number_of_atoms_is_for_the_next_process_of_ipis_own_driver(
    listener, events, connect
):
    client = connect(status="NEEDINIT")
    served = asyncio.create_task(asyncio.to_thread(client.serve, 2))
    joined = await events.next(WorkerJoined)
    listener.send(joined.worker, job(3))
    await events.next(ResultReceived)
    listener.send(joined.worker, job(4, number=2))
    left = await events.next(WorkerLeft)
    assert left.orderly  # the job is not suspected of having broken it
    assert "had 3 atoms, this one has 4" in left.reason
    assert await served == "EXIT"
    again = connect(status="NEEDINIT")
    served = asyncio.create_task(asyncio.to_thread(again.serve, 2))
    joined = await events.next(WorkerJoined)
    listener.send(joined.worker, job(4, number=2))
    assert len((await events.next(ResultReceived)).result.forces) == 4
    again.close()
    await served


async def test_a_client_gets_parameters_and_rid_with_its_first_job(listener, events, connect):
    client = connect(status="NEEDINIT")
    served = asyncio.create_task(asyncio.to_thread(client.serve, 2, every_time=True))
    joined = await events.next(WorkerJoined)
    listener.send(joined.worker, job(parameters="a : 1 , b : foo ,", rid=7))
    await events.next(ResultReceived)
    listener.send(joined.worker, job(number=2, rid=8, parameters="a : 1 , , batch_size:4"))
    await events.next(ResultReceived)
    listener.drop(joined.worker, "enough")
    assert await served == "EXIT"
    assert client.inits == [(7, " a : 1 , b : foo , "), (8, " a : 1 , ")]


@pytest.mark.parametrize("settings", [{"geometry": "as_sent"}])
async def test_positions_cell_and_virial_pass_as_they_are(listener, events, connect, settings):
    virial = np.arange(9.0).reshape(3, 3)
    client = connect(
        status="NEEDINIT", answer=lambda cell, positions: (1.0, 0.1 * positions, virial)
    )
    served = asyncio.create_task(asyncio.to_thread(client.serve, 1))
    joined = await events.next(WorkerJoined)
    turned, _ = np.linalg.qr(np.random.default_rng(3).normal(size=(3, 3)))
    asked = job(cell=-CELL @ turned, positions=np.random.default_rng(5).uniform(-90, 90, (3, 3)))
    listener.send(joined.worker, asked)
    result = (await events.next(ResultReceived)).result
    columns, placed = client.seen[0]
    np.testing.assert_allclose(columns.T, asked.cell * units.ANGSTROM, rtol=EXACT)
    np.testing.assert_allclose(placed, asked.positions * units.ANGSTROM, rtol=EXACT)
    np.testing.assert_allclose(result.forces, 0.1 * placed * units.HARTREE_PER_BOHR, rtol=EXACT)
    np.testing.assert_allclose(result.virial, virial * units.HARTREE, rtol=EXACT)
    listener.drop(joined.worker, "enough")
    assert await served == "EXIT"


async def test_a_client_that_is_slow_to_say_that_it_is_ready_is_waited_for(
    listener, events, connect
):
    """i-PI's EXIT comes right after the last force, when clients still owe the answer to STATUS."""
    client = connect(late_s=0.5)
    served = asyncio.create_task(asyncio.to_thread(client.serve, 1))
    joined = await events.next(WorkerJoined)
    listener.send(joined.worker, job())
    await events.next(ResultReceived)
    await listener.close("i-PI sent EXIT")
    assert await served == "EXIT"


async def test_a_busy_client_gets_exit_once_it_is_idle(listener, events, connect):
    gate = threading.Event()

    def slow(cell, positions):
        assert gate.wait(20)
        return pairs(positions)

    client = connect(answer=slow)
    served = asyncio.create_task(asyncio.to_thread(client.serve, 1))
    joined = await events.next(WorkerJoined)
    listener.send(joined.worker, job())
    listener.drop(joined.worker, "its result is not needed")
    gate.set()
    assert await served == "EXIT"


@pytest.mark.parametrize("settings", [{"patience_s": 0.3}])
@pytest.mark.parametrize(
    "part",
    [b"FORC", b"FORCEREADY  ", b"FORCEREADY  " + struct.pack("<di", 0.0, 3) + bytes(30)],
    ids=["header", "number", "forces"],
)
async def test_a_client_that_stops_in_the_middle_of_its_answer_has_left(
    listener, events, connect, part, settings
):
    client = connect()
    served = asyncio.create_task(asyncio.to_thread(client.serve, 0))
    joined = await events.next(WorkerJoined)
    await asyncio.sleep(0.6)  # silence between messages is nothing
    listener.send(joined.worker, job())
    assert await served == "POSDATA"
    client.connection.sendall(part)
    assert "stopped in the middle of a message" in (await events.next(WorkerLeft)).reason


@pytest.mark.parametrize("settings", [{"patience_s": 0.5}])
async def test_a_server_that_stood_still_in_the_middle_of_an_answer_blames_no_client(
    listener, events, connect, settings
):
    client = connect()
    served = asyncio.create_task(asyncio.to_thread(client.serve, 0))
    joined = await events.next(WorkerJoined)
    asked = job()
    listener.send(joined.worker, asked)
    assert await served == "POSDATA"
    energy, forces, virial = pairs(asked.positions)
    client.connection.sendall(b"FORCEREADY  " + struct.pack("<di", energy, 3))
    await asyncio.sleep(0.2)  # that much has been read
    client.connection.sendall(forces.tobytes() + virial.T.tobytes() + struct.pack("<i", 0))
    time.sleep(2.0)  # noqa: ASYNC251 - all of it has come by now, and nothing was read
    assert (await events.next(ResultReceived)).worker == joined.worker


def springs(count, *, kinds=None, frozen=(), more=()):
    """What a client answers that has `count` atoms: pairs of Gaussians, in hartree and bohr."""
    strength = np.ones(count + len(more)) if kinds is None else np.asarray(kinds, float)

    def answer(cell, positions):
        known = np.vstack([positions[:count], np.reshape(more, (-1, 3))])
        apart = known[:, None] - known[None, :]
        bumps = np.outer(strength, strength) * np.exp(-(apart**2).sum(axis=2) / 8.0)
        np.fill_diagonal(bumps, 0.0)
        forces = np.zeros_like(positions)
        forces[:count] = 0.25 * (bumps[:, :, None] * apart).sum(axis=1)[:count]
        forces[list(frozen)] = 0.0
        return 0.5 * bumps.sum(), forces, np.zeros((3, 3))

    return answer


SPREAD = np.random.default_rng(8).uniform(0, 4, (6, 3))
FAR = np.vstack([SPREAD[:5], [400.0, 0.0, 0.0]])


@pytest.mark.parametrize("settings", [{"test_order": True, "geometry": "as_sent"}])
@pytest.mark.parametrize(
    ("answer", "positions", "numbers", "wrong"),
    [
        (springs(6), SPREAD, [14] * 6, ""),
        (springs(4), SPREAD, [14] * 6, "as if atom 5 .* and 1 others were not there"),
        (springs(5), SPREAD, [14, 14, 14, 14, 6, 14], "as if atom 5 .* was not there"),
        (springs(6), FAR, [14] * 6, ""),  # alone in the vacuum
        (springs(5), FAR, [14] * 6, "as if atom 5 .* was not there"),
        (springs(6, frozen=[4, 5]), SPREAD, [14] * 6, ""),
        (springs(6, frozen=[5]), FAR, [14] * 6, ""),  # alone, and held in place by the client
        (lambda c, p: (0.0, np.zeros_like(p), c), SPREAD, [14] * 6, ""),  # an ideal gas
        (springs(6, kinds=[1, 1, 1, 2, 2, 2]), SPREAD, [14, 14, 14, 6, 6, 6], ""),
        (springs(6, kinds=[1, 1, 1, 2, 2, 2]), SPREAD, [14, 6] * 3, "another order"),
        (springs(6), SPREAD, [14, 6] * 3, ""),  # it knows no elements
        (springs(6, more=[[1.0, 0.5, 0.2]]), SPREAD, [14] * 6, "computes more atoms than"),
    ],
)
async def test_a_client_is_probed_for_what_it_returns(
    listener, events, connect, answer, positions, numbers, wrong, settings
):
    client = connect(answer=answer)
    served = asyncio.create_task(asyncio.to_thread(client.serve, 20))
    joined = await events.next(WorkerJoined)
    asked = job(positions=positions, numbers=np.array(numbers, np.int32))
    listener.send(joined.worker, asked)
    if wrong:
        failed = await events.next(FailureReceived)
        assert failed.blame == "worker"
        assert re.search(wrong, failed.message), failed.message
        assert "workers.clients_probe" in failed.message
    else:
        energy, forces, _ = answer(CELL, positions * units.ANGSTROM)
        for number in (1, 2):
            result = (await events.next(ResultReceived)).result
            np.testing.assert_allclose(result.energy, energy * units.HARTREE, rtol=EXACT)
            np.testing.assert_allclose(
                result.forces, forces * units.HARTREE_PER_BOHR, rtol=1e-10, atol=EXACT
            )
            before = len(client.seen)
            listener.send(joined.worker, msgspec.structs.replace(asked, job=number + 1))
        await events.next(ResultReceived)
        assert len(client.seen) == before + 1  # it is asked once
    listener.drop(joined.worker, "enough")
    assert await served == "EXIT"


@pytest.mark.parametrize("settings", [{"test_order": True}])
@pytest.mark.parametrize("periodic", [True, False])
async def test_a_client_that_needs_whole_molecules_is_not_sent_wrapped_atoms(
    listener, events, connect, settings, periodic
):
    answer = nine_numbers if periodic else lambda cell, positions: pairs(positions)
    client = connect(status="NEEDINIT", answer=answer)
    served = asyncio.create_task(asyncio.to_thread(client.serve, 20))
    joined = await events.next(WorkerJoined)
    listener.send(joined.worker, job())
    if periodic:
        await events.next(ResultReceived)
    else:
        failed = await events.next(FailureReceived)
        assert failed.blame == "input"
        assert "needs molecules in one piece" in failed.message
    listener.drop(joined.worker, "enough")
    assert await served == "EXIT"


def six_numbers(cell, positions):
    """LAMMPS's fix ipi reads six of nine: energies of periodic waves in that cell."""
    seen = np.triu(cell)
    place = positions @ np.linalg.inv(seen).T
    forces = -np.sin(2 * np.pi * place) @ np.linalg.inv(seen)
    return float(np.cos(2 * np.pi * place).sum()), forces, np.zeros((3, 3))


def nine_numbers(cell, positions):
    place = positions @ np.linalg.inv(cell).T
    return (
        float(np.cos(2 * np.pi * place).sum()),
        np.sin(2 * np.pi * place),
        np.zeros((3, 3)),
    )


@pytest.mark.parametrize("settings", [{"geometry": "as_sent"}])
@pytest.mark.parametrize(
    ("answer", "wrong"),
    [
        (six_numbers, "reads six of the nine numbers"),
        (nine_numbers, ""),
        (lambda cell, positions: pairs(positions), ""),  # has no use for a cell
    ],
)
async def test_a_turned_cell_is_not_sent_to_a_client_that_cannot_read_it(
    listener, events, connect, answer, wrong, settings
):
    client = connect(answer=answer)
    served = asyncio.create_task(asyncio.to_thread(client.serve, 20))
    joined = await events.next(WorkerJoined)
    listener.send(joined.worker, job())
    await events.next(ResultReceived)
    assert len(client.seen) == 1  # a cell as i-PI has it is nothing to ask about
    turn, _ = np.linalg.qr(np.random.default_rng(3).normal(size=(3, 3)))
    asked = job(number=2, cell=CELL @ turn)
    listener.send(joined.worker, asked)
    if wrong:
        failed = await events.next(FailureReceived)
        assert failed.blame == "input"
        assert wrong in failed.message
        assert "workers.clients_geometry" in failed.message
    else:
        result = (await events.next(ResultReceived)).result
        columns, placed = client.seen[-1]
        np.testing.assert_allclose(columns.T, asked.cell * units.ANGSTROM, atol=1e-12)
        energy = answer(columns, placed)[0]
        np.testing.assert_allclose(result.energy, energy * units.HARTREE, rtol=EXACT)
    listener.drop(joined.worker, "enough")
    assert await served == "EXIT"


async def test_a_client_that_dies_in_mid_job_has_left(listener, events, connect):
    client = connect()
    served = asyncio.create_task(asyncio.to_thread(client.serve, 0))
    joined = await events.next(WorkerJoined)
    listener.send(joined.worker, job())
    assert await served == "POSDATA"
    client.close()
    left = await events.next(WorkerLeft)
    assert left.worker == joined.worker
    assert left.reason
    listener.send(joined.worker, job(number=2))
    assert (await events.next(WorkerLeft)).worker == joined.worker


async def test_a_client_that_answers_for_other_atoms_has_left(listener, events, connect):
    client = connect()
    served = asyncio.create_task(asyncio.to_thread(client.serve, 0))
    joined = await events.next(WorkerJoined)
    listener.send(joined.worker, job(3))
    await served
    client.connection.sendall(b"FORCEREADY  " + bytes(8) + struct.pack("<i", 5))
    assert "an i-PI client got 3 atoms" in (await events.next(WorkerLeft)).reason


async def test_an_open_connection_is_a_sign_of_life(listener, events, connect):
    client = connect()
    served = asyncio.create_task(asyncio.to_thread(client.serve, 0))
    joined = await events.next(WorkerJoined)
    async with asyncio.timeout(HANG_S):
        for _ in range(3):
            assert await events.queue.get() == WorkerAlive(joined.worker)
    client.close()
    await served


async def test_garbage_on_the_port_is_dropped_and_the_listener_goes_on(listener, events, connect):
    liar = connect()
    liar.connection.sendall(b"GET / HTTP/1.1\r\n\r\n")
    with pytest.raises((EOFError, ConnectionResetError)):
        await asyncio.to_thread(lambda: [liar.read(12), liar.read(12), liar.read(12)])
    silent = connect()
    hasty = connect()
    hasty.close()
    client = connect()
    served = asyncio.create_task(asyncio.to_thread(client.serve, 1))
    joined = await events.next(WorkerJoined)
    listener.send(joined.worker, job())
    await events.next(ResultReceived)
    silent.close()
    client.close()
    await served


async def test_connections_that_say_nothing_take_no_clients_place(listener, events, connect):
    silent = await asyncio.to_thread(lambda: [connect() for _ in range(90)])
    client = connect()
    served = asyncio.create_task(asyncio.to_thread(client.serve, 1))
    joined = await events.next(WorkerJoined)
    listener.send(joined.worker, job())
    await events.next(ResultReceived)
    assert len(listener._clients) == 64
    ends = await asyncio.to_thread(lambda: [one.serve(0, every_time=True) for one in silent[:26]])
    assert set(ends) <= {"EOF", "EXIT"}
    client.close()
    await served


async def test_a_client_that_never_says_anything_is_disconnected(
    listener, events, connect, monkeypatch
):
    monkeypatch.setattr("mixserver.dispatch.ipi_clients.connection.FIRST_WORD_S", 1.0)
    silent = connect()
    assert await asyncio.to_thread(lambda: [silent.read(12), silent.read(12)]) == [
        b"STATUS      ",
        b"EXIT        ",
    ]


async def test_closing_sends_exit_to_every_client(listener, events, connect):
    clients = [connect() for _ in range(3)]
    served = [asyncio.create_task(asyncio.to_thread(client.serve, 0)) for client in clients]
    for _ in clients:
        await events.next(WorkerJoined)
    await listener.close("over")
    assert await asyncio.gather(*served) == ["EXIT"] * 3


async def test_a_stale_socket_is_replaced_and_a_live_one_is_not(events):
    name = f"mix_{uuid.uuid4().hex[:8]}"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(f"/tmp/ipi_{name}")
    listener = IpiListener(f"unix:{name}", "cheap", card=CARD)
    await listener.open(events.report)
    try:
        with pytest.raises(ConfigError, match="another program listens at"):
            await IpiListener(f"unix:{name}", "cheap", card=CARD).open(events.report)
    finally:
        await listener.close("over")


async def test_a_file_that_is_no_socket_is_left_alone(events, tmp_path):
    file = tmp_path / "precious"
    file.write_text("data")
    with pytest.raises(ConfigError, match="is not a socket"):
        await IpiListener(f"unix:{file}", "cheap", card=CARD).open(events.report)
    assert file.read_text() == "data"


async def test_a_port_in_use_is_a_configuration_error(events):
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        address = f"127.0.0.1:{other.getsockname()[1]}"
        with pytest.raises(ConfigError, match="cannot listen at"):
            await IpiListener(address, "cheap", card=CARD).open(events.report)


def test_a_card_that_promises_too_much_is_refused():
    card = ModelCard(engine="ipi-client", name="stock", fingerprint="", weights=True)
    with pytest.raises(ConfigError, match="site weights"):
        IpiListener("unix:x", "cheap", card=card)


async def test_the_error_without_workers_names_the_address_of_stock_clients_too():
    listener = IpiListener("127.0.0.1:0", "cheap", card=CARD)
    policy = Policy(roles={"cheap": "", "expensive": ""}, when_none="stop", first_worker_s=0.05)
    async with Dispatcher(policy, [listener]) as dispatcher:
        with pytest.raises(NoWorkerError, match=f"or a stock i-PI client at {listener.address}"):
            await dispatcher.card("cheap")
        with pytest.raises(NoWorkerError) as caught:
            await dispatcher.card("expensive")
    assert "stock" not in str(caught.value)
