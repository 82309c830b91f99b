"""One connection to a stock i-PI client: its socket, its job, and its messages as worker events.

A job is a short sequence of requests, which `ipi_requests` plans.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import socket
import time
from collections.abc import Callable, Generator
from typing import Final, NoReturn

from mixserver.core.errors import PeerGone, ProtocolError
from mixserver.dispatch.ipi_clients.probe import Configuration
from mixserver.dispatch.ipi_clients.requests import ClientSettings, RequestPlanner, UnsuitableClient
from mixserver.dispatch.scheduling.events import (
    FailureReceived,
    ResultReceived,
    WorkerEvent,
    WorkerJoined,
)
from mixserver.wire import Bytes
from mixserver.wire.ipi import EXIT, Reply, Send
from mixserver.wire.ipi_server import Client, ClientReady, ForcesReceived
from mixserver.wire.worker import Evaluate, Result

_QUICKACK: Final[int | None] = getattr(socket, "TCP_QUICKACK", None)
_CHECKS: Final = 5
"""How often a client is checked within the patience."""
FIRST_WORD_S: Final = 900.0
"""How long a client may take for its first word; some set up their model first."""
_BATCH: Final = re.compile(r"\s*,?\s*batch_size\s*:\s*\d+\s*$")
"""i-PI's addition to its parameters for drivers that evaluate several configurations at once."""


