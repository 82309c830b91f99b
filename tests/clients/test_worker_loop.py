"""The worker's loop, in processes of its own, against the real door."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator
from pathlib import Path

import numpy as np
import pytest
import structlog
from limits import HANG_S

from clients.link import Link
from mixserver.dispatch.dispatcher import Dispatcher
from mixserver.dispatch.policy import Policy
from mixserver.dispatch.zmq_door import ZmqDoor
from mixserver.errors import BadInput
from mixserver.wire.worker import VERSION, Evaluate, Hello, ModelCard, Result

ODD = Path(__file__).parents[1] / "system" / "odd_worker.py"
POLICY = Policy(roles={"cheap": ""}, patience_s=2.0, heartbeat_s=0.2, failures=1)


class Workers:
    """Worker processes; those that are left are killed."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.all: list[subprocess.Popen[str]] = []

    def start(self, kind: str, *options: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, str(ODD), kind, "--server", self.address, *options],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.all.append(process)
        return process

    def end(self) -> None:
        for process in self.all:
            process.kill()
            process.communicate()


async def ended(process: subprocess.Popen[str], within: float = HANG_S) -> tuple[int, str, str]:
    """Exit status, stdout, stderr."""
    out, err = await asyncio.to_thread(process.communicate, timeout=within)
    return process.returncode, out, err


@pytest.fixture
async def dispatcher() -> AsyncIterator[Dispatcher]:
    structlog.configure(logger_factory=structlog.ReturnLoggerFactory())
    door = ZmqDoor("tcp://127.0.0.1:0", POLICY)
    async with Dispatcher(POLICY, [door]) as dispatcher:
        dispatcher.workers_here = Workers(door.address)  # type: ignore[attr-defined]
        yield dispatcher
        dispatcher.workers_here.end()  # type: ignore[attr-defined]
    structlog.reset_defaults()


@pytest.fixture
def workers(dispatcher: Dispatcher) -> Workers:
    here: Workers = dispatcher.workers_here  # type: ignore[attr-defined]
    return here


@pytest.fixture
def question() -> Evaluate:
    rng = np.random.default_rng(3)
    return Evaluate(
        job=0,
        stream=0,
        positions=rng.random((6, 3)),
        numbers=np.full(6, 14, np.int32),
        cell=10.0 * np.eye(3),
        pbc=(True, True, True),
    )


async def test_it_answers_until_the_server_says_goodbye(
    dispatcher: Dispatcher, workers: Workers, question: Evaluate
) -> None:
    process = workers.start("good", "--name", "w1")
    replies = await dispatcher.run([("cheap", question)] * 5)
    assert [reply.worker for reply in replies] == ["w1"] * 5
    np.testing.assert_array_equal(replies[4].result.forces, -question.positions)
    assert replies[0].result.seconds > 0.0
    await dispatcher.close("done")
    code, out, err = await ended(process)
    assert (code, out) == (0, "closed\n")
    assert "Error" not in err


async def test_bad_input_is_told_and_the_worker_carries_on(
    dispatcher: Dispatcher, workers: Workers, question: Evaluate
) -> None:
    process = workers.start("picky")
    for _ in range(2):
        with pytest.raises(BadInput, match="element Uue is unknown"):
            await dispatcher.run([("cheap", question)])
    assert process.poll() is None


async def test_a_broken_engine_is_told_and_the_worker_dies_in_one_line(
    dispatcher: Dispatcher, workers: Workers, question: Evaluate
) -> None:
    process = workers.start("raises")
    with pytest.raises(BadInput, match="RuntimeError: the GPU is on fire"):
        await dispatcher.run([("cheap", question)])
    code, out, err = await ended(process)
    assert code == 1
    assert out == "closed\n"
    (line,) = [line for line in err.splitlines() if line.startswith("Error:")]
    assert "the GPU is on fire" in line
    assert "Traceback" not in err


async def test_an_answer_of_the_wrong_shape_is_the_workers_own_fault(
    dispatcher: Dispatcher, workers: Workers, question: Evaluate
) -> None:
    process = workers.start("flat")
    with pytest.raises(BadInput, match=r"Result\.forces must be \(n, 3\)"):
        await dispatcher.run([("cheap", question)])
    assert (await ended(process))[0] == 1


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_while_idle_ends_it_cleanly(
    dispatcher: Dispatcher, workers: Workers, number: signal.Signals
) -> None:
    process = workers.start("good")
    await dispatcher.card("cheap")
    process.send_signal(number)
    code, out, _ = await ended(process)
    assert (code, out) == (0, "closed\n")
    async with asyncio.timeout(HANG_S):
        while dispatcher.workers():  # noqa: ASYNC110 - there is no event for it
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("kind", ["good", "compiled"])
async def test_a_signal_in_the_middle_of_a_long_evaluation_ends_it_soon(
    dispatcher: Dispatcher, workers: Workers, question: Evaluate, kind: str
) -> None:
    process = workers.start(kind, "--slow", "600")
    asking = asyncio.create_task(dispatcher.run([("cheap", question)]))
    assert process.stdout is not None
    assert (await asyncio.to_thread(process.stdout.readline)).startswith("evaluating ")
    started = time.monotonic()
    process.send_signal(signal.SIGTERM)
    async with asyncio.timeout(HANG_S):  # told at once, long before the process is gone
        while dispatcher.workers():  # noqa: ASYNC110 - there is no event for it
            await asyncio.sleep(0.01)
    code, _, _ = await ended(process)
    assert code == 0
    assert time.monotonic() - started < HANG_S
    assert not asking.done(), "a worker that was told to go is no reason to blame the job"
    asking.cancel()
    await asyncio.gather(asking, return_exceptions=True)


async def test_another_model_than_the_runs_is_turned_away(
    dispatcher: Dispatcher, workers: Workers
) -> None:
    workers.start("good")
    await dispatcher.card("cheap")
    other = workers.start("good", "--fingerprint", "bb", "--name", "other")
    code, _, err = await ended(other)
    assert code == 1
    (line,) = [line for line in err.splitlines() if line.startswith("Error:")]
    assert "aa" in line
    assert "bb" in line
    assert [view.name for view in dispatcher.workers()] != ["other"]


async def test_nothing_is_left_open_by_many_servers_and_links(question: Evaluate) -> None:
    def descriptors() -> int:
        return len(list(Path("/proc/self/fd").iterdir()))

    async def once() -> None:
        door = ZmqDoor("tcp://127.0.0.1:0", POLICY)
        async with Dispatcher(POLICY, [door]) as dispatcher:
            hello = Hello(
                protocol=VERSION,
                role="cheap",
                name="w",
                model=ModelCard(engine="toy", name="toy", fingerprint="aa"),
            )
            with Link(door.address, hello) as link:
                asking = asyncio.create_task(dispatcher.run([("cheap", question)]))
                job = await asyncio.to_thread(next, link.jobs())
                forces, virial = np.ones_like(job.positions), np.eye(3)
                link.answer(Result(job=job.job, energy=0.0, forces=forces, virial=virial))
                await asking

    await once()
    before = descriptors()
    for _ in range(10):
        await once()
    assert descriptors() == before
    assert "link" not in {thread.name for thread in threading.enumerate()}
    assert len(asyncio.all_tasks()) == 1
