"""The worker's loop, in processes of its own, against the real listener."""

from __future__ import annotations

import asyncio
import dataclasses
import signal
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import numpy as np
import pytest
import structlog
from limits import HANG_S
from mixserver_worker.link import ServerLink

from mixserver.core.errors import BadInput
from mixserver.core.processes import environment_program
from mixserver.dispatch.dispatcher import Dispatcher
from mixserver.dispatch.policy import Policy
from mixserver.dispatch.zmq_workers.listener import ZmqListener
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
    listener = ZmqListener("tcp://127.0.0.1:0", POLICY)
    async with Dispatcher(POLICY, [listener]) as dispatcher:
        dispatcher.workers_here = Workers(listener.address)  # type: ignore[attr-defined]
        yield dispatcher
        dispatcher.workers_here.end()  # type: ignore[attr-defined]


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


async def test_bad_input_is_reported_and_the_worker_goes_on(
    dispatcher: Dispatcher, workers: Workers, question: Evaluate
) -> None:
    process = workers.start("picky")
    for _ in range(2):
        with pytest.raises(BadInput, match="element Uue is unknown"):
            await dispatcher.run([("cheap", question)])
    assert process.poll() is None


async def test_a_failed_engine_is_reported_and_ends_the_worker_in_one_line(
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
async def test_a_signal_lets_a_worker_finish_its_job(
    dispatcher: Dispatcher, workers: Workers, question: Evaluate, kind: str
) -> None:
    process = workers.start(kind, "--slow", "2.5")
    asking = asyncio.create_task(dispatcher.run([("cheap", question)] * 2))
    assert process.stdout is not None
    assert (await asyncio.to_thread(process.stdout.readline)).startswith("evaluating ")
    process.send_signal(signal.SIGTERM)
    process.send_signal(signal.SIGTERM)  # as mpiexec and process groups deliver it
    code, out, _ = await ended(process)
    assert code == 0
    assert "evaluating" not in out, "no other job was begun"
    done = [step.worker for step in dispatcher.transitions() if step.action == "CompleteJob"]
    assert len(done) == 1
    assert not asking.done(), "the second job waits for another worker"
    workers.start("good")
    results = await asking
    np.testing.assert_array_equal(results[1].result.forces, -question.positions)


@pytest.mark.parametrize("kind", ["good", "compiled"])
async def test_a_second_signal_in_the_middle_of_a_long_evaluation_ends_it_soon(
    dispatcher: Dispatcher, workers: Workers, question: Evaluate, kind: str
) -> None:
    process = workers.start(kind, "--slow", "600")
    asking = asyncio.create_task(dispatcher.run([("cheap", question)]))
    assert process.stdout is not None
    assert (await asyncio.to_thread(process.stdout.readline)).startswith("evaluating ")
    started = time.monotonic()
    process.send_signal(signal.SIGTERM)
    await asyncio.sleep(1.5)
    assert dispatcher.workers(), "it finishes its job"
    process.send_signal(signal.SIGTERM)
    async with asyncio.timeout(HANG_S):  # reported at once, long before the process is gone
        while dispatcher.workers():  # noqa: ASYNC110 - there is no event for it
            await asyncio.sleep(0.01)
    code, _, _ = await ended(process)
    assert code == 0
    assert time.monotonic() - started < HANG_S
    assert not asking.done(), "a worker that was asked to end is no reason to blame the job"
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
        listener = ZmqListener("tcp://127.0.0.1:0", POLICY)
        async with Dispatcher(POLICY, [listener]) as dispatcher:
            hello = Hello(
                protocol=VERSION,
                role="cheap",
                name="w",
                model=ModelCard(engine="toy", name="toy", fingerprint="aa"),
            )
            with ServerLink(listener.address, hello) as link:
                asking = asyncio.create_task(dispatcher.run([("cheap", question)]))
                job = await asyncio.to_thread(next, link.jobs())
                forces, virial = np.ones_like(job.positions), np.eye(3)
                link.send_result(Result(job=job.job, energy=0.0, forces=forces, virial=virial))
                await asking

    await once()
    before = descriptors()
    for _ in range(10):
        await once()
    assert descriptors() == before
    assert "link" not in {thread.name for thread in threading.enumerate()}
    assert len(asyncio.all_tasks()) == 1


async def test_beads_are_evaluated_together_by_a_real_worker(
    question: Evaluate,
) -> None:
    policy = dataclasses.replace(POLICY, roles={"expensive": ""}, batch_sites=100)
    listener = ZmqListener("tcp://127.0.0.1:0", policy)
    async with Dispatcher(policy, [listener]) as dispatcher:
        command = [environment_program("mixserver-worker"), "toy", "--role", "expensive"]
        process = await asyncio.create_subprocess_exec(
            *command, "--server", listener.address, stderr=subprocess.DEVNULL
        )
        try:
            await dispatcher.card("expensive")
            jobs = [
                msgspec.structs.replace(question, stream=bead, positions=question.positions + bead)
                for bead in range(4)
            ]
            alone = [(await dispatcher.run([("expensive", job)]))[0].result for job in jobs]
            before = dispatcher.workers()[0].tally.jobs
            asked = [asyncio.create_task(dispatcher.run([("expensive", job)])) for job in jobs]
            for wanted, (done,) in zip(alone, await asyncio.gather(*asked), strict=True):
                assert done.result.energy == wanted.energy
                np.testing.assert_array_equal(done.result.forces, wanted.forces)
                np.testing.assert_array_equal(done.result.virial, wanted.virial)
            assert dispatcher.workers()[0].tally.jobs == before + 1
        finally:
            process.kill()
            await process.wait()
