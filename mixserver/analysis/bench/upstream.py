"""i-PI's side of its sockets, reduced to asking for forces and timing the answers.

Blocking: use it in a thread or in a process of its own.
"""

from __future__ import annotations

import selectors
import socket
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, Self

from mixserver.core.arrays import Matrix, Vectors
from mixserver.core.errors import UpstreamError
from mixserver.wire import Bytes
from mixserver.wire.ipi import Send
from mixserver.wire.ipi_server import Client, ClientReady, ForcesReceived

_POLL_S: Final = 0.2
_ANSWER_S: Final = 3600.0
"""Longest evaluation that is waited for."""
_EXIT: Final = b"EXIT".ljust(12)


class Connection:
    """One client that has connected.

    Args:
        connected: its socket.
        late_init: whether it wants INIT with its first request, as i-PI's own drivers do.
    """

    def __init__(self, connected: socket.socket, *, late_init: bool = False) -> None:
        self.socket = connected
        self.socket.settimeout(_ANSWER_S)
        self.extras = ""
        """Of the latest answer."""
        self._client = Client(late_init=late_init)
        self._ready = False
        self._answered = 0.0
        """When the forces of the request in flight had arrived; 0 before."""
        self.socket.sendall(self._client.greeting())
        self._until_ready()

    def ask(self, positions: Vectors, cell: Matrix) -> float:
        """Ask for the forces of one frame; seconds from sending to the whole answer."""
        question = self._client.request(positions, cell)
        started = time.perf_counter()
        self.send(question)
        while not self._answered:
            self.receive()
        took = self._answered - started
        self._until_ready()
        return took

    def question(self, positions: Vectors, cell: Matrix) -> Bytes:
        """The bytes that ask for the forces of one frame."""
        return self._client.request(positions, cell)

    def send(self, question: Bytes) -> None:
        """Send a question."""
        self._ready, self._answered = False, 0.0
        self.socket.sendall(question)

    @property
    def answered(self) -> float:
        """When the forces had arrived, on the clock of `time.perf_counter`; 0 before."""
        return self._answered

    def receive(self) -> None:
        """Receive what is there, and reply to it.

        Raises:
            UpstreamError: the client hung up, or did not answer in time.
        """
        try:
            n = self.socket.recv_into(self._client.get_buffer())
        except TimeoutError:
            raise UpstreamError(f"no forces came within {_ANSWER_S:.0f} s") from None
        except OSError as error:
            raise UpstreamError(f"the connection broke: {error.strerror}") from error
        if n == 0:
            raise UpstreamError("the other side hung up during the benchmark")
        seen = time.perf_counter()
        for event in self._client.buffer_updated(n):
            if isinstance(event, Send):
                self.socket.sendall(event.data)
            elif isinstance(event, ForcesReceived):
                self._answered, self.extras = seen, event.reply.extras
            elif isinstance(event, ClientReady):
                self._ready = True

    def close(self) -> None:
        """Send EXIT and close the socket."""
        try:
            self.socket.sendall(_EXIT)
        except OSError:
            pass  # it is gone already
        finally:
            self.socket.close()

    def _until_ready(self) -> None:
        while not self._ready:
            self.receive()


class Upstream:
    """A unix socket at which clients connect as at i-PI's.

    Args:
        path: the socket, which must not exist.
        alive: raises a `MixserverError` if the client will never connect; asked while waiting.
        connections: how many the client makes.
        late_init: as of `Connection`.

    Raises:
        UpstreamError: it did not connect, or said what i-PI's clients do not say.
    """

    def __init__(
        self,
        path: Path,
        alive: Callable[[], None],
        *,
        connections: int = 1,
        late_init: bool = False,
        limit_s: float = 1800.0,
    ) -> None:
        self.path = path
        self.connections: list[Connection] = []
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen(connections)
        self._listener.settimeout(_POLL_S)
        self._alive, self._count, self._late_init = alive, connections, late_init
        self._limit_s = limit_s

    def wait_for_clients(self) -> None:
        """Wait until all connections are made."""
        until = time.monotonic() + self._limit_s
        while len(self.connections) < self._count:
            self._alive()
            if time.monotonic() > until:
                raise UpstreamError(f"nothing connected to {self.path} in {self._limit_s:.0f} s")
            try:
                connected, _ = self._listener.accept()
            except TimeoutError:
                continue
            self.connections.append(Connection(connected, late_init=self._late_init))

    def ask(self, positions: Vectors, cell: Matrix) -> float:
        """Ask the first connection for the forces of one frame; seconds."""
        return self.connections[0].ask(positions, cell)

    def ask_all(self, frames: Sequence[Vectors], cell: Matrix) -> float:
        """Ask one frame of each connection, all at once; seconds until the last answer is there."""
        pairs = list(zip(self.connections, frames, strict=True))
        questions = [one.question(positions, cell) for one, positions in pairs]
        started = time.perf_counter()
        with selectors.DefaultSelector() as waiting:
            for (one, _), question in zip(pairs, questions, strict=True):
                one.send(question)
                waiting.register(one.socket, selectors.EVENT_READ, one)
            until = time.monotonic() + _ANSWER_S
            while not all(one.answered for one, _ in pairs):
                ready = waiting.select(timeout=1.0)
                if not ready and time.monotonic() > until:
                    raise UpstreamError(f"no forces came within {_ANSWER_S:.0f} s")
                for key, _ in ready:
                    key.data.receive()
        return max(one.answered for one, _ in pairs) - started

    def ask_in_turn(self, frames: Sequence[Vectors], cell: Matrix) -> float:
        """Ask one frame of each connection, one after the other; seconds in all."""
        pairs = zip(self.connections, frames, strict=True)
        return sum(one.ask(positions, cell) for one, positions in pairs)

    def close(self) -> None:
        """Send EXIT to all, and remove the socket."""
        for one in self.connections:
            one.close()
        self._listener.close()
        self.path.unlink(missing_ok=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
