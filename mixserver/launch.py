"""`mixserver run`: i-PI, the server and the local workers as one supervised job.

Order of starting: doors, workers, i-PI. Order of ending: i-PI (so that it can write its RESTART),
upstream, workers. i-PI runs in the run's own folder, on links to the case's files, and finds the
server through unix sockets in a private folder, so that no two runs meet.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import signal
import sys
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import structlog

from mixserver.agreement import disagreements
from mixserver.build import Parts, build
from mixserver.children import Child, beside, start
from mixserver.config import Case, Local, Workers
from mixserver.ending import refuse_nonsense
from mixserver.errors import ConfigError, NoWorkerError, UpstreamError
from mixserver.inherited import LOCAL_LAUNCHERS
from mixserver.ipi_input import IpiInput, read_input
from mixserver.keeping import WORKER_GRACE_S, Keeper, Worker
from mixserver.layout import lay_out, own_prefix, publish
from mixserver.private import private_folder
from mixserver.record.runs import CONTINUED, Origin
from mixserver.reference import read_reference
from mixserver.restarting import origin, refuse_other_settings
from mixserver.service import Service
from mixserver.starting import refuse_other_start
from mixserver.supply import unsupplied

log = structlog.get_logger(__name__)

IPI_GRACE_S = 60.0
"""How long i-PI may take to end after SIGTERM: it finishes its step and writes RESTART."""
_LAST_FORCE_S = 10.0
"""How long i-PI's last request may still be answered after SIGTERM."""
_MOST_OF_A_NAME = 80
_RUNNING = "running"


@dataclass(slots=True)
class Run:
    """A run while it lasts, for whoever shows its progress."""

    folder: Path
    case: Case
    ipi: IpiInput
    service: Service
    stage: str = "starting"


def build_local(
    case: Case,
    folder: Path,
    private: str,
    earlier: Path | None = None,
    begun_with: Origin | None = None,
) -> Parts:
    """Build a case for workers of this machine: its sockets are in a private folder.

    Local workers are faster over ZeroMQ's ipc than over tcp, so the default door becomes one;
    a door that mix.toml names stays, for workers from elsewhere.
    """
    named = case.config.workers.door != Workers().door
    return build(
        case,
        folder,
        sockets_prefix=f"{private}/",
        door_address=None if named else f"ipc://{private}/door",
        earlier=earlier,
        begun_with=begun_with,
    )


@contextlib.asynccontextmanager
async def local_workers(
    case: Case,
    parts: Parts,
    folder: Path,
    *,
    lost: Callable[[NoWorkerError], None] | None = None,
    logs_stay: bool = True,
) -> AsyncIterator[list[Child]]:
    """Start the case's local workers, wait for them, and keep them running inside this context.

    Args:
        case: the case; its [[local]] tables say what to start.
        parts: whose door they come in by; it must be open.
        folder: where they log.
        lost: told when the last local worker of a role is gone for good and nobody else can come
            in its place, because the door is private.
        logs_stay: False if `folder` is removed at the end, so that nobody is sent to their logs.

    Raises:
        WorkerFault: one of them ended before it joined, or none of a role joined in time
            (workers.join_s); its last words are quoted.
        ConfigError: a command cannot be started.
    """
    plan = [
        (local, f"{local.role}-{at}-{copy}")
        for at, local in enumerate(case.config.local)
        for copy in range(local.count)
    ]
    workers = [
        Worker(
            local,
            name,
            partial(
                _start_worker, case, local, name, parts.door.address, folder, log_stays=logs_stay
            ),
        )
        for local, name in plan
    ]
    private = case.config.workers.door == Workers().door
    keeper = Keeper(
        parts.dispatcher, workers, case.config.workers.join_s, lost if private else None
    )
    keeping: list[asyncio.Task[None]] = []
    try:
        for worker in workers:
            await worker.launch()
        await keeper.until_served()
        parts.dispatcher.on_hung = keeper.end_hung
        keeping += [asyncio.create_task(keeper.keep(worker)) for worker in workers]
        yield [worker.process for worker in workers]
    finally:
        parts.dispatcher.on_hung = None
        for task in keeping:
            task.cancel()
        await asyncio.gather(*keeping, return_exceptions=True)
        children = [worker.child for worker in workers if worker.child is not None]
        await asyncio.gather(*(child.end(WORKER_GRACE_S) for child in children))


async def run_case(
    case: Case,
    folder: Path,
    *,
    stop: asyncio.Event,
    restart: Path | None = None,
    steps: int | None = None,
    shown: asyncio.Queue[Run] | None = None,
) -> None:
    """Run a case from beginning to end.

    Args:
        case: the case.
        folder: this run's own folder, empty.
        stop: once set, the run ends in order, however often it is set again.
        restart: an i-PI RESTART or checkpoint to start from instead of the case's input; what its
            run left lies beside it.
        steps: total steps, instead of what the input or the RESTART says.
        shown: gets the run as soon as there is one, for a progress display.

    Raises:
        MixserverError: the run could not start or had to stop; i-PI's RESTART is in `folder` if
            i-PI was running.
    """
    source = restart or case.folder / case.config.ipi.input
    earlier = None if restart is None else restart.parent
    if earlier is not None:
        refuse_other_settings(earlier, case.config)
    ipi = read_input(source)
    topology, reference = read_reference(case)
    wrong = unsupplied(case) or disagreements(case, ipi, topology)
    if wrong:
        raise ConfigError(wrong[0])
    if restart is None:
        refuse_other_start(case, ipi, reference)
    ipi = dataclasses.replace(ipi, prefix=own_prefix(ipi.prefix))
    if steps is not None:
        ipi = dataclasses.replace(ipi, total_steps=steps)
    if ipi.step >= ipi.total_steps:
        raise ConfigError(
            f"{source} has made {ipi.step} of {ipi.total_steps} steps already; to go on further "
            f"say how far: --steps {2 * ipi.step}"
        )
    input_file = lay_out(case, folder, source, CONTINUED if restart else source.name, steps)
    begun_with = None if restart is None else origin(restart.parent, folder, restart.name, ipi.step)
    with private_folder(_longest_name(case)) as private:
        service = Service(build_local(case, folder, private, earlier, begun_with))
        service.parts.models.write()
        run = Run(folder, case, ipi, service)
        if shown is not None:
            shown.put_nowait(run)
        running = asyncio.ensure_future(_run(run, input_file, f"{private}/", stop))
        stopping = asyncio.ensure_future(stop.wait())
        try:
            await asyncio.wait({running, stopping}, return_when=asyncio.FIRST_COMPLETED)
            if not running.done() and run.stage != _RUNNING:
                running.cancel()  # workers may take long to start; nothing is lost yet
            await asyncio.wait({running})
        finally:
            stopping.cancel()
            if not running.done():  # cancelled from outside
                stop.set()
                await asyncio.wait({running})
        if not running.cancelled():
            running.result()


