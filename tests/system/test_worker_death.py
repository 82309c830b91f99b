"""Workers that are killed, stopped, wrong or restarted: the answers are the same, or nobody's.

Real processes, real sockets, and the real worker with an engine that does what the test wants.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable

import numpy as np
import pytest
from worker_scene import LONG, ODD, Scene, check, question, spawn

from mixserver.core.errors import NoWorkerError
from mixserver.wire.worker import Evaluate


async def test_a_worker_killed_in_mid_evaluation_hands_its_job_to_another(
    stage: Callable[..., Scene],
) -> None:
    scene = stage(patience_s=30.0)
    async with scene.serving() as dispatcher:
        await scene.start("a", "good", "--slow", LONG)
        await scene.start("b")  # idle for a shorter time, so the job goes to the other one
        asking = asyncio.create_task(dispatcher.run([("cheap", question())]))
        await scene.evaluating("a")
        scene.signal("a", signal.SIGKILL)
        async with asyncio.timeout(5.0):  # long before its silence could be noticed
            replies = await asking
        assert replies[0].worker == "b"
        check(replies)


async def test_hold_waits_for_a_new_worker_when_the_only_one_is_killed(
    stage: Callable[..., Scene],
) -> None:
    scene = stage(when_none="hold")
    async with scene.serving() as dispatcher:
        await scene.start("a", "good", "--slow", LONG)
        asking = asyncio.create_task(dispatcher.run([("cheap", question())]))
        await scene.evaluating("a")
        scene.signal("a", signal.SIGKILL)
        await scene.until(lambda: not scene.names())
        await asyncio.sleep(2 * scene.policy.patience_s)
        assert not asking.done()
        await scene.start("b")
        replies = await asking
        assert replies[0].worker == "b"
        assert replies[0].waited_s > scene.policy.patience_s
        check(replies)


async def test_stop_gives_up_when_the_only_worker_is_killed(stage: Callable[..., Scene]) -> None:
    scene = stage(when_none="stop", patience_s=0.5)
    async with scene.serving() as dispatcher:
        await scene.start("a", "good", "--slow", LONG)
        asking = asyncio.create_task(dispatcher.run([("cheap", question())]))
        await scene.evaluating("a")
        scene.signal("a", signal.SIGKILL)
        with pytest.raises(NoWorkerError, match=r"a: its connection is gone.*--role cheap"):
            async with asyncio.timeout(5.0):
                await asking


async def test_a_stopped_worker_is_given_up_and_is_back_when_it_goes_on(
    stage: Callable[..., Scene],
) -> None:
    scene = stage(patience_s=0.8)
    async with scene.serving() as dispatcher:
        await scene.start("a", "good", "--slow", "1.0")
        await scene.start("b")  # idle for a shorter time, so the job goes to the other one
        asking = asyncio.create_task(dispatcher.run([("cheap", question())]))
        await scene.evaluating("a")
        scene.signal("a", signal.SIGSTOP)
        (reply,) = await asking
        assert reply.worker == "b"
        assert scene.names("silent") == ["a"]
        scene.signal("a", signal.SIGCONT)
        # its late answer comes first or is forgotten; either way both are asked again
        await scene.until(lambda: sorted(scene.names("idle")) == ["a", "b"])
        replies = await dispatcher.run([("cheap", question(seed)) for seed in (1, 2)])
        assert {reply.worker for reply in replies} == {"a", "b"}
        check(replies, 1)


async def test_a_late_answer_after_a_short_stop_changes_nothing(
    stage: Callable[..., Scene],
) -> None:
    scene = stage(job_timeout_s=2.0, patience_s=30.0)
    async with scene.serving() as dispatcher:
        await scene.start("a", "good", "--slow", "2.6")
        await scene.start("b")  # idle for a shorter time, so the job goes to the other one
        asking = asyncio.create_task(dispatcher.run([("cheap", question())]))
        await scene.evaluating("a")
        (reply,) = await asking
        assert reply.worker == "b"
        assert scene.names("overdue") == ["a"]
        await scene.until(lambda: sorted(scene.names("idle")) == ["a", "b"])


async def test_fifty_evaluations_with_and_without_a_kill_are_the_same(
    stage: Callable[..., Scene],
) -> None:
    async def trajectory(kill_at: int | None) -> np.ndarray:
        scene = stage(patience_s=30.0)
        async with scene.serving() as dispatcher:
            await scene.start("a", "good", "--slow", "0.01")
            await scene.start("b", "good", "--slow", "0.01")
            positions = question().positions.copy()
            for step in range(50):
                ask = Evaluate(
                    job=0,
                    stream=0,
                    positions=positions,
                    numbers=question().numbers,
                    cell=question().cell,
                    pbc=(True, True, True),
                )
                asking = asyncio.create_task(dispatcher.run([("cheap", ask)]))
                if step == kill_at:
                    await scene.until(lambda: scene.names("busy"))
                    scene.signal(scene.names("busy")[0], signal.SIGKILL)
                (reply,) = await asking
                positions = positions + 0.01 * reply.result.forces
            assert len(scene.names()) == (2 if kill_at is None else 1)
        return positions

    np.testing.assert_array_equal(await trajectory(20), await trajectory(None))


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("nan", "1 forces that are not finite (first: atom 10)"),
        ("short", "forces on 19 atoms, but was sent 20"),
        ("flat", "must be (n, 3)"),
        ("raises", "the GPU is on fire"),
    ],
)
async def test_a_wrong_answer_is_never_used_and_its_worker_ends(
    stage: Callable[..., Scene], kind: str, words: str
) -> None:
    scene = stage()
    async with scene.serving() as dispatcher:
        await scene.start("bad", kind)
        await scene.start("good")
        replies = await dispatcher.run([("cheap", question())])
        assert replies[0].worker == "good"
        check(replies)
        code, err = await scene.ended("bad")
        assert code == 1
        assert words in err


async def test_a_worker_with_another_model_is_turned_away_with_both_fingerprints(
    stage: Callable[..., Scene],
) -> None:
    scene = stage(roles={"cheap": "cc"})
    async with scene.serving():
        scene.processes["w"] = spawn(str(ODD), "good", "--server", scene.address)
        code, err = await scene.ended("w")
        assert code == 1
        assert "aa" in err
        assert "cc" in err
        assert scene.names() == []


async def test_workers_find_a_server_that_was_killed_and_started_again(
    stage: Callable[..., Scene],
) -> None:
    scene = stage()
    server = spawn("-c", _SERVER, scene.address)
    try:
        assert server.stdout is not None
        scene.address = (await asyncio.to_thread(server.stdout.readline)).strip()
        scene.processes["a"] = spawn(str(ODD), "good", "--server", scene.address, "--name", "a")
        assert (await asyncio.to_thread(server.stdout.readline)).strip() == "joined"
    finally:
        server.kill()
        server.communicate()
    async with scene.serving() as dispatcher:
        replies = await dispatcher.run([("cheap", question())])
        assert replies[0].worker == "a"
        check(replies)


_SERVER = """
import asyncio, sys
import structlog
from mixserver.dispatch.dispatcher import Dispatcher
from mixserver.dispatch.policy import Policy
from mixserver.dispatch.zmq_workers.listener import ZmqListener
structlog.configure(logger_factory=structlog.ReturnLoggerFactory())
async def main():
    policy = Policy(roles={"cheap": ""}, patience_s=1.0, heartbeat_s=0.1)
    door = ZmqListener(sys.argv[1], policy)
    async with Dispatcher(policy, [door]) as dispatcher:
        print(door.address, flush=True)
        await dispatcher.card("cheap")
        print("joined", flush=True)
        await asyncio.sleep(60)
asyncio.run(main())
"""
