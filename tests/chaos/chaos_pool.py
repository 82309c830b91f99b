"""Worker processes behind connections that can be cut or frozen, and what is done to them."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
import subprocess
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from mixserver.core.processes import environment_program

KINDS: Final = ("kill", "kill", "kill", "stop", "stop", "freeze", "freeze", "cut", "two", "node")
"""What happens to workers. "freeze": the network passes nothing for a while. "cut": connections
break. "two": two of a role die in the same moment, a busy one if there is. "node": three die."""


class Relay:
    """The network between one worker and the server."""

    def __init__(self, host: str, port: int) -> None:
        self._to = host, port
        self._passes = asyncio.Event()
        self._passes.set()
        self._writers: list[asyncio.StreamWriter] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None
        self.address = ""

    async def open(self) -> None:
        self._server = await asyncio.start_server(self._connect, "127.0.0.1", 0)
        self.address = f"tcp://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    async def close(self) -> None:
        if self._server is not None:
            self._server.close()
        self._passes.set()
        self.cut()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def cut(self) -> None:
        for writer in self._writers:
            writer.transport.abort()
        self._writers.clear()

    async def freeze(self, seconds: float) -> None:
        self._passes.clear()
        await asyncio.sleep(seconds)
        self._passes.set()

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            there, back = await asyncio.open_connection(*self._to)
        except OSError:
            writer.close()
            return
        self._writers += [writer, back]
        for one, other in ((reader, back), (there, writer)):
            task = asyncio.create_task(self._pump(one, other))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(1 << 16):
                await self._passes.wait()
                writer.write(data)
                await writer.drain()
        writer.close()


@dataclass
class Worker:
    """One place of a worker: its process is started again whenever it was killed."""

    role: str
    command: Sequence[str]
    relay: Relay
    log: Path
    process: subprocess.Popen[bytes] | None = None
    disturbed: bool = False

    def start(self) -> None:
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [
                    environment_program("mixserver-worker"),
                    *self.command,
                    *("--server", self.relay.address, "--role", self.role),
                ],
                stdout=log,
                stderr=log,
                env={**os.environ, "OMP_NUM_THREADS": "1"},
            )

    def signal(self, number: signal.Signals) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(number)


@dataclass
class Pool:
    """All workers of a server, and their misfortunes."""

    workers: list[Worker] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    unwanted_ends: list[str] = field(default_factory=list)
    """Workers that ended though nothing was done to them."""
    _running: set[asyncio.Task[None]] = field(default_factory=set)

    async def start(
        self, address: str, commands: Sequence[tuple[str, Sequence[str]]], folder: Path
    ) -> None:
        host, _, port = address.removeprefix("tcp://").rpartition(":")
        for number, (role, command) in enumerate(commands):
            relay = Relay(host, int(port))
            await relay.open()
            self.workers.append(Worker(role, command, relay, folder / f"worker-{number}.log"))
            self.workers[-1].start()

    def disturb(self, kind: str, rng: random.Random) -> None:
        """Let something happen, unless it would leave a role without any worker for long."""
        role = rng.choice(["cheap", "expensive"])
        free = [w for w in self.workers if w.role == role and not w.disturbed]
        hit = {"two": 2, "node": 3}.get(kind, 1)
        chosen = rng.sample(free, min(hit, len(free)))
        if not chosen:
            return
        self.counts[kind if len(chosen) == hit else "kill"] += 1
        for worker in chosen:
            worker.disturbed = True
            if kind in ("kill", "two", "node"):
                worker.signal(signal.SIGKILL)
        seconds = rng.choice([0.1, 0.5, 1.5, 4.0])
        task = asyncio.create_task(self._recover(kind, chosen, seconds))
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    async def _recover(self, kind: str, chosen: Sequence[Worker], seconds: float) -> None:
        for worker in chosen:
            if kind == "stop":
                worker.signal(signal.SIGSTOP)
                await asyncio.sleep(seconds)
                worker.signal(signal.SIGCONT)
            elif kind == "freeze":
                await worker.relay.freeze(seconds)
            elif kind == "cut":
                worker.relay.cut()
            else:
                if worker.process is not None:
                    await asyncio.to_thread(worker.process.wait)
                worker.start()
            worker.disturbed = False

    def look(self) -> None:
        """Notice workers that ended by themselves, and start them again."""
        for worker in self.workers:
            if not worker.disturbed and worker.process is not None:
                code = worker.process.poll()
                if code is not None:
                    self.unwanted_ends.append(f"{worker.log.name}: status {code}")
                    worker.start()

    async def close(self) -> None:
        await asyncio.gather(*self._running)
        for worker in self.workers:
            worker.signal(signal.SIGTERM)
        for worker in self.workers:
            if worker.process is not None:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    await asyncio.to_thread(worker.process.wait, 20.0)
                worker.process.kill()
                worker.process.wait()
            await worker.relay.close()
