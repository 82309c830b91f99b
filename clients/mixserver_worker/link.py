"""The worker's connection to its server: a ZeroMQ socket on a thread of its own.

The engine owns the main thread; meanwhile the link keeps sending heartbeats, joins a silent or
restarted server again, and reacts to signals even while the engine is inside compiled code. Knows
nothing of engines.
"""

from __future__ import annotations

import contextlib
import logging
import math
import threading
import time
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Final, Self

import msgspec
import zmq

from mixserver.core.errors import ConfigError, MixserverError, PeerGone, ProtocolError
from mixserver.core.keys import KeyPair, secure_client
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
)
from mixserver.wire.worker_frames import Decoder, encode
from mixserver_worker.handshake import Handshake
from mixserver_worker.leaving import Leaving
from mixserver_worker.mailbox import Mailbox
from mixserver_worker.membership import Membership
from mixserver_worker.wake_up import WakeUps

log = logging.getLogger(__name__)

_NO_COPY: Final = 1 << 16
"""Bytes from which a frame is not copied."""
_LINGER_MS: Final = 1000


class ServerLink:
    """Connects a worker to one server.

    Use it as a context, on the main thread; leaving the context sends Goodbye.

    Args:
        server: "tcp://HOST:PORT" or "ipc://PATH".
        hello: introduces this worker.
        wait_s: give up if no server has answered for so long; by default never.
        stay_s: after the server has ended, look for the next one for so long; by default not.
        keys: this worker's key pair and the server's public key; None for a server without keys.
        signals: from before the first Hello until the context is left, SIGTERM and SIGINT end the
            membership instead of the process. The job that is being evaluated is finished first,
            unless they come again.
        on_end: called once, on the link's thread, as soon as it is known that this worker must
            end, even while the main thread computes.
    """

    def __init__(
        self,
        server: str,
        hello: Hello,
        *,
        wait_s: float = math.inf,
        stay_s: float = 0.0,
        keys: tuple[KeyPair, bytes] | None = None,
        signals: bool = False,
        on_end: Callable[[], None] | None = None,
    ) -> None:
        self._server = server
        self._stay_s = stay_s
        self._hello = hello
        self._on_end = on_end
        self._keys = keys
        self._handshake = Handshake(server, with_keys=keys is not None)
        self._mailbox = Mailbox()
        self._decoder = Decoder()
        self._membership = Membership(wait_s, time.monotonic())
        self._wake_ups = WakeUps()
        self._handling = self._wake_ups.signals() if signals else contextlib.nullcontext()
        self._thread = threading.Thread(target=self._run, name="link", daemon=True)
        self._socket: zmq.Socket[bytes] | None = None
        self._closing = False
        self._ended = False
        self._leaving = Leaving()
        self.error: MixserverError | None = None
        """Why this worker had to end, if it had to."""

    def __enter__(self) -> Self:
        self._handling.__enter__()  # first: who has read the Hello may send a signal
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._closing = True
        self._wake_ups.wake()
        self._thread.join()
        self._handling.__exit__(None, None, None)
        self._wake_ups.close()

    def jobs(self) -> Iterator[Evaluate]:
        """The jobs of this worker as they come, until the server or a signal ends it.

        Raises:
            ConfigError: the server rejected this worker, or its address is malformed.
            PeerGone: no server answered for `wait_s`.
            ProtocolError: something other than a mixserver answers.
        """
        yield from self._mailbox.jobs()
        if self.error is not None:
            raise self.error

    def send_result(self, result: Result) -> None:
        """Send a result; after a lost connection it is sent again to the server that is joined."""
        self._post(result)

    def report_bad_input(self, job: Evaluate, reason: str) -> None:
        """Report that a job is at fault."""
        self._post(Failure(job=job.job, blame="input", message=clean(reason, SENTENCE)))

    def report_fault(self, job: Evaluate, reason: str) -> None:
        """Report that this worker is at fault."""
        self._post(Failure(job=job.job, blame="worker", message=clean(reason, SENTENCE)))

    def _post(self, answer: Result | Failure) -> None:
        if self._mailbox.post(answer):
            self._wake_ups.wake()

    # From here on: the link's own thread.

    def _run(self) -> None:
        context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        try:
            self._serve(context)
        except MixserverError as error:
            self._end(error)
        except zmq.ZMQError as error:
            self._end(ConfigError(f"--server {self._server}: {error.strerror}"))
        except Exception as error:  # in any case: the main thread must not wait forever
            log.exception("the link failed")
            self._end(PeerGone(f"the link failed: {type(error).__name__}: {error}"))
        finally:
            if self._socket is not None:
                self._handshake.close()
                self._socket.close(linger=_LINGER_MS if self._membership.joined else 0)
            context.term()

    def _serve(self, context: zmq.Context[zmq.Socket[bytes]]) -> None:
        membership = self._membership = Membership(self._membership.wait_s, time.monotonic())
        self._connect(context)
        while True:
            self._wait()
            if signals := self._wake_ups.read():
                self._signalled(signals)
            # Read first, and judge by the time before it: neither unread messages nor a pause of
            # this thread is the server's silence.
            self._read()
            if not self._ended and membership.server_silent:
                self._reconnect(context)
            if membership.joined:
                for answer in self._mailbox.answers():
                    self._send(answer)
            if self._closing or self._leaving.due(
                idle=self._mailbox.idle, joined=membership.joined
            ):
                self._send(Goodbye(reason=self._leaving.signal or "the worker ends"))
                self._end(None)
            if self._ended:
                return
            if membership.heartbeat_due(time.monotonic()):
                self._send(Heartbeat(job=self._mailbox.current))

    def _connect(self, context: zmq.Context[zmq.Socket[bytes]]) -> None:
        """Make a new connection and send Hello; ZeroMQ waits for a server by itself."""
        if self._socket is not None:
            self._handshake.close()
            self._socket.close(linger=0)
        self._socket = context.socket(zmq.DEALER)
        self._socket.setsockopt(zmq.LINGER, 0)
        self._socket.setsockopt(zmq.IPV6, int("[" in self._server))
        self._socket.setsockopt(zmq.RECONNECT_IVL, 100)
        self._socket.setsockopt(zmq.RECONNECT_IVL_MAX, 500)
        self._socket.copy_threshold = _NO_COPY
        if self._keys is not None:
            secure_client(self._socket, *self._keys)
        self._handshake.follow(self._socket)
        self._socket.connect(self._server)
        self._join()

    def _join(self) -> None:
        self._membership.said_hello(time.monotonic())
        self._send(msgspec.structs.replace(self._hello, job=self._mailbox.join()))

    def _reconnect(self, context: zmq.Context[zmq.Socket[bytes]]) -> None:
        if self._membership.joined:
            log.warning("server silent for %.1f s: joining again", self._membership.silence_s)
        self._connect(context)

    def _wait(self) -> None:
        timeout_s = self._membership.poll_s
        poller = zmq.Poller()
        poller.register(self._socket, zmq.POLLIN)
        poller.register(self._wake_ups.fileno(), zmq.POLLIN)
        poller.register(self._handshake.monitor, zmq.POLLIN)
        poller.poll(math.ceil(1e3 * timeout_s))
        self._membership.woke(time.monotonic(), timeout_s)
        self._handshake.check()
        if self._membership.server_missing and self._membership.dismissed:
            self._end(None)
        elif self._membership.server_missing:
            raise PeerGone(
                f"no server answered at {self._server} within {self._membership.wait_s:g} s. Is it "
                "running, and is this the address it printed? --wait-s sets how long to wait."
            )

    def _signalled(self, name: str) -> None:
        self._leaving.signalled(name, time.monotonic())
        self._mailbox.drain()
        if (job := self._mailbox.current) is not None and not self._leaving.at_once:
            log.info("%s: leaving after job %d; another signal ends it now", name, job)

    def _read(self) -> None:
        while not self._ended and self._socket is not None:
            try:
                parts = self._socket.recv_multipart(zmq.DONTWAIT, copy=False)
            except zmq.Again:
                return
            frames = [p.buffer if len(p) >= _NO_COPY else p.bytes for p in parts]
            try:
                message = self._decoder.decode(frames)
            except ProtocolError as error:
                raise ProtocolError(
                    f"the program at {self._server} is not a mixserver of this version: {error}"
                ) from error
            self._membership.received(time.monotonic())
            self._handle(message)

    def _handle(self, message: Message) -> None:
        membership = self._membership
        match message:
            case Welcome(heartbeat_s=heartbeat_s, patience_s=patience_s):
                membership.welcome(heartbeat_s, patience_s)
                log.info("%s joined %s", self._hello.name, self._server)
            case Refused(reason=reason):
                membership.lost(time.monotonic())
                self._end(ConfigError(clean(reason, SENTENCE)))
            case Unknown() if membership.joined:
                log.info("server does not know this worker: joining again")
                self._join()
            case Evaluate() if membership.joined and not self._leaving.signal:
                self._mailbox.deliver(message)
            case Goodbye(reason=reason):
                log.info("the server ended the connection: %s", clean(reason, SENTENCE))
                if self._stay_s and not self._leaving.signal:
                    log.info("waiting %g s for another server", self._stay_s)
                    membership.dismiss(time.monotonic(), self._stay_s)
                else:
                    membership.lost(time.monotonic())
                    self._end(None)

    def _send(self, message: Message) -> None:
        if self._socket is None:
            return
        self._membership.sent(time.monotonic())
        # a full queue means a dead connection; its silence leads to a new one
        with contextlib.suppress(zmq.Again):
            self._socket.send_multipart(encode(message), zmq.DONTWAIT, copy=False)

    def _end(self, error: MixserverError | None) -> None:
        if self._ended:
            return
        self._ended = True
        self.error = error
        self._mailbox.end()
        if self._on_end is not None and not self._closing:
            self._on_end()
