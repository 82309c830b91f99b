"""Workers that die together, lose their connections or hang, and a server that stands still.

Real processes, real sockets, real signals. `failures=1` where the slightest thing that is held
against a job would end it.
"""

from __future__ import annotations

import asyncio
import signal
import subprocess
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest
from limits import HANG_S
from worker_scene import LONG, ODD, Scene, check, question, spawn

from mixserver.core.errors import BadInput, NoWorkerError


async def test_two_that_die_in_one_beat_do_not_stop_the_heart(stage: Callable[..., Scene]) -> None:
    scene = stage(patience_s=2.0)
    async with scene.serving() as dispatcher:
        await scene.start("a", "good", "--slow", LONG)
        await scene.start("b", "good", "--slow", LONG)
        await scene.start("c", "good", "--slow", "4.0")
        asking = asyncio.create_task(dispatcher.run([("cheap", question())]))
        await scene.evaluating("a")
        for name in ("a", "b"):
            scene.signal(name, signal.SIGKILL)
        (reply,) = await asking  # longer than patience: without heartbeats it would join again
        assert reply.worker == "c"
        check([reply])
        scene.signal("c", signal.SIGTERM)
        _, err = await scene.ended("c")
        assert "joining again" not in err


async def test_a_node_of_three_that_dies_ends_nothing(stage: Callable[..., Scene]) -> None:
    scene = stage(failures=3, patience_s=30.0)
    async with scene.serving() as dispatcher:
        for name in ("a", "b", "c"):
            await scene.start(name, "good", "--slow", LONG)
        await scene.start("d")
        asking = asyncio.create_task(dispatcher.run([("cheap", question())]))
        await scene.evaluating("a")
        for name in ("a", "b", "c"):
            scene.signal(name, signal.SIGKILL)
        replies = await asking
        assert replies[0].worker == "d"
        check(replies)


