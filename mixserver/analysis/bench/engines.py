"""Engines of mixserver-worker as contestants: each in a worker of its own, as in a run.

What counts is the time that the worker itself measures around the evaluation of a job, and the
processor time of its process.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from mixserver.analysis.bench.processor_time import ProcessorClock, Spent, spent
from mixserver.analysis.bench.workloads import Workload, write_structure
from mixserver.config import Case, Config, ExpensiveModel, Local, Model, Models, Upstream, Workers
from mixserver.core.errors import NoWorkerError
from mixserver.core.scratch import scratch_directory
from mixserver.dispatch.dispatcher import Dispatcher
from mixserver.server.local_workers import build_for_local_workers, running_local_workers
from mixserver.server.service import Service
from mixserver.wire.worker import ModelCard, Role

ONCE: Final = Workers(when_none="stop", failures=1, second_copy=0.0, first_worker_s=900.0)
"""A benchmark measures one worker; what fails is reported, not tried again."""


@dataclass(frozen=True, slots=True)
class RunningEngine:
    """A worker that has joined."""

    name: str
    role: Role
    dispatcher: Dispatcher
    card: ModelCard

    clock: ProcessorClock

    async def evaluate(
        self, workload: Workload, frame: int, *, weighted: bool, with_messages: bool = False
    ) -> Spent:
        """Evaluate one frame; what the engine took, or all from sending the job to its result.

        Raises:
            MixserverError: it failed.
        """
        job = workload.job(frame, weighted=weighted)
        before = self.clock.read()
        (done,) = await self.dispatcher.run([(self.role, job)])
        took = done.took_s if with_messages else done.result.seconds
        return spent(took, before, self.clock.read())


@dataclass(frozen=True, slots=True)
class EngineOn:
    """A contestant: an engine on a workload."""

    engine: RunningEngine
    workload: Workload
    model: str
    weighted: bool

    @property
    def name(self) -> str:
        """The engine's name."""
        return self.engine.name

    async def measure(self, frame: int) -> Spent:
        """Evaluate a frame; what the engine took."""
        return await self.engine.evaluate(self.workload, frame, weighted=self.weighted)


@contextlib.asynccontextmanager
async def running_engine(
    name: str,
    command: Sequence[str],
    workload: Workload,
    *,
    threads: int = 1,
    ranks: int = 1,
) -> AsyncIterator[RunningEngine]:
    """Start a worker, and end it at the end of this context.

    Args:
        name: for reports.
        command: the arguments of mixserver-worker, with absolute paths.
        workload: the largest that it will be given.
        threads: of each rank.
        ranks: more than one starts it under mpiexec.

    Raises:
        WorkerFault: it ended before it joined; the end of its log is quoted.
        ConfigError: it cannot be started.
    """
    role: Role = "cheap" if command[0] == "lammps" else "expensive"
    with scratch_directory() as scratch:
        structure = Path(scratch, "structure.xyz")
        write_structure(workload, structure)
        local = Local(role=role, command=tuple(command), threads=threads, mpi=ranks, restarts=0)
        config = Config(
            upstream=Upstream(structure=structure.name, address="unix:none"),
            models=Models(cheap=Model()) if role == "cheap" else Models(expensive=ExpensiveModel()),
            workers=ONCE,
            local=(local,),
        )
        case = Case(Path(scratch), Path(scratch, "mix.toml"), config)
        parts = build_for_local_workers(case, Path(scratch), scratch)
        dispatcher, closing = parts.dispatcher, set[asyncio.Task[None]]()

        def close(error: NoWorkerError) -> None:
            closing.add(asyncio.create_task(dispatcher.close(str(error))))

        async with (
            Service(parts).listening(),
            running_local_workers(
                case, parts, Path(scratch), on_role_lost=close, logs_stay=False
            ) as processes,
        ):
            card = await dispatcher.card(role)
            clock = ProcessorClock(processes[0].pid)
            yield RunningEngine(name, role, dispatcher, card, clock)
        await asyncio.gather(*closing)


def mace_command(
    model: Path, *, kernels: str, device: str, dtype: str, threads: int
) -> tuple[str, ...]:
    """Arguments of `mixserver-worker` for its MACE engine."""
    words = ("mace", str(model), "--device", device, "--dtype", dtype, "--kernels", kernels)
    return (*words, "--threads", str(threads))


def calculator_command(path: str, **settings: object) -> tuple[str, ...]:
    """Arguments of `mixserver-worker` for an ASE calculator; settings are texts or flags."""
    chosen = (f"{name}={json.dumps(value)}" for name, value in settings.items())
    return ("ase", path, *(word for one in chosen for word in ("--set", one)))
