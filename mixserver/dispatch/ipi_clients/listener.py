"""The listener for stock i-PI clients: LAMMPS' fix ipi, ASE's SocketClient, i-pi-driver-py, ...

It takes i-PI's place; for the dispatcher each client is a worker that evaluates whole systems.
Stock clients have no weights, site energies or heartbeats: an open socket counts as alive.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import socket
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any, Final

import structlog

from mixserver.core.errors import ConfigError
from mixserver.dispatch.event_log import LogThrottle
from mixserver.dispatch.ipi_clients.bind import bind
from mixserver.dispatch.ipi_clients.connection import ClientConnection
from mixserver.dispatch.ipi_clients.requests import ClientSettings, Geometry
from mixserver.dispatch.scheduling.events import (
    FailureReceived,
    Listener,
    WorkerAlive,
    WorkerEvent,
    WorkerLeft,
)
from mixserver.wire.address import SOCKETS_PREFIX, Address, parse_address
from mixserver.wire.worker import Evaluate, ModelCard, Role

log = structlog.get_logger(__name__)

_UNKNOWN: Final = 64
"""Connections that have not said READY yet; one more takes the place of the oldest."""
_GOODBYE_S: Final = 10.0
"""How long a client that must leave may take to send READY."""
_BUSY_S: Final = 2.0
"""The same, if it computes, or has never sent anything."""


class IpiListener:
    """Accepts stock i-PI clients.

    Each process of a client evaluates one number of atoms. If a job has another number, the client
    is sent EXIT and the job waits for the next process.

    Args:
        address: "unix:NAME" or "HOST:PORT" to bind; port 0 picks a free one.
        role: the role of its clients.
        card: their model card; a stock client cannot send one.
        geometry: how positions and cells are sent; see `ClientSettings`.
        test_count: whether their number of atoms is tested; see `ClientSettings`.
        test_order: whether the order of their elements is tested; see `ClientSettings`.
        sockets_prefix: put before a unix socket's name. LAMMPS and ASE know only i-PI's own.
        heartbeat_s: how often an open connection is reported as a sign of life.
        patience_s: how long a client may stop in the middle of a message.

    Raises:
        ConfigError: the address is malformed, or the card promises what no client can do.
    """

    def __init__(
        self,
        address: str,
        role: Role,
        *,
        card: ModelCard,
        geometry: Geometry = "standard",
        test_count: bool = True,
        test_order: bool = False,
        sockets_prefix: str = SOCKETS_PREFIX,
        heartbeat_s: float = 1.0,
        patience_s: float = 5.0,
    ) -> None:
        if card.weights or card.energies or card.criteria:
            raise ConfigError(
                "a stock i-PI client knows no site weights, site energies or criteria, so its "
                f"model card {card.name!r} must not promise them"
            )
        self._address = parse_address(address, sockets_prefix=sockets_prefix)
        self._settings = ClientSettings(role, card, geometry, test_count, test_order, patience_s)
        self._heartbeat_s = heartbeat_s
        self._clients: dict[str, ClientConnection] = {}
        self._serving: dict[str, asyncio.Task[None]] = {}
        self._own: list[asyncio.Task[None]] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._released = False
        self._numbers = itertools.count(1)
        self._throttle = LogThrottle()
        self._listener: socket.socket | None = None
        self._report: Callable[[Listener, WorkerEvent], None] | None = None

    @property
    def address(self) -> str:
        """Address to which clients connect: the file of a unix socket, or HOST:PORT."""
        return str(self._address)

    @property
    def role(self) -> Role:
        """The role of its clients."""
        return self._settings.role

    async def open(self, report: Callable[[Listener, WorkerEvent], None]) -> None:
        """Bind, and report events from now on.

        Raises:
            ConfigError: the address is in use, or cannot be bound.
        """
        self._listener = bind(self._address)
        if not self._address.unix:
            port = int(self._listener.getsockname()[1])
            self._address = Address(host=self._address.host, port=port)
        self._report = report
        self._own = [self._spawn(self._accept(self._listener)), self._spawn(self._report_alive())]
        log.info("waiting for i-PI clients", address=self.address, role=self._settings.role)

    def welcome(self, worker: str) -> None:
        """Do nothing: i-PI's protocol has no such message."""

    def send(self, worker: str, job: Evaluate) -> None:
        """Send a job to a client; a job that it cannot do is reported as `FailureReceived`."""
        connection = self._clients.get(worker)
        if connection is None:
            self._report_later(WorkerLeft(worker, "it is not connected", unsent=True))
        elif why := connection.cannot(job):
            self._report_later(FailureReceived(worker, job.job, "input", why))
        elif why := connection.outgrown(job):
            self._release(worker, why)
        else:
            connection.begin(job)

    def drop(self, worker: str, reason: str) -> None:
        """Send EXIT to a client, once all its messages have arrived, and disconnect."""
        connection = self._clients.pop(worker, None)
        if connection is not None:
            log.info("i-PI client dropped", worker=worker, reason=reason)
            self._disconnect(connection)

    def _release(self, worker: str, why: str) -> None:
        """End a client's process, so that a new one can evaluate another number of atoms."""
        write = log.info if self._released else log.warning
        self._released = True
        write(
            "i-PI client released",
            worker=worker,
            reason=why,
            remedy="start clients in a loop (while i-pi-driver-py ...; do :; done), so that a new "
            "process connects, or use mixserver-worker, which takes any number of atoms",
        )
        self._disconnect(self._clients.pop(worker))
        self._report_later(WorkerLeft(worker, why, orderly=True))

    def _disconnect(self, connection: ClientConnection) -> None:
        connection.leave()
        task = self._serving[connection.name]
        limit = _GOODBYE_S if connection.nearly_free else _BUSY_S
        asyncio.get_running_loop().call_later(limit, task.cancel)

    async def close(self, reason: str) -> None:
        """Send EXIT to every client, and release sockets, tasks and the file of the socket."""
        for task in self._own:
            task.cancel()
        for worker in list(self._clients):
            self.drop(worker, reason)
        await asyncio.gather(*self._serving.values(), return_exceptions=True)
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._listener is not None:
            self._listener.close()
            self._listener = None
            if self._address.unix:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(self._address.path)

    async def _accept(self, listener: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                peer, where = await loop.sock_accept(listener)
            except OSError as error:  # out of file descriptors, or it disconnected already
                log.warning("no i-PI client accepted", address=self.address, reason=str(error))
                await asyncio.sleep(self._heartbeat_s)
                continue
            peer.setblocking(False)
            name = f"ipi-client-{next(self._numbers)}"
            if not self._address.unix:
                name += f" ({where[0]}:{where[1]})"
            self._make_room()
            connection = ClientConnection(peer, name, self._settings, self._report_later)
            self._clients[name] = connection
            self._serving[name] = task = self._spawn(self._serve(connection))
            task.add_done_callback(partial(self._served, connection))
            self._log(log.info, "i-PI client connected", worker=name)

    def _make_room(self) -> None:
        """Disconnect the oldest of too many connections that have not said READY."""
        unknown = [name for name, one in self._clients.items() if not one.joined]
        for name in unknown[: max(0, len(unknown) - _UNKNOWN + 1)]:
            del self._clients[name]
            self._serving[name].cancel()
            self._log(log.warning, "i-PI client gone", reason="too many that are not ready")

    def _log(self, write: Callable[..., object], event: str, **fields: object) -> None:
        """One line a second of a kind: anything may connect, as often as it likes."""
        if (suppressed := self._throttle(event)) is not None:
            write(event, **fields, **({"suppressed": suppressed} if suppressed else {}))

    async def _serve(self, connection: ClientConnection) -> None:
        name = connection.name
        why = await connection.serve()
        if self._clients.pop(name, None) is None:
            return
        if connection.joined:
            log.warning("i-PI client gone", worker=name, joined=True, reason=why)
            self._report_later(WorkerLeft(name, why))
        else:
            self._log(log.warning, "i-PI client gone", worker=name, joined=False, reason=why)

    def _served(self, connection: ClientConnection, _: asyncio.Task[None]) -> None:
        # Not in `_serve`, which never ran if it was cancelled at once.
        del self._serving[connection.name]
        connection.close()

    async def _report_alive(self) -> None:
        while True:
            await asyncio.sleep(self._heartbeat_s)
            for name, connection in list(self._clients.items()):
                if connection.joined:
                    self._report_now(WorkerAlive(name))

    def _spawn(self, coroutine: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def _report_later(self, event: WorkerEvent) -> None:
        # Never from within `send`: the dispatcher may be in the middle of a decision.
        asyncio.get_running_loop().call_soon(self._report_now, event)

    def _report_now(self, event: WorkerEvent) -> None:
        if self._report is not None:
            self._report(self, event)
