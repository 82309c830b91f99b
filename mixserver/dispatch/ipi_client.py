"""One stock i-PI client: its socket, its job, and what it says as events of the dispatcher.

Knows nothing of other clients. A job is a short script of questions (`ipi_questions`).
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import socket
import time
from collections.abc import Callable, Generator
from typing import Final, NoReturn

from mixserver.dispatch.events import Answered, Event, Failed, Joined
from mixserver.dispatch.ipi_probe import Question
from mixserver.dispatch.ipi_questions import Questions, Terms, Unfit
from mixserver.errors import PeerGone, ProtocolError
from mixserver.wire.ipi import EXIT, Bytes, Reply, Say
from mixserver.wire.ipi_server import Client, Forces, Free
from mixserver.wire.worker import Evaluate, Result

_QUICKACK: Final[int | None] = getattr(socket, "TCP_QUICKACK", None)
_LOOKS: Final = 5
"""How often a client is looked at within the patience."""
_BATCH: Final = re.compile(r"\s*,?\s*batch_size\s*:\s*\d+\s*$")
"""What i-PI adds to its parameters for drivers that take several configurations at once."""


class Connection:
    """One stock client, from accept to hang-up.

    Args:
        connection: non-blocking; closed when `serve` ends.
        name: unique.
        terms: how it is treated.
        tell: takes its events.
    """

    def __init__(
        self,
        connection: socket.socket,
        name: str,
        terms: Terms,
        tell: Callable[[Event], None],
    ) -> None:
        self.name = name
        self.joined = False
        self._connection = connection
        self._terms = terms
        self._tell = tell
        self._client = Client(late_init=True)
        self._outbox: asyncio.Queue[Bytes] = asyncio.Queue()
        self._free = False
        self._leaving = False
        self._left = asyncio.Event()
        self._job: Evaluate | None = None
        self._questions = Questions(terms)
        self._script: Generator[Question, Reply, Reply | Unfit] | None = None
        self._question: Question | None = None
        self._started = 0.0
        self._received = 0
        self._atoms: int | None = None
        if connection.family != socket.AF_UNIX:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    async def serve(self) -> str:
        """Talk until the client hangs up or has been told EXIT; say why it ended."""
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
            return f"{gone}{self._questions.hint}"
        except ProtocolError as error:
            return f"{type(error).__name__}: {error}"
        except OSError as error:
            return f"{type(error).__name__}: {error}{self._questions.hint}"
        else:
            return "it was told EXIT"
        finally:
            for task in (writer, reader, watch, left):
                task.cancel()
            await asyncio.gather(writer, reader, watch, left, return_exceptions=True)
            self.close()

    @property
    def nearly_free(self) -> bool:
        """Whether all that it may still owe is to say that it is ready."""
        return self.joined and self._job is None

    def leave(self) -> None:
        """Say EXIT once the client has said all that it owes; `serve` then ends.

        A client that hangs up while it owes an answer dies of it: after its last force it owes
        one to STATUS. i-PI waits for it, too.
        """
        self._leaving = True
        if self._free:
            self._say_exit()

    def close(self) -> None:
        """Close the socket, if it is open; a client that is still busy may find EXIT there."""
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
            return "a stock i-PI client gives no site energies: use a mixserver-worker"
        if self._questions.own_atoms and (other := self._other_number(job)):
            return (
                f"{other}. It has atoms of its own (LAMMPS, ASE), so it cannot serve clusters, "
                "whose number of atoms changes: use a mixserver-worker, which takes any number"
            )
        return ""

    def outgrown(self, job: Evaluate) -> str:
        """Why this process of the client cannot do a job, but the next one can; "" if it can."""
        return "" if self._questions.own_atoms else self._other_number(job)

    def _other_number(self, job: Evaluate) -> str:
        if self._atoms is None or self._atoms == len(job.positions):
            return ""
        return (
            f"a stock i-PI client works on one system: its first job had {self._atoms} atoms, "
            f"this one has {len(job.positions)}"
        )

    def begin(self, job: Evaluate) -> None:
        """Take a job, to be sent as soon as the client is free."""
        if self._job is not None:
            self._tell(Failed(self.name, job.job, "worker", f"it still has job {self._job.job}"))
            return
        self._job, self._atoms = job, len(job.positions)
        self._script = self._questions.about(job)
        self._question = next(self._script)
        self._started = time.perf_counter()
        if self._free:
            self._ask()

    def _ask(self) -> None:
        job, question = self._job, self._question
        if job is None or question is None:
            return
        self._free, self._question = False, None
        parameters = _BATCH.sub("", job.parameters)
        data = self._client.ask(
            question.positions,
            question.cell,
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
            n = await loop.sock_recv_into(self._connection, self._client.want())
            if n == 0:
                raise PeerGone("it hung up")
            self._received += n
            for event in self._client.filled(n):
                self._handle(event)

    async def _watch(self) -> NoReturn:
        """Give up a client that stops in the middle of a message.

        Its silence is counted in looks: a server that stood still itself has looked once only.
        """
        patience, seen, silent = self._terms.patience_s, 0, 0
        while silent < _LOOKS:
            await asyncio.sleep(patience / _LOOKS)
            silent = silent + 1 if self._client.midway and self._received == seen else 0
            seen = self._received
        raise PeerGone(
            f"it stopped in the middle of a message for {patience:g} s (workers.patience_s)"
        )

    def _handle(self, event: object) -> None:
        match event:
            case Say(data):
                self._outbox.put_nowait(data)
            case Free():
                self._free = True
                if self._leaving:
                    self._say_exit()
                    return
                if not self.joined:
                    self.joined = True
                    # i-PI's own drivers ask for INIT, and take whatever atoms they are sent
                    self._questions.own_atoms = not self._client.needs_init
                    self._tell(Joined(self.name, self._terms.role, self._terms.card))
                self._ask()
            case Forces(reply) if self._script is not None:
                try:
                    self._question = self._script.send(reply)
                except StopIteration as end:
                    self._finish(end.value)

    def _finish(self, outcome: Reply | Unfit) -> None:
        job, self._job, self._script = self._job, None, None
        if job is None:
            return
        if isinstance(outcome, Unfit):
            why = f"the stock client is not fit for this run: {outcome.why}"
            self._tell(Failed(self.name, job.job, outcome.blame, why))
            return
        result = Result(
            job=job.job,
            energy=outcome.energy,
            forces=outcome.forces,
            virial=outcome.virial,
            extras=outcome.extras,
            seconds=time.perf_counter() - self._started,
        )
        self._tell(Answered(self.name, result))

    def _say_exit(self) -> None:
        self._free = False
        self._outbox.put_nowait(EXIT)

    async def _write(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            data = await self._outbox.get()
            try:
                await loop.sock_sendall(self._connection, data)
            except OSError:
                return  # the reader sees the end of the stream too, and says so
            if data is EXIT:
                self._left.set()