class Relay:
    """A network between workers and server that can lose all connections."""

    def __init__(self) -> None:
        self.writers: list[asyncio.StreamWriter] = []
        self.connections = 0
        self.tasks: set[asyncio.Task[None]] = set()

    @asynccontextmanager
    async def to(self, address: str) -> AsyncIterator[str]:
        host, port = address.removeprefix("tcp://").split(":")

        async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            try:
                while data := await reader.read(1 << 16):
                    writer.write(data)
                    await writer.drain()
            except OSError:
                pass
            finally:
                writer.close()

        async def connect(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            there, back = await asyncio.open_connection(host, int(port))
            self.writers += [writer, back]
            self.connections += 1
            for one, other in ((reader, back), (there, writer)):
                task = asyncio.create_task(pump(one, other))
                self.tasks.add(task)
                task.add_done_callback(self.tasks.discard)

        server = await asyncio.start_server(connect, "127.0.0.1", 0)
        try:
            yield f"tcp://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        finally:
            server.close()
            self.cut()
            await asyncio.gather(*self.tasks, return_exceptions=True)

    def cut(self) -> None:
        for writer in self.writers:
            writer.transport.abort()
        self.writers.clear()


async def test_a_worker_whose_connection_breaks_keeps_its_job(stage: Callable[..., Scene]) -> None:
    scene = stage(failures=1, patience_s=10.0)
    relay = Relay()
    async with scene.serving() as dispatcher, relay.to(scene.address) as scene.address:
        await scene.start("a", "good", "--slow", "3.0")
        asking = asyncio.create_task(dispatcher.run([("cheap", question())]))
        await scene.evaluating("a")
        for connections in (2, 3):
            relay.cut()
            await scene.until(lambda wanted=connections: relay.connections >= wanted)  # type: ignore[misc]
        replies = await asking
        check(replies)
        scene.signal("a", signal.SIGTERM)
        process = scene.processes["a"]
        out, _ = await asyncio.to_thread(process.communicate, timeout=HANG_S)
        assert "evaluating" not in out, "it was evaluated once"


@pytest.mark.parametrize("pauses", [2, pytest.param(3, marks=pytest.mark.physics)])
async def test_a_server_that_is_stopped_again_and_again_blames_no_job(
    stage: Callable[..., Scene], pauses: int
) -> None:
    server = spawn("-c", _SERVER)
    scene = stage()
    try:
        scene.address = await _line(server)
        slow = str(4.0 * pauses)
        scene.processes["a"] = spawn(
            str(ODD), "good", "--server", scene.address, "--name", "a", "--slow", slow
        )
        await scene.evaluating("a")
        for _ in range(pauses):
            server.send_signal(signal.SIGSTOP)
            await asyncio.sleep(2.5)  # longer than its patience, and the worker's
            server.send_signal(signal.SIGCONT)
            await asyncio.sleep(1.0)
        assert await _line(server) == "answered by a"
        scene.signal("a", signal.SIGKILL)
        out, _ = await asyncio.to_thread(scene.processes.pop("a").communicate)
        assert "evaluating" not in out, "it was evaluated once"
    finally:
        server.kill()
        server.communicate()


async def test_a_worker_that_hangs_is_given_up_and_ends(stage: Callable[..., Scene]) -> None:
    scene = stage(job_timeout_s=2.0, patience_s=30.0)
    async with scene.serving() as dispatcher:
        await scene.start("a", "compiled", "--slow", LONG)
        await scene.start("b")
        asking = asyncio.create_task(dispatcher.run([("cheap", question())]))
        await scene.evaluating("a")
        (reply,) = await asking
        assert reply.worker == "b"
        code, err = await scene.ended("a")
        assert code == 1
        assert "not done within 4 s" in err
        assert scene.names() == ["b"]


async def test_the_only_worker_hangs(stage: Callable[..., Scene]) -> None:
    scene = stage(job_timeout_s=0.5, patience_s=0.5, when_none="stop")
    async with scene.serving() as dispatcher:
        await scene.start("a", "good", "--slow", LONG)
        with pytest.raises(NoWorkerError, match=r"not done within (0\.5|1) s"):
            await dispatcher.run([("cheap", question())])


async def test_a_worker_that_is_stuck_is_overtaken_long_before_its_time_is_over(
    stage: Callable[..., Scene],
) -> None:
    scene = stage(patience_s=HANG_S, job_timeout_s=2.0 * HANG_S)
    async with scene.serving() as dispatcher:
        for name in ("a", "b"):
            await scene.start(name, "good", "--slow", "0.1")
        await dispatcher.run([("cheap", question())] * 9)  # what is usual
        asking = asyncio.create_task(dispatcher.run([("cheap", question())]))
        await scene.until(lambda: scene.names("busy"))
        (stuck,) = scene.names("busy")
        scene.signal(stuck, signal.SIGSTOP)
        (reply,) = await asking
        assert reply.worker != stuck
        check([reply])
        scene.signal(stuck, signal.SIGCONT)
        await scene.until(lambda: sorted(scene.names("idle")) == ["a", "b"])
        steps = [step.action for step in dispatcher.transitions()]
        assert steps.count("JobCopied") == 1
        assert "WorkerLost" not in steps


@pytest.mark.parametrize(("fingerprint", "words"), [("bb", "model"), ("aa", "--name")])
async def test_a_second_worker_of_a_name_ends_and_the_first_goes_on(
    stage: Callable[..., Scene], fingerprint: str, words: str
) -> None:
    scene = stage(patience_s=30.0)
    async with scene.serving() as dispatcher:
        await scene.start("a")
        scene.processes["second"] = spawn(
            *(str(ODD), "good", "--server", scene.address),
            *("--name", "a", "--fingerprint", fingerprint),
        )
        code, err = await scene.ended("second")
        assert code == 1
        assert words in err
        (reply,) = await dispatcher.run([("cheap", question())])
        assert reply.worker == "a"
        assert scene.processes["a"].poll() is None


async def test_one_workers_word_does_not_end_a_run(stage: Callable[..., Scene]) -> None:
    scene = stage(patience_s=30.0)
    async with scene.serving() as dispatcher:
        await scene.start("picky", "picky")
        await scene.start("good")
        (reply,) = await dispatcher.run([("cheap", question())])
        assert reply.worker == "good"
        check([reply])
        scene.signal("good", signal.SIGTERM)
        await scene.ended("good")
        await scene.start("picky-2", "picky")
        with pytest.raises(BadInput, match=r"workers picky.* and picky.* report that job .* Uue"):
            await dispatcher.run([("cheap", question())])


async def _line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    line: str = await asyncio.to_thread(process.stdout.readline)
    return line.strip()


_SERVER = """
import asyncio
import numpy as np
import structlog
from mixserver.dispatch.dispatcher import Dispatcher
from mixserver.dispatch.policy import Policy
from mixserver.dispatch.zmq_workers.listener import ZmqListener
from mixserver.wire.worker import Evaluate
structlog.configure(logger_factory=structlog.ReturnLoggerFactory())
async def main():
    policy = Policy(roles={"cheap": ""}, patience_s=1.0, heartbeat_s=0.1, failures=1)
    door = ZmqListener("tcp://127.0.0.1:0", policy)
    async with Dispatcher(policy, [door]) as dispatcher:
        print(door.address, flush=True)
        question = Evaluate(job=0, stream=0, positions=np.ones((2, 3)),
                            numbers=np.ones(2, np.int32), cell=np.eye(3), pbc=(True,) * 3)
        try:
            (reply,) = await dispatcher.run([("cheap", question)])
        except Exception as error:
            print(type(error).__name__, error, flush=True)
        else:
            print("answered by", reply.worker, flush=True)
        await asyncio.sleep(60)
asyncio.run(main())
"""
