"""`mixserver run`: i-PI, the server and the local workers as one supervised job.

Started in the order listener, workers, i-PI; ended in the order i-PI (so that it writes its
RESTART), session, workers. i-PI runs in the run's own folder and finds the server through unix
sockets in a scratch directory, so that runs do not interfere.
"""

from __future__ import annotations

import asyncio
import dataclasses
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import structlog

from mixserver.config import Case
from mixserver.core.errors import ConfigError
from mixserver.core.scratch import scratch_directory
from mixserver.ipi.consistency import inconsistencies
from mixserver.ipi.dynamics import Dynamics, read_dynamics
from mixserver.ipi.final_state import check_final_state
from mixserver.ipi.input import IpiInput, read_input
from mixserver.ipi.output import PropertiesTail
from mixserver.ipi.process import error_file, serve_until_done, start_ipi
from mixserver.server.local_workers import (
    LISTENER_SOCKET,
    build_for_local_workers,
    models_without_workers,
    running_local_workers,
)
from mixserver.server.reference.start import check_starts
from mixserver.server.reference.structure import read_reference
from mixserver.server.restart import restart_origin
from mixserver.server.run_folder import fill_run_folder, local_prefix, restore_socket_prefix
from mixserver.server.runs import RESTART_INPUT
from mixserver.server.same_potential import check_same_settings
from mixserver.server.service import Service
from mixserver.server.status.reporting import status_available
from mixserver.server.status.snapshot import Snapshots, Steps
from mixserver.server.thermometry import region_thermometer
from mixserver.server.warnings.watch import watched

log = structlog.get_logger(__name__)

_LONGEST_NAME: Final = 80
"""Bytes that a socket's name may have; a unix socket's path takes 107 with its folder."""
_RUNNING: Final = "running"
_LOOK_S: Final = 30.0
"""Seconds between two looks at the clock."""


