"""Makes a running server's status available: its socket, the note of it, and Prometheus's figures.

The default socket is a convenience: if it cannot be opened, that is logged and the run goes on. An
address that mix.toml names must be available.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import structlog

from mixserver.core.errors import ConfigError
from mixserver.core.scratch import scratch_directory
from mixserver.server.access import lock_of
from mixserver.server.status.listener import StatusListener
from mixserver.server.status.metrics import serving_metrics
from mixserver.server.status.place import SETTING, SOCKET, noted, own_socket
from mixserver.server.status.snapshot import Snapshots
from mixserver.wire.address import check_worker_address, is_local
from mixserver.wire.status import Status

log = structlog.get_logger(__name__)


@contextlib.asynccontextmanager
async def status_available(snapshots: Snapshots) -> AsyncIterator[str]:
    """The status can be asked for inside this context; yields its address, "" for none.

    Raises:
        ConfigError: an address of [status] is malformed or in use.
        MissingPackage: metrics are wanted, but prometheus-client is not installed.
    """
    wanted = snapshots.case.config.status

    async def snapshot() -> Status:
        step = None
        if snapshots.steps is not None:  # a file, perhaps on a slow disk
            step = await asyncio.to_thread(snapshots.read_step)
        return snapshots.take(step)

    async with contextlib.AsyncExitStack() as stack:
        if wanted.metrics:
            await stack.enter_async_context(serving_metrics(wanted.metrics, snapshots, snapshot))
        if wanted.address:
            listener = StatusListener(
                check_worker_address(wanted.address, SETTING),
                snapshot,
                None if is_local(wanted.address) else lock_of(snapshots.case),
            )
            await listener.open()
        else:
            opened = await _in_a_private_place(snapshots.folder, snapshot, stack)
            if opened is None:
                yield ""
                return
            listener = opened
        stack.push_async_callback(listener.close)
        stack.enter_context(noted(snapshots.folder, listener.address))
        yield listener.address


async def _in_a_private_place(
    folder: Path, snapshot: Callable[[], Awaitable[Status]], stack: contextlib.AsyncExitStack
) -> StatusListener | None:
    """Open a socket that only this user can reach: in the run's folder, or in a scratch folder."""
    why = "its path is too long for a socket"
    if (file := own_socket(folder)) is not None:
        listener = StatusListener(f"ipc://{file}", snapshot)
        try:
            await listener.open()
            file.chmod(0o600)
        except (ConfigError, OSError) as error:  # not every file system has sockets
            why = str(error)
            await listener.close()
        else:
            return listener
    try:
        scratch = stack.enter_context(scratch_directory(len(SOCKET)))
        listener = StatusListener(f"ipc://{scratch}/{SOCKET}", snapshot)
        await listener.open()
    except (ConfigError, OSError) as error:
        log.warning("no status can be asked for", folder=str(folder), why=why, error=str(error))
        return None
    log.info("the status is not in the run's folder", address=listener.address, why=why)
    return listener
