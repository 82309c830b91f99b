"""The local workers of a run: which are started, by which command, in which environment.

`mixserver run` starts the workers of the [[local]] tables on this machine. `running_local_workers`
starts them, waits until every role has one, and keeps them running (see `worker_supervisor`).
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Final

import structlog

from mixserver.config import Case, Local, Workers
from mixserver.core.environment import LOCAL_LAUNCHERS
from mixserver.core.errors import NoWorkerError
from mixserver.core.processes import ManagedProcess, environment_program, start_process
from mixserver.server.access import local_key_files
from mixserver.server.build import Parts, build
from mixserver.server.runs import RestartOrigin
from mixserver.server.worker_supervisor import LocalWorker, WorkerSupervisor

log = structlog.get_logger(__name__)

_STAY_S: Final = "3600"
"""How long workers wait for the next server after one has ended in order."""
LISTENER_SOCKET: Final = "door"
"""Name of the workers' ZeroMQ socket in the scratch directory."""


def build_for_local_workers(
    case: Case,
    folder: Path,
    scratch: str,
    earlier: Path | None = None,
    restarted_from: RestartOrigin | None = None,
) -> Parts:
    """Build a case whose workers run on this machine, with all sockets in a scratch directory.

    Local workers are faster over ZeroMQ's ipc than over tcp, so the default address of the worker
    listener is replaced by an ipc one. An address in mix.toml stays, for workers from elsewhere.
    """
    private = f"ipc://{scratch}/{LISTENER_SOCKET}"
    parts = build(
        case,
        folder,
        sockets_prefix=f"{scratch}/",
        listener_address=private if has_private_listener(case) else None,
        earlier=earlier,
        restarted_from=restarted_from,
    )
    parts.worker_environment |= local_key_files(parts.lock, Path(scratch))
    return parts


@contextlib.asynccontextmanager
async def running_local_workers(
    case: Case,
    parts: Parts,
    folder: Path,
    *,
    on_role_lost: Callable[[NoWorkerError], None] | None = None,
    logs_stay: bool = True,
) -> AsyncIterator[list[ManagedProcess]]:
    """Start the case's local workers, wait for them, and keep them running inside this context.

    Args:
        case: the case; its [[local]] tables name the workers.
        parts: the built server; its worker listener must be open.
        folder: where the workers log.
        on_role_lost: called when the last local worker of a role is gone for good and no other
            can join, because the listener's address is private to this run.
        logs_stay: False if `folder` is removed at the end, so that messages do not point to logs.

    Raises:
        WorkerFault: a worker ended before it joined, or no worker of a role joined in time
            (workers.join_s); the end of its log is quoted.
        ConfigError: a command cannot be started.
    """
    address, keys = parts.listener.address, parts.worker_environment
    workers = _local_workers(case, address, folder, keys=keys, log_stays=logs_stay)
    supervisor = WorkerSupervisor(
        parts.dispatcher,
        workers,
        case.config.workers.join_s,
        on_role_lost if has_private_listener(case) else None,
    )
    tasks: list[asyncio.Task[None]] = []
    try:
        for worker in workers:
            await worker.launch()
        await supervisor.wait_until_ready()
        parts.dispatcher.on_hung = supervisor.terminate_hung
        tasks += [asyncio.create_task(supervisor.supervise(worker)) for worker in workers]
        yield [worker.process for worker in workers]
    finally:
        parts.dispatcher.on_hung = None
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.gather(*(worker.end() for worker in workers))


