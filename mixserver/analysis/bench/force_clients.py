"""Clients of i-PI's protocol as contestants: mixserver with its workers, LAMMPS, i-PI's drivers.

What counts is the time from a request for forces to the whole answer, on a unix socket: all of a
step but i-PI's own share, which is the same for all.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np

from mixserver.analysis.bench.processor_time import ProcessorClock, Spent, spent
from mixserver.analysis.bench.server_process import ADDRESS, write_server
from mixserver.analysis.bench.upstream import Upstream
from mixserver.analysis.bench.workloads import ThermalMotion, Workload
from mixserver.config import Config
from mixserver.core.arrays import Matrix
from mixserver.core.errors import UpstreamError
from mixserver.core.processes import ManagedProcess, start_process
from mixserver.core.scratch import scratch_directory

FIELDS: Final = ("ms_cheap", "ms_expensive", "ms_own", "core", "blend", "clusters")
"""Of the extras that mixserver sends: times of an evaluation and sizes of its region."""
_GRACE_S: Final = 30.0
_LINES: Final = 6
"""Lines of a log that an error quotes."""


@dataclass(frozen=True, slots=True)
class ForceClient:
    """A contestant: a client that has connected, on one structure."""

    name: str
    model: str
    upstream: Upstream
    motion: ThermalMotion
    cell: Matrix
    process: ManagedProcess
    clock: ProcessorClock
    extras: list[str] = field(default_factory=list)
    """As they came with the forces."""

    async def measure(self, frame: int) -> Spent:
        """Ask for the forces of a frame; what it took until they were there."""
        positions = self.motion.frame(frame)
        return await self.timed(lambda: self.upstream.ask(positions, self.cell))

    async def timed(self, ask: Callable[[], float]) -> Spent:
        """Ask in a thread, read the processor time, and keep the extras.

        Raises:
            UpstreamError: the client failed; the end of its log is quoted.
        """
        before = self.clock.read()
        try:
            took = await asyncio.to_thread(ask)
        except UpstreamError as error:
            raise UpstreamError(f"{error}; {self.process.quoted_log(_LINES)}") from error
        self.extras.append(self.upstream.connections[0].extras)
        return spent(took, before, self.clock.read())

    def details(self, last: int) -> dict[str, float]:
        """Medians of what the server sent beside the forces of the last evaluations.

        Args:
            last: how many evaluations.

        Returns:
            Those of `FIELDS` that it sent and that are not 0; nothing of a client that is no
            mixserver.
        """
        try:
            sent = [msgspec.json.decode(one, type=dict[str, Any]) for one in self.extras[-last:]]
        except msgspec.DecodeError:
            return {}
        found: dict[str, float] = {}
        for field_ in FIELDS:
            values = [one[field_] for one in sent if isinstance(one.get(field_), int | float)]
            if any(values):
                found[field_] = float(np.median(values))
        return found


@contextlib.asynccontextmanager
async def running_server(
    name: str, model: str, config: Config, workload: Workload
) -> AsyncIterator[ForceClient]:
    """Start mixserver with its workers, and end it at the end of this context.

    Args:
        name: for reports.
        model: for reports.
        config: with absolute paths; its upstream.address is unix:`ADDRESS`.
        workload: the atoms of its structure.

    Raises:
        UpstreamError: it did not start; the end of its log is quoted.
    """
    with scratch_directory() as scratch:
        folder = Path(scratch)
        command = write_server(folder, config)
        connections = config.upstream.connections
        start = _running(
            name, model, command, workload, folder, folder / ADDRESS, connections=connections
        )
        async with start as client:
            yield client


@contextlib.asynccontextmanager
async def running_program(
    name: str,
    model: str,
    command: Sequence[str],
    workload: Workload,
    socket: Path,
    *,
    folder: Path,
    environment: Mapping[str, str],
    late_init: bool = False,
) -> AsyncIterator[ForceClient]:
    """Start a stock client of i-PI, and end it at the end of this context.

    Args:
        name: for reports.
        model: for reports.
        command: connects to the socket.
        workload: the atoms that it knows.
        socket: where it connects.
        folder: where it runs and logs.
        environment: variables beside those of this process.
        late_init: whether it wants INIT with its first request.

    Raises:
        UpstreamError: it did not start; the end of its log is quoted.
    """
    start = _running(
        name,
        model,
        command,
        workload,
        folder,
        socket,
        environment=environment,
        late_init=late_init,
    )
    async with start as client:
        yield client


@contextlib.asynccontextmanager
async def _running(
    name: str,
    model: str,
    command: Sequence[str],
    workload: Workload,
    folder: Path,
    socket: Path,
    *,
    environment: Mapping[str, str] | None = None,
    connections: int = 1,
    late_init: bool = False,
) -> AsyncIterator[ForceClient]:
    process: ManagedProcess | None = None

    def alive() -> None:
        if process is not None and process.returncode is not None:
            raise UpstreamError(f"{name} did not start; {process.quoted_log(_LINES)}")

    with Upstream(socket, alive, connections=connections, late_init=late_init) as upstream:
        process = await start_process(
            name,
            command,
            folder=folder,
            log_file=folder / "benchmark.log",
            environment=environment or {},
            log_stays=False,
        )
        try:
            await asyncio.to_thread(upstream.wait_for_clients)
            clock = ProcessorClock(process.pid)
            yield ForceClient(name, model, upstream, workload.motion, workload.cell, process, clock)
        finally:
            upstream.close()
            await process.end(_GRACE_S, again_s=5.0)
