"""The door for stock i-PI clients: LAMMPS' fix ipi, ASE's SocketClient, i-pi-driver-py, ...

To them we are i-PI; to the dispatcher each of them is a worker that evaluates whole systems. They
know nothing of weights, site energies or heartbeats: an open socket counts as a sign of life.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import socket
import stat
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any, Final

import structlog

from mixserver.dispatch.events import Door, Event, Failed, Heard, Left
from mixserver.dispatch.ipi_client import Connection
from mixserver.dispatch.ipi_questions import Geometry, Terms
from mixserver.errors import ConfigError
from mixserver.wire.address import SOCKETS_PREFIX, Address, parse_address
from mixserver.wire.worker import Evaluate, ModelCard, Role

log = structlog.get_logger(__name__)

_BACKLOG: Final = 16
_GOODBYE_S: Final = 10.0
"""How long to wait for a client that has to leave, if it only has to say that it is ready."""
_BUSY_S: Final = 2.0
"""The same, if it computes, or has never said anything."""


class IpiDoor:
    """Where stock i-PI clients connect.

    Each process of a client works on one number of atoms. Where a job has another, the client is
    told EXIT and the job waits for the next process.

    Args:
        address: "unix:NAME" or "HOST:PORT" to bind; port 0 picks a free one.
        role: what its clients serve as.
        card: what they are; a stock client cannot say it itself.
        geometry: what they get; see `Terms`.
        test_count: whether their number of atoms is tested; see `Terms`.
        test_order: whether the order of their elements is tested; see `Terms`.
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
        self._terms = Terms(role, card, geometry, test_count, test_order, patience_s)
        self._heartbeat_s = heartbeat_s
        self._clients: dict[str, Connection] = {}
        self._serving: dict[str, asyncio.Task[None]] = {}
        self._own: list[asyncio.Task[None]] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._released = False
        self._numbers = itertools.count(1)
        self._listener: socket.socket | None = None
        self._report: Callable[[Door, Event], None] | None = None

    @property
    def address(self) -> str:
        """Where clients should connect: the file of a unix socket, or HOST:PORT."""
        return str(self._address)

    @property
    def role(self) -> Role:
        """What its clients are asked for."""
        return self._terms.role

    async def open(self, report: Callable[[Door, Event], None]) -> None:
        """Bind, and report events from now on.

        Raises:
            ConfigError: the address is in use, or cannot be bound.
        """
        self._listener = bind(self._address)
        if not self._address.unix:
            port = int(self._listener.getsockname()[1])
            self._address = Address(host=self._address.host, port=port)
        self._report = report
        self._own = [self._spawn(self._accept(self._listener)), self._spawn(self._beat())]
        log.info("waiting for i-PI clients", address=self.address, role=self._terms.role)

    def welcome(self, worker: str) -> None:
        """Do nothing: i-PI's protocol has no word for it."""

    def send(self, worker: str, job: Evaluate) -> None:
        """Hand a job to a client; what it cannot do is reported as `Failed`."""
        connection = self._clients.get(worker)
        if connection is None:
            self._later(Left(worker, "it is not connected", unsent=True))
        elif why := connection.cannot(job):
            self._later(Failed(worker, job.job, "input", why))
        elif why := connection.outgrown(job):
            self._release(worker, why)
        else:
            connection.begin(job)

    def drop(self, worker: str, reason: str) -> None:
        """Say EXIT to a client, once it has said what it owes, and hang up."""
        connection = self._clients.pop(worker, None)
        if connection is not None:
            log.info("i-PI client dropped", worker=worker, why=reason)
            self._part(connection)

    def _release(self, worker: str, why: str) -> None:
        """Have a client's process end, so that a new one can take another number of atoms."""
        tell = log.info if self._released else log.warning
        self._released = True
        tell(
            "i-PI client released",
            worker=worker,
            why=why,
            cure="start clients in a loop (while i-pi-driver-py ...; do :; done), so that a new "
            "process connects, or use mixserver-worker, which takes any number of atoms",
        )
        self._part(self._clients.pop(worker))
        self._later(Left(worker, why, orderly=True))

    def _part(self, connection: Connection) -> None:
        connection.leave()
        task = self._serving[connection.name]
        limit = _GOODBYE_S if connection.nearly_free else _BUSY_S
        asyncio.get_running_loop().call_later(limit, task.cancel)

    async def close(self, reason: str) -> None:
        """Say EXIT to every client, and give back sockets, tasks and the file of the socket."""
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
            except OSError as error:  # out of file descriptors, or it hung up already
                log.warning("no i-PI client accepted", address=self.address, why=str(error))
                await asyncio.sleep(self._heartbeat_s)
                continue
            peer.setblocking(False)
            name = f"ipi-client-{next(self._numbers)}"
            if not self._address.unix:
                name += f" ({where[0]}:{where[1]})"
            connection = Connection(peer, name, self._terms, self._later)
            self._clients[name] = connection
            self._serving[name] = task = self._spawn(self._serve(connection))
            task.add_done_callback(partial(self._served, connection))
            log.info("i-PI client connected", worker=name)

    async def _serve(self, connection: Connection) -> None:
        name = connection.name
        why = await connection.serve()
        if self._clients.pop(name, None) is None:
            return
        log.warning("i-PI client gone", worker=name, joined=connection.joined, why=why)
        if connection.joined:
            self._later(Left(name, why))

    def _served(self, connection: Connection, _: asyncio.Task[None]) -> None:
        # Not in `_serve`, which never ran if it was cancelled at once.
        del self._serving[connection.name]
        connection.close()

    async def _beat(self) -> None:
        while True:
            await asyncio.sleep(self._heartbeat_s)
            for name, connection in list(self._clients.items()):
                if connection.joined:
                    self._tell(Heard(name))

    def _spawn(self, coroutine: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def _later(self, event: Event) -> None:
        # Never from within `send`: the dispatcher may be in the middle of a decision.
        asyncio.get_running_loop().call_soon(self._tell, event)

    def _tell(self, event: Event) -> None:
        if self._report is not None:
            self._report(self, event)


def bind(address: Address) -> socket.socket:
    """Listen at an address, clearing away the file of a unix socket that no program listens on.

    Raises:
        ConfigError: another program listens there already, or it cannot be bound.
    """
    if address.unix:
        _clear(address)
        listener = socket.socket(socket.AF_UNIX)
        where: Any = address.path
    else:
        try:
            found = socket.getaddrinfo(
                address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
            )
        except OSError as error:
            raise ConfigError(f"cannot find the host of {address}: {error}") from error
        family, _, _, _, where = found[0]
        listener = socket.socket(family)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.setblocking(False)
        listener.bind(where)
        listener.listen(_BACKLOG)
    except OSError as error:
        listener.close()
        raise ConfigError(
            f"cannot listen at {address} for i-PI clients: {error.strerror}. Choose another "
            "workers.clients, or end the process that has it."
        ) from error
    return listener


def _clear(address: Address) -> None:
    try:
        kind = os.stat(address.path).st_mode
    except OSError:
        return
    if not stat.S_ISSOCK(kind):
        raise ConfigError(f"{address} exists and is no socket; choose another workers.clients")
    with socket.socket(socket.AF_UNIX) as probe:
        probe.setblocking(False)
        try:
            probe.connect(address.path)
        except ConnectionRefusedError:
            log.info("stale socket removed", file=address.path)
            os.unlink(address.path)
            return
        except OSError:
            pass  # its backlog is full: a program is there
    raise ConfigError(
        f"another program listens at {address} already (mixserver or i-PI); choose another "
        "workers.clients"
    )