class LastingWorkers:
    """The local workers of a case whose server may end and be started again at the same address.

    They keep their models loaded meanwhile. Their server is another process.

    Args:
        case: the case; it has no keys.
        scratch: a private directory, in which they look for the server's socket.
        folder: where they log.
    """

    def __init__(self, case: Case, scratch: str, folder: Path) -> None:
        self.address = f"ipc://{scratch}/{LISTENER_SOCKET}"
        self.lost: asyncio.Future[NoWorkerError] = asyncio.get_running_loop().create_future()
        """Done when the last worker of a role has ended, after all its restarts."""
        keys = local_key_files(None, Path(scratch))
        stay = ("--stay-s", _STAY_S)
        self._workers = _local_workers(case, self.address, folder, *stay, keys=keys)
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._gone: set[str] = set()

    async def start(self) -> None:
        """Start all that do not run; their restarts are counted from the beginning.

        Raises:
            ConfigError: a command cannot be started.
        """
        self.lost = asyncio.get_running_loop().create_future()
        self._gone.clear()
        for worker in self._workers:
            task = self._tasks.get(worker.name)
            if task is None or task.done():
                await worker.launch()
                self._tasks[worker.name] = asyncio.create_task(self._keep_running(worker))

    async def end(self) -> None:
        """End all of them."""
        for task in self._tasks.values():
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)
        await asyncio.gather(*(worker.end() for worker in self._workers))

    async def _keep_running(self, worker: LocalWorker) -> None:
        """Restart a worker as often as `restarts` allows."""
        for left in range(worker.local.restarts, -1, -1):
            status = await worker.process.wait()
            log.warning("worker ended", worker=worker.name, status=status, starts_left=left)
            if left:
                await worker.end()
                await worker.launch()
        role = worker.local.role
        self._gone.add(worker.name)
        if {one.name for one in self._workers if one.local.role == role} <= self._gone:
            log_end = worker.process.quoted_log()
            error = NoWorkerError(f"the last {role} worker, {worker.name}, has ended; {log_end}")
            if not self.lost.done():
                self.lost.set_result(error)


def _local_workers(
    case: Case,
    address: str,
    folder: Path,
    *options: str,
    keys: dict[str, str],
    log_stays: bool = True,
) -> list[LocalWorker]:
    def start(local: Local, name: str) -> Callable[[str], Awaitable[ManagedProcess]]:
        where = (case, local, name, address, folder, options)
        return partial(_start_worker, *where, keys=keys, log_stays=log_stays)

    return [
        LocalWorker(local, name, start(local, name))
        for at, local in enumerate(case.config.local)
        for name in (f"{local.role}-{at}-{copy}" for copy in range(local.count))
    ]


def models_without_workers(case: Case) -> list[str]:
    """Models that no worker can evaluate in `mixserver run`.

    It starts the [[local]] workers only, and its worker listener is private to the run unless
    mix.toml names an address.

    Returns:
        One message per model, with its cure; empty if a run may begin.
    """
    config = case.config
    if not has_private_listener(case):
        return []
    served = {local.role for local in config.local}
    if config.workers.clients:
        served.add(config.workers.clients_role)
    return [
        f"no worker can evaluate the {role} model: {case.file.name} has no [[local]] table with "
        f'role = "{role}", and leaves workers.door at its default, which is private to a run. Add '
        f'a [[local]] worker, or name an address for workers from elsewhere, workers.door = "tcp://'
        f'0.0.0.0:5555", and start mixserver-worker ENGINE --server ADDRESS --role {role}'
        for role, model in (("cheap", config.models.cheap), ("expensive", config.models.expensive))
        if model is not None and role not in served
    ]


def has_private_listener(case: Case) -> bool:
    """Whether only workers that the run itself starts can find its listener."""
    return case.config.workers.door == Workers().door


async def _start_worker(
    case: Case,
    local: Local,
    name: str,
    address: str,
    folder: Path,
    options: Sequence[str],
    joins_as: str,
    *,
    keys: dict[str, str],
    log_stays: bool,
) -> ManagedProcess:
    command = [environment_program("mixserver-worker"), *local.command]
    command += ["--server", address, "--role", local.role, "--name", joins_as, *options]
    if local.mpi > 1:
        command = [environment_program("mpiexec"), "-n", str(local.mpi), *command]
    # LAMMPS and launchers stay on this machine; an ASE calculator may well call srun itself
    here = local.mpi > 1 or local.command[:1] == ("lammps",)
    threads = str(local.threads)
    return await start_process(
        name,
        command,
        folder=case.folder,
        log_file=folder / f"worker-{name}.log",
        environment={
            "OMP_NUM_THREADS": threads,
            "MKL_NUM_THREADS": threads,
            **(LOCAL_LAUNCHERS if here else {}),
            **keys,
            **local.environment,
        },
        log_stays=log_stays,
        batch=not here,
    )
