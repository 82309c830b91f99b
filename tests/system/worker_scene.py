"""Real worker processes around a dispatcher on a real door, for tests of what happens to them."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import numpy as np
from limits import HANG_S

from mixserver.dispatch.batch import JobResult
from mixserver.dispatch.dispatcher import Dispatcher
from mixserver.dispatch.policy import Policy
from mixserver.dispatch.zmq_workers.listener import ZmqListener
from mixserver.wire.worker import Evaluate

ODD = Path(__file__).with_name("odd_worker.py")
LONG = "60"
"""Seconds of an evaluation nobody waits for."""


class Scene:
    """A dispatcher on a real door, and worker processes around it."""

    def __init__(self, **changes: object) -> None:
        settings = {"roles": {"cheap": ""}, "patience_s": 1.0, "heartbeat_s": 0.1}
        self.policy = Policy(**{**settings, **changes})  # type: ignore[arg-type]
        self.processes: dict[str, subprocess.Popen[str]] = {}
        self.address = "tcp://127.0.0.1:0"

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[Dispatcher]:
        door = ZmqListener(self.address, self.policy)
        async with Dispatcher(self.policy, [door]) as dispatcher:
            self.address = door.address
            self.dispatcher = dispatcher
            yield dispatcher

    async def start(self, name: str, kind: str = "good", *options: str) -> None:
        """Start a worker and wait until it has joined."""
        common = ("--server", self.address, "--name", name)
        self.processes[name] = spawn(str(ODD), kind, *common, *options)
        await self.until(lambda: name in self.names())

    def names(self, *states: str) -> list[str]:
        views = self.dispatcher.workers()
        return [view.name for view in views if not states or view.state in states]

    async def until(self, condition: Callable[[], object], within: float = HANG_S) -> None:
        async with asyncio.timeout(within):
            while not condition():  # noqa: ASYNC110 - whatever it waits for has no event
                await asyncio.sleep(0.005)

    async def evaluating(self, name: str) -> None:
        """Wait until a slow worker is in the middle of an evaluation."""
        out = self.processes[name].stdout
        assert out is not None
        assert (await asyncio.to_thread(out.readline)).startswith("evaluating")

    async def ended(self, name: str, within: float = HANG_S) -> tuple[int, str]:
        process = self.processes.pop(name)
        _, err = await asyncio.to_thread(process.communicate, timeout=within)
        return process.returncode, err

    def signal(self, name: str, number: signal.Signals) -> None:
        os.kill(self.processes[name].pid, number)

    def clear(self) -> None:
        for process in self.processes.values():
            process.kill()
            process.communicate()


def spawn(*command: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, *command], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def question(seed: int = 0, n: int = 20) -> Evaluate:
    return Evaluate(
        job=0,
        stream=0,
        positions=np.random.default_rng(seed).random((n, 3)),
        numbers=np.full(n, 14, np.int32),
        cell=10.0 * np.eye(3),
        pbc=(True, True, True),
    )


def check(replies: Sequence[JobResult], seed: int = 0) -> None:
    np.testing.assert_array_equal(replies[0].result.forces, -question(seed).positions)