def _longest_name(case: Case) -> int:
    """Bytes of the longest socket's name in the run's private folder.

    Raises:
        ConfigError: i-PI could not bind it in any folder.
    """
    texts = [*case.addresses, case.config.workers.clients]
    names = [text.removeprefix("unix:") for text in texts if text.startswith("unix:")]
    for name in names:
        if len(name.encode()) > _MOST_OF_A_NAME and not name.startswith("/"):
            raise ConfigError(
                f"the address unix:{name} has a name of {len(name.encode())} bytes; with its "
                f"folder it has room for {_MOST_OF_A_NAME} in a unix socket's path. Shorten it, "
                "here and in i-PI's <address>"
            )
    return max([len("door"), *(len(n.encode()) for n in names if not n.startswith("/"))])


async def _run(run: Run, input_file: Path, prefix: str, stop: asyncio.Event) -> None:
    parts, service = run.service.parts, run.service
    async with service.doors():
        run.stage = "starting workers"
        async with local_workers(run.case, parts, run.folder, lost=service.stop):
            if {*parts.models.roles} <= {local.role for local in run.case.config.local}:
                await parts.models.known()  # refused before i-PI begins, if they are others
            run.stage = _RUNNING
            await _run_ipi(run, input_file, prefix, stop)
            run.stage = "stopped" if stop.is_set() else "done"


async def _run_ipi(run: Run, input_file: Path, prefix: str, stop: asyncio.Event) -> None:
    child = await start(
        "i-PI",
        [*_ipi(run.case), "-S", prefix, input_file.name],
        folder=run.folder,
        log_file=run.folder / "i-pi.log",
        environment={"OMP_NUM_THREADS": "1", **run.case.config.ipi.environment},
    )
    serving = asyncio.ensure_future(run.service.serve())
    ending = asyncio.ensure_future(child.wait())
    stopping = asyncio.ensure_future(stop.wait())
    await asyncio.wait({serving, ending, stopping}, return_when=asyncio.FIRST_COMPLETED)
    if serving.done() and serving.exception() is None:  # i-PI said EXIT and closes its files
        closing = {ending, stopping}
        await asyncio.wait(closing, timeout=IPI_GRACE_S, return_when=asyncio.FIRST_COMPLETED)
    # i-PI writes its RESTART once its last request is answered, or its connection is gone
    leaving = asyncio.ensure_future(child.end(IPI_GRACE_S))
    await asyncio.wait({leaving}, timeout=_LAST_FORCE_S)
    run.service.stop()
    code = await leaving
    failure = (await asyncio.gather(serving, return_exceptions=True))[0]
    for future in (ending, stopping):
        future.cancel()
    publish(run.folder, prefix, run.case.config.upstream.sockets_prefix)
    if isinstance(failure, BaseException):
        raise failure
    if code != 0 and not stop.is_set():
        raise UpstreamError(f"i-PI ended with status {code}; its {child.quoted(8)}")
    if code == 0 and not stop.is_set():
        await asyncio.to_thread(
            refuse_nonsense, run.folder, run.ipi, run.case.config.limits.temperature
        )


def _ipi(case: Case) -> list[str]:
    """The program that is i-PI, with or without the thermostat that leaves the core alone."""
    # -P: the run's folder links to the case's files, which must not stand in for modules
    program = [sys.executable, "-P", "-m", "mixserver.ipi_host"]
    return (
        program if case.config.ipi.thermostat == "everywhere" else [*program, "--cheap-thermostat"]
    )


async def _start_worker(
    case: Case, local: Local, name: str, door: str, folder: Path, joins_as: str, *, log_stays: bool
) -> Child:
    command = [beside("mixserver-worker"), *local.command, "--server", door, "--role", local.role]
    command += ["--name", joins_as]
    if local.mpi > 1:
        command = [beside("mpiexec"), "-n", str(local.mpi), *command]
    # LAMMPS and launchers stay on this machine; an ASE calculator may well call srun itself
    here = local.mpi > 1 or local.command[:1] == ("lammps",)
    threads = str(local.threads)
    return await start(
        name,
        command,
        folder=case.folder,
        log_file=folder / f"worker-{name}.log",
        environment={
            "OMP_NUM_THREADS": threads,
            "MKL_NUM_THREADS": threads,
            **(LOCAL_LAUNCHERS if here else {}),
            **local.environment,
        },
        log_stays=log_stays,
        batch=not here,
    )


def install_stop(loop: asyncio.AbstractEventLoop, stop: Callable[[], object]) -> None:
    """Make Ctrl-C, SIGTERM and a closed terminal call `stop`; a second one does not hurry it."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, stop)
