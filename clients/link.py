"""The worker's side of its connection to the server: a socket on a thread of its own.

The engine owns the main thread; here heartbeats go on while it computes, a silent or restarted
server is joined again, and signals are seen even while the engine is inside compiled code. Knows
nothing of engines.
"""

from __future__ import annotations

import contextlib
import logging
import math
import queue
import signal
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Final, Self

import msgspec
import zmq

from mixserver.errors import ConfigError, MixserverError, PeerGone, ProtocolError
from mixserver.wire.text import SENTENCE, clean
from mixserver.wire.worker import (
    Evaluate,
    Failure,
    Goodbye,
    Heartbeat,
    Hello,
    Message,
    Refused,
    Result,
    Unknown,
    Welcome,
    decode,
    encode,
)

log = logging.getLogger(__name__)

_PATIENCE_S: Final = 5.0
"""How long a Hello may stay unanswered before the connection is made anew, until the server has
said how patient it is."""
_DELAY_S: Final = 0.5
"""A link that wakes later than this was stopped or starved itself, and blames no server for it."""
_LARGE: Final = 1 << 16
_LINGER_MS: Final = 1000
_POKE: Final = b"\0"
_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)


class Link:
    """A worker's membership of one server.

    Use it as a context, on the main thread; leaving the context says goodbye.

    Args:
        server: "tcp://HOST:PORT" or "ipc://PATH".
        hello: who this worker is.
        wait_s: give up if no server has answered for so long; by default never.
        on_end: called once, on the link's thread, as soon as it is known that this worker is to
            end, even while the main thread computes.
    """

    def __init__(
        self,
        server: str,
        hello: Hello,
        *,
        wait_s: float = math.inf,
        on_end: Callable[[], None] | None = None,
    ) -> None:
        self._server = server
        self._hello = hello
        self._wait_s = wait_s
        self._on_end = on_end
        self._inbox: queue.SimpleQueue[tuple[int, Evaluate] | None] = queue.SimpleQueue()
        self._outbox: deque[Result | Failure] = deque()
        self._poked, self._poke = socket.socketpair()
        self._poked.setblocking(False)
        self._poke.setblocking(False)
        self._thread = threading.Thread(target=self._run, name="link", daemon=True)
        self._closing = False
        self._ended = False
        self._membership = 0
        """Counts memberships: a job of an earlier one that is not begun is dropped."""
        self._member = False
        self._lock = threading.Lock()
        """Held to begin a job, to put down its answer, and to say Hello with what is held."""
        self._at: int | None = None
        """The job the main thread is at."""
        self._said: Result | Failure | None = None
        """The newest answer, kept until another job comes: it may not have arrived."""
        self._socket: zmq.Socket[bytes] | None = None
        self._patience_s = _PATIENCE_S
        self._heartbeat_s = 1.0
        self._heard = self._spoke = self._alone = self._woken = 0.0
        self.error: MixserverError | None = None
        """Why this worker had to end, if it had to."""

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._closing = True
        self._wake()
        self._thread.join()
        self._poked.close()
        self._poke.close()

    @contextlib.contextmanager
    def heeding_signals(self) -> Iterator[None]:
        """Inside this context SIGTERM and SIGINT end the membership instead of the process.

        The interpreter writes them to the link's thread at once, whatever the main thread does.
        """
        before = {number: signal.signal(number, _do_nothing) for number in _SIGNALS}
        wakeup = signal.set_wakeup_fd(self._poke.fileno(), warn_on_full_buffer=False)
        try:
            yield
        finally:
            signal.set_wakeup_fd(wakeup)
            for number, handler in before.items():
                signal.signal(number, handler)

    def jobs(self) -> Iterator[Evaluate]:
        """The jobs of this worker as they come, until the server or a signal ends it.

        Raises:
            ConfigError: the server turned this worker away, or its address is none.
            PeerGone: no server for `wait_s`.
            ProtocolError: whoever answers is no mixserver.
        """
        while (item := self._inbox.get()) is not None:
            membership, job = item
            with self._lock:
                begun = membership == self._membership
                self._at = job.job if begun else None
            if begun:
                yield job
                self._at = None
        if self.error is not None:
            raise self.error

    def answer(self, result: Result) -> None:
        """Send a result; if the connection is lost, by the next one, and its server decides."""
        self._send(result)

    def refuse(self, job: Evaluate, why: str) -> None:
        """Say that a job is at fault."""
        self._send(Failure(job=job.job, blame="input", message=clean(why, SENTENCE)))

    def fail(self, job: Evaluate, why: str) -> None:
        """Say that this worker is at fault."""
        self._send(Failure(job=job.job, blame="worker", message=clean(why, SENTENCE)))

    def _send(self, message: Result | Failure) -> None:
        with self._lock:
            if self._at != message.job:
                return
            self._at, self._said = None, message
            self._outbox.append(message)
        self._wake()

    def _wake(self) -> None:
        with contextlib.suppress(BlockingIOError):  # full of pokes: it will wake anyway
            self._poke.send(_POKE)

    # From here on: the link's own thread.

    def _run(self) -> None:
        context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        try:
            self._live(context)
        except MixserverError as error:
            self._end(error)
        except zmq.ZMQError as error:
            self._end(ConfigError(f"--server {self._server}: {error.strerror}"))
        except Exception as error:  # whatever it is, the main thread must not wait for ever
            log.exception("the link failed")
            self._end(PeerGone(f"the link failed: {type(error).__name__}: {error}"))
        finally:
            if self._socket is not None:
                self._socket.close(linger=_LINGER_MS if self._member else 0)
            context.term()

    def _live(self, context: zmq.Context[zmq.Socket[bytes]]) -> None:
        self._alone = self._woken = time.monotonic()
        self._connect(context)
        while True:
            self._wait()
            stop = self._pokes()
            # read first, and judge by the time before it: neither what lies in the socket nor a
            # pause of this thread is the server's silence
            self._read()
            if not self._ended and self._woken - self._heard > self._patience_s:
                self._silence(context)
            self._answer()
            if stop or self._closing:
                self._say(Goodbye(reason=stop or "the worker ends"))
                self._end(None)
            if self._ended:
                return
            if self._member and time.monotonic() - self._spoke >= 0.5 * self._heartbeat_s:
                self._say(Heartbeat(job=self._at))

    def _answer(self) -> None:
        """Send what the main thread has put down, once there is a server to send it to."""
        while self._member and self._outbox:
            self._say(self._outbox.popleft())

    def _connect(self, context: zmq.Context[zmq.Socket[bytes]]) -> None:
        """Make the connection (anew) and say Hello; ZeroMQ waits for a server by itself."""
        if self._socket is not None:
            self._socket.close(linger=0)
        self._socket = context.socket(zmq.DEALER)
        self._socket.setsockopt(zmq.LINGER, 0)
        self._socket.setsockopt(zmq.IPV6, int("[" in self._server))
        self._socket.setsockopt(zmq.RECONNECT_IVL, 100)
        self._socket.setsockopt(zmq.RECONNECT_IVL_MAX, 3000)
        self._socket.copy_threshold = _LARGE
        self._socket.connect(self._server)
        self._greet()

    def _greet(self) -> None:
        with self._lock:
            self._member = False
            self._membership += 1
            self._outbox.clear()
            if self._said is not None and self._at is None:
                self._outbox.append(self._said)
            holds = self._at if self._said is None or self._at is not None else self._said.job
        self._heard = time.monotonic()
        self._say(msgspec.structs.replace(self._hello, job=holds))

    def _wait(self) -> None:
        timeout = 0.5 * self._heartbeat_s if self._member else 0.5
        timeout = min(timeout, max(0.0, self._alone + self._wait_s - time.monotonic()))
        poller = zmq.Poller()
        poller.register(self._socket, zmq.POLLIN)
        poller.register(self._poked.fileno(), zmq.POLLIN)
        poller.poll(math.ceil(1e3 * timeout))
        now = time.monotonic()
        late = now - self._woken - timeout
        self._woken = now
        if late > _DELAY_S:  # news may still be on its way through the kernel and ZeroMQ
            self._heard = min(now, self._heard + late)
        if not self._member and time.monotonic() - self._alone >= self._wait_s:
            raise PeerGone(
                f"no server answered at {self._server} within {self._wait_s:g} s. Is it running, "
                "and is this the address it printed? --wait-s sets how long to wait."
            )

    def _silence(self, context: zmq.Context[zmq.Socket[bytes]]) -> None:
        if self._member:
            now = time.monotonic()
            log.warning("server silent for %.1f s: joining again", now - self._heard)
            self._alone = now
        self._connect(context)

    def _pokes(self) -> str:
        """Empty the poke socket; the name of the signal that came through it, if one did."""
        named = ""
        with contextlib.suppress(BlockingIOError):
            for byte in self._poked.recv(4096):
                if byte in _SIGNALS:
                    named = signal.Signals(byte).name
        return named

    def _read(self) -> None:
        while not self._ended and self._socket is not None:
            try:
                parts = self._socket.recv_multipart(zmq.DONTWAIT, copy=False)
            except zmq.Again:
                return
            frames = [p.buffer if len(p) >= _LARGE else p.bytes for p in parts]
            try:
                message = decode(frames)
            except ProtocolError as error:
                raise ProtocolError(
                    f"what answers at {self._server} is no mixserver of this version: {error}"
                ) from error
            self._heard = time.monotonic()
            self._hear(message)

    def _hear(self, message: Message) -> None:
        match message:
            case Welcome(heartbeat_s=heartbeat_s, patience_s=patience_s):
                self._heartbeat_s, self._patience_s = heartbeat_s, patience_s
                self._member = True
                log.info("%s joined %s", self._hello.name, self._server)
            case Refused(reason=reason):
                self._member = False
                self._end(ConfigError(clean(reason, SENTENCE)))
            case Unknown() if self._member:
                log.info("server does not know this worker: joining again")
                self._alone = time.monotonic()
                self._greet()
            case Evaluate() if self._member:
                with self._lock:
                    self._said = None  # the server has it, or does not want it
                self._inbox.put((self._membership, message))
            case Goodbye(reason=reason):
                log.info("server says goodbye: %s", clean(reason, SENTENCE))
                self._member = False
                self._end(None)

    def _say(self, message: Message) -> None:
        if self._socket is None:
            return
        self._spoke = time.monotonic()
        # a full queue means a dead connection; its silence has it made anew
        with contextlib.suppress(zmq.Again):
            self._socket.send_multipart(encode(message), zmq.DONTWAIT, copy=False)

    def _end(self, error: MixserverError | None) -> None:
        if self._ended:
            return
        self._ended = True
        self.error = error
        self._inbox.put(None)
        if self._on_end is not None and not self._closing:
            self._on_end()


def _do_nothing(number: int, frame: object) -> None:
    """A signal's Python half: its other half has reached the link already."""