@dataclass(slots=True)
class Run:
    """A run in progress, for a progress display."""

    folder: Path
    case: Case
    ipi: IpiInput
    dynamics: Dynamics
    service: Service
    snapshots: Snapshots
    """Of the service, for `mixserver status`."""

    @property
    def stage(self) -> str:
        """What is going on: starting workers, running, stopped or done."""
        return self.snapshots.stage

    @stage.setter
    def stage(self, stage: str) -> None:
        self.snapshots.stage = stage

    def properties_tail(self) -> PropertiesTail:
        """Reads the newest line of i-PI's properties."""
        file = self.folder / f"{self.ipi.prefix}.{self.ipi.properties}"
        return PropertiesTail(file, self.ipi.property_names)


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
        stop: once set, the run ends in order; setting it again changes nothing.
        restart: an i-PI RESTART or checkpoint to start from instead of the case's input; the
            other files of its run are in the same folder.
        steps: total steps, instead of what the input or the RESTART specifies.
        shown: receives the run as soon as it exists, for a progress display.

    Raises:
        MixserverError: the run could not start or had to stop; i-PI's RESTART is in `folder` if
            i-PI was running.
    """
    source = restart or case.folder / case.config.ipi.input
    ipi = _checked_input(case, source, steps, restarted=restart is not None)
    name = RESTART_INPUT if restart else source.name
    input_file = fill_run_folder(case, folder, source, name, steps)
    earlier, origin = None, None
    if restart is not None:
        earlier = restart.parent
        origin = restart_origin(earlier, folder, restart.name, ipi.step)
    with scratch_directory(_longest_socket_name(case)) as scratch:
        service = Service(build_for_local_workers(case, folder, scratch, earlier, origin))
        service.parts.models.write()
        dynamics = read_dynamics(input_file)
        service.parts.recorder.thermometer = region_thermometer(case, source, dynamics)
        run = Run(
            folder, case, ipi, dynamics, service, Snapshots(service, case, folder, stage="starting")
        )
        run.snapshots.steps = Steps(
            run.properties_tail(),
            ipi.step,
            ipi.total_steps,
            "step" in ipi.property_names,
            dynamics.steps_evaluated_once,
        )
        if shown is not None:
            shown.put_nowait(run)
        running = asyncio.ensure_future(_run(run, input_file, f"{scratch}/", stop))
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


def _checked_input(case: Case, source: Path, steps: int | None, *, restarted: bool) -> IpiInput:
    """Read i-PI's input and check everything that can be checked before a process starts.

    Raises:
        ConfigError: the run could not be right, or has no steps left.
    """
    if restarted:
        check_same_settings(source.parent, case.config)
    ipi = read_input(source)
    topology, reference = read_reference(case)
    wrong = models_without_workers(case) or inconsistencies(case, ipi, topology)
    if wrong:
        raise ConfigError(wrong[0])
    if not restarted:
        check_starts(case, ipi, reference)
    total = _total_steps(ipi, source, steps)
    return dataclasses.replace(ipi, prefix=local_prefix(ipi.prefix), total_steps=total)


def check_steps_left(source: Path, steps: int | None, command: str = "") -> None:
    """Test that an i-PI input, RESTART or checkpoint has steps left, of `steps` if given.

    `command` continues the run once --steps is added to it.

    Raises:
        ConfigError: it has none, or cannot be read.
    """
    _total_steps(read_input(source), source, steps, command)


def _total_steps(ipi: IpiInput, source: Path, steps: int | None, command: str = "") -> int:
    total = ipi.total_steps if steps is None else steps
    if ipi.step >= total:
        raise ConfigError(
            f"{source} has made {ipi.step} of {total} steps already; to continue, give a larger "
            f"number of total steps: {f'{command} --steps'.lstrip()} {2 * ipi.step}"
        )
    return total


def _longest_socket_name(case: Case) -> int:
    """Bytes of the longest socket name in the run's scratch directory.

    Raises:
        ConfigError: i-PI could not bind it in any folder.
    """
    texts = [*case.addresses, case.config.workers.clients]
    names = [text.removeprefix("unix:") for text in texts if text.startswith("unix:")]
    for name in names:
        if len(name.encode()) > _LONGEST_NAME and not name.startswith("/"):
            raise ConfigError(
                f"the address unix:{name} has a name of {len(name.encode())} bytes, but with its "
                f"folder a unix socket's path has room for {_LONGEST_NAME}. Shorten it, here and "
                "in i-PI's <address>"
            )
    return max([len(LISTENER_SOCKET), *(len(n.encode()) for n in names if not n.startswith("/"))])


async def _run(run: Run, input_file: Path, prefix: str, stop: asyncio.Event) -> None:
    parts, service = run.service.parts, run.service
    async with service.listening(), status_available(run.snapshots):
        run.stage = "starting workers"
        async with running_local_workers(run.case, parts, run.folder, on_role_lost=service.stop):
            if {*parts.models.roles} <= {local.role for local in run.case.config.local}:
                await parts.models.compare()  # other models are refused before i-PI begins
            run.stage = _RUNNING
            async with watched(service, run.dynamics, run.properties_tail()):
                await _run_ipi(run, input_file, prefix, stop)
            run.stage = "stopped" if stop.is_set() else "done"


async def _run_ipi(run: Run, input_file: Path, prefix: str, stop: asyncio.Event) -> None:
    config = run.case.config
    process = await start_ipi(
        "i-PI",
        input_file,
        prefix,
        environment=config.ipi.environment,
        cheap_thermostat=config.ipi.thermostat == "cheap",
    )
    try:
        await serve_until_done(
            process, run.service.serve(), run.service.stop, stop, error=error_file(prefix)
        )
    finally:
        restore_socket_prefix(run.folder, prefix, config.upstream.sockets_prefix)
    if not stop.is_set():
        await asyncio.to_thread(check_final_state, run.folder, run.ipi, config.limits.temperature)


def on_stop_signals(loop: asyncio.AbstractEventLoop, stop: Callable[[], object]) -> None:
    """Make Ctrl-C, SIGTERM and a closed terminal call `stop`; a second signal changes nothing."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, stop)


async def stop_at(until: float | None, stop: asyncio.Event) -> None:
    """Set `stop` at a time, in seconds since 1970; never for None. The clock may be set meanwhile.

    Cancel it when it is not needed any more.
    """
    while until is None or (left := until - time.time()) > 0.0:  # noqa: ASYNC110 - a clock
        await asyncio.sleep(_LOOK_S if until is None else min(left, _LOOK_S))
    log.info("the time is up", until=until)
    stop.set()