class ClientConnection:
    """One stock client, from accept to disconnect.

    Args:
        connection: non-blocking; closed when `serve` ends.
        name: unique.
        settings: how it is treated.
        report: takes its events.
    """

    def __init__(
        self,
        connection: socket.socket,
        name: str,
        settings: ClientSettings,
        report: Callable[[WorkerEvent], None],
    ) -> None:
        self.name = name
        self.joined = False
        self._connection = connection
        self._settings = settings
        self._report = report
        self._client = Client(late_init=True)
        self._outbox: asyncio.Queue[Bytes] = asyncio.Queue()
        self._ready = False
        self._leaving = False
        self._left = asyncio.Event()
        self._job: Evaluate | None = None
        self._planner = RequestPlanner(settings)
        self._sequence: Generator[Configuration, Reply, Reply | UnsuitableClient] | None = None
        self._request: Configuration | None = None
        self._started = 0.0
        self._received = 0
        self._atoms: int | None = None
        if connection.family != socket.AF_UNIX:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    async def serve(self) -> str:
        """Serve until the client disconnects or has been sent EXIT; returns why it ended."""
        self._outbox.put_nowait(self._client.greeting())
        writer = asyncio.create_task(self._write())
        reader = asyncio.create_task(self._read())
        watch = asyncio.create_task(self._watch())
        left = asyncio.create_task(self._left.wait())
        try:
            await asyncio.wait({reader, watch, left}, return_when=asyncio.FIRST_COMPLETED)
            for ended in (reader, watch):
                if ended.done():
                    ended.result()
        except PeerGone as gone:
            return f"{gone}{self._planner.hint}"
        except ProtocolError as error:
            return f"{type(error).__name__}: {error}"
        except OSError as error:
            return f"{type(error).__name__}: {error}{self._planner.hint}"
        else:
            return "it was sent EXIT"
        finally:
            for task in (writer, reader, watch, left):
                task.cancel()
            await asyncio.gather(writer, reader, watch, left, return_exceptions=True)
            self.close()

    @property
    def nearly_free(self) -> bool:
        """Whether READY is the only message that it may still have to send."""
        return self.joined and self._job is None

    def leave(self) -> None:
        """Send EXIT once the client has sent all that is due; `serve` then ends.

        A client dies if the connection closes before: after its last force, READY is due. i-PI
        waits for it, too.
        """
        self._leaving = True
        if self._ready:
            self._send_exit()

    def close(self) -> None:
        """Close the socket, if it is open; a client that is still busy may find EXIT in it."""
        if not self._left.is_set() and self._connection.fileno() >= 0:
            with contextlib.suppress(OSError):
                self._connection.send(EXIT)
        self._connection.close()

    def cannot(self, job: Evaluate) -> str:
        """Why a stock client cannot do a job; "" if it can."""
        if job.weight is not None and not (job.weight == 1.0).all():
            return (
                "a stock i-PI client evaluates every atom with weight 1, but this job has site "
                "weights: use a mixserver-worker, or force mixing with the client as the cheap "
                "worker"
            )
        if job.criterion:
            return (
                f"a stock i-PI client cannot evaluate the criterion {job.criterion!r}: use "
                "mixserver-worker lammps"
            )
        if job.energies:
            return "a stock i-PI client returns no site energies: use a mixserver-worker"
        if self._planner.own_atoms and (other := self._other_number(job)):
            return (
                f"{other}. It has atoms of its own (LAMMPS, ASE), so it cannot serve clusters, "
                "whose number of atoms changes: use a mixserver-worker, which takes any number"
            )
        return ""

    def outgrown(self, job: Evaluate) -> str:
        """Why this process of the client cannot do a job, but the next one can; "" if it can."""
        return "" if self._planner.own_atoms else self._other_number(job)

    def _other_number(self, job: Evaluate) -> str:
        if self._atoms is None or self._atoms == len(job.positions):
            return ""
        return (
            f"a stock i-PI client works on one system: its first job had {self._atoms} atoms, "
            f"this one has {len(job.positions)}"
        )

    def begin(self, job: Evaluate) -> None:
        """Accept a job, to be sent as soon as the client is ready."""
        if self._job is not None:
            self._report(
                FailureReceived(self.name, job.job, "worker", f"it still has job {self._job.job}")
            )
            return
        self._job, self._atoms = job, len(job.positions)
        self._sequence = self._planner.requests(job)
        self._request = next(self._sequence)
        self._started = time.perf_counter()
        if self._ready:
            self._send_request()

    def _send_request(self) -> None:
        job, request = self._job, self._request
        if job is None or request is None:
            return
        self._ready, self._request = False, None
        parameters = _BATCH.sub("", job.parameters)
        data = self._client.request(
            request.positions,
            request.cell,
            parameters=f" {parameters} " if parameters else "",
            rid=job.rid,
        )
        self._outbox.put_nowait(data)

    async def _read(self) -> NoReturn:
        loop = asyncio.get_running_loop()
        tcp = self._connection.family != socket.AF_UNIX
        while True:
            if tcp and _QUICKACK is not None:
                # Clients that send in small pieces without TCP_NODELAY (ASE) wait 44 ms for each
                # delayed acknowledgement; the kernel forgets this setting, so it is made each time.
                self._connection.setsockopt(socket.IPPROTO_TCP, _QUICKACK, 1)
            n = await loop.sock_recv_into(self._connection, self._client.get_buffer())
            if n == 0:
                raise PeerGone("it disconnected")
            self._received += n
            for event in self._client.buffer_updated(n):
                self._handle(event)

    async def _watch(self) -> NoReturn:
        """Disconnect a client that stops in the middle of a message, or never sends one.

        Its silence is counted in checks: a server that did not run has checked only once.
        """
        patience, seen, silent, mute_s = self._settings.patience_s, 0, 0, 0.0
        while silent < _CHECKS:
            await asyncio.sleep(patience / _CHECKS)
            mute_s = mute_s + patience / _CHECKS if not self._received else 0.0
            if mute_s > FIRST_WORD_S:
                raise PeerGone(f"it has sent nothing for {FIRST_WORD_S:g} s since it connected")
            silent = silent + 1 if self._client.midway and self._received == seen else 0
            seen = self._received
        raise PeerGone(
            f"it stopped in the middle of a message for {patience:g} s (workers.patience_s)"
        )

    def _handle(self, event: object) -> None:
        match event:
            case Send(data):
                self._outbox.put_nowait(data)
            case ClientReady():
                self._ready = True
                if self._leaving:
                    self._send_exit()
                    return
                if not self.joined:
                    self.joined = True
                    # i-PI's own drivers need INIT, and evaluate any atoms that they are sent
                    self._planner.own_atoms = not self._client.needs_init
                    self._report(WorkerJoined(self.name, self._settings.role, self._settings.card))
                self._send_request()
            case ForcesReceived(reply) if self._sequence is not None:
                try:
                    self._request = self._sequence.send(reply)
                except StopIteration as end:
                    self._finish(end.value)

    def _finish(self, outcome: Reply | UnsuitableClient) -> None:
        job, self._job, self._sequence = self._job, None, None
        if job is None:
            return
        if isinstance(outcome, UnsuitableClient):
            why = f"the stock client cannot serve this run: {outcome.why}"
            self._report(FailureReceived(self.name, job.job, outcome.blame, why))
            return
        result = Result(
            job=job.job,
            energy=outcome.energy,
            forces=outcome.forces,
            virial=outcome.virial,
            extras=outcome.extras,
            seconds=time.perf_counter() - self._started,
        )
        self._report(ResultReceived(self.name, result))

    def _send_exit(self) -> None:
        self._ready = False
        self._outbox.put_nowait(EXIT)

    async def _write(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            data = await self._outbox.get()
            try:
                await loop.sock_sendall(self._connection, data)
            except OSError:
                return  # the reader sees the end of the stream, too, and reports it
            if data is EXIT:
                self._left.set()
