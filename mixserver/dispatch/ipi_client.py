"""One stock i-PI client: its socket, its job, and what it says as events of the dispatcher.

Knows nothing of other clients. Cells that i-PI would never send (a not along x, b not in the xy
plane) are turned before they leave, because LAMMPS reads six numbers of nine.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from collections.abc import Callable
from typing import Final, NoReturn

import numpy as np

from mixserver.arrays import Matrix
from mixserver.dispatch.events import Answered, Event, Failed, Joined
from mixserver.errors import PeerGone, ProtocolError
from mixserver.wire.ipi import EXIT, Bytes, Reply, Say
from mixserver.wire.ipi_server import Client, Forces, Free
from mixserver.wire.worker import Evaluate, ModelCard, Result, Role

_QUICKACK: Final[int | None] = getattr(socket, "TCP_QUICKACK", None)


class Connection:
    """One stock client, from accept to hang-up.

    Args:
        connection: non-blocking; closed when `serve` ends.
        name: unique.
        role: what it serves as.
        card: what it is.
        tell: takes its events.
    """

    def __init__(
        self,
        connection: socket.socket,
        name: str,
        role: Role,
        card: ModelCard,
        tell: Callable[[Event], None],
    ) -> None:
        self.name = name
        self.joined = False
        self._connection = connection
        self._role: Role = role
        self._card = card
        self._tell = tell
        self._client = Client()
        self._outbox: asyncio.Queue[Bytes] = asyncio.Queue()
        self._sending = False
        self._free = False
        self._job: Evaluate | None = None
        self._turn: Matrix | None = None
        self._started = 0.0
        self._atoms: int | None = None
        if connection.family != socket.AF_UNIX:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    async def serve(self) -> str:
        """Talk until the client hangs up; say why it ended.

        Cancelling it is how the client is left.
        """
        self._outbox.put_nowait(self._client.greeting())
        writer = asyncio.create_task(self._write())
        try:
            await self._read()
        except PeerGone as gone:
            return str(gone)
        except (ProtocolError, OSError) as error:
            return f"{type(error).__name__}: {error}"
        finally:
            writer.cancel()
            await asyncio.gather(writer, return_exceptions=True)
            self.close()

    def leave(self) -> None:
        """Say EXIT, if it can be said without waiting; then cancel `serve`."""
        if not self._sending:
            with contextlib.suppress(OSError):
                self._connection.send(EXIT)

    def close(self) -> None:
        """Close the socket, if it is open."""
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
            return "a stock i-PI client gives no site energies: use a mixserver-worker"
        if self._atoms is not None and self._atoms != len(job.positions):
            return (
                f"a stock i-PI client works on one system: its first job had {self._atoms} atoms, "
                f"this one has {len(job.positions)}"
            )
        return ""

    def begin(self, job: Evaluate) -> None:
        """Take a job, to be sent as soon as the client is free."""
        if self._job is not None:
            self._tell(Failed(self.name, job.job, "worker", f"it still has job {self._job.job}"))
            return
        self._job, self._atoms = job, len(job.positions)
        if self._free:
            self._ask()

    def _ask(self) -> None:
        job = self._job
        if job is None:
            return
        self._free, self._started = False, time.perf_counter()
        self._turn = _turn(job.cell)
        positions, cell = job.positions, job.cell
        if self._turn is not None:
            positions, cell = positions @ self._turn, np.tril(cell @ self._turn)
        self._outbox.put_nowait(self._client.ask(positions, cell))

    async def _read(self) -> NoReturn:
        loop = asyncio.get_running_loop()
        tcp = self._connection.family != socket.AF_UNIX
        while True:
            if tcp and _QUICKACK is not None:
                # Clients that send in small pieces without TCP_NODELAY (ASE) wait 44 ms for each
                # delayed acknowledgement; the kernel forgets this setting, so it is made anew.
                self._connection.setsockopt(socket.IPPROTO_TCP, _QUICKACK, 1)
            n = await loop.sock_recv_into(self._connection, self._client.want())
            if n == 0:
                raise PeerGone("it hung up")
            for event in self._client.filled(n):
                self._handle(event)

    def _handle(self, event: object) -> None:
        match event:
            case Say(data):
                self._outbox.put_nowait(data)
            case Free():
                self._free = True
                if not self.joined:
                    self.joined = True
                    self._tell(Joined(self.name, self._role, self._card))
                self._ask()
            case Forces(reply) if self._job is not None:
                job, self._job = self._job, None
                result = _result(job.job, reply, self._turn, time.perf_counter() - self._started)
                self._tell(Answered(self.name, result))

    async def _write(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            data = await self._outbox.get()
            self._sending = True
            try:
                await loop.sock_sendall(self._connection, data)
            except OSError:
                return  # the reader sees the end of the stream too, and says so
            self._sending = False


def _result(job: int, reply: Reply, turn: Matrix | None, seconds: float) -> Result:
    forces, virial = reply.forces, reply.virial
    if turn is not None:
        forces, virial = forces @ turn.T, turn @ virial @ turn.T
    return Result(
        job=job,
        energy=reply.energy,
        forces=forces,
        virial=virial,
        extras=reply.extras,
        seconds=seconds,
    )


def _turn(cell: Matrix) -> Matrix | None:
    """(3, 3) orthogonal Q for which cell @ Q is as i-PI has it (rows lower triangular), if needed.

    A left-handed cell is mirrored, too; no potential that is a function of distances minds.
    """
    if not np.triu(cell, 1).any() and (np.diag(cell) > 0.0).all():
        return None
    q, r = np.linalg.qr(cell.T)
    turn: Matrix = q * np.where(np.diag(r) < 0.0, -1.0, 1.0)
    return turn
