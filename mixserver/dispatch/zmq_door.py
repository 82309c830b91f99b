"""Where mixserver's own workers connect: a ZeroMQ ROUTER on the event loop.

Knows the worker protocol and which connection is which worker; not what any of them is asked or
why. A plain socket watched through its file descriptor: no futures, no copies of large arrays.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import structlog
import zmq

from mixserver.dispatch.events import Answered, Door, Event, Failed, Heard, Joined, Left
from mixserver.dispatch.policy import Policy
from mixserver.errors import ConfigError, ProtocolError
from mixserver.wire.worker import (
    VERSION,
    Evaluate,
    Failure,
    Frame,
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

log = structlog.get_logger(__name__)

_LARGEST: Final = 1 << 30
"""Bytes of one frame: 40 million atoms."""
_LARGE: Final = 1 << 16
"""Bytes from which a frame is worth not copying."""
_AT_ONCE: Final = 64
"""Messages taken in before anybody else has a turn on the event loop."""
_LINGER_MS: Final = 500
"""How long goodbyes may take to get out."""


@dataclass(slots=True)
class _Peer:
    """One connection whose worker said Hello."""

    identity: bytes
    host: str
    pid: int
    welcomed: bool = False


class ZmqDoor:
    """A door for mixserver's own workers.

    Args:
        address: "tcp://HOST:PORT" (port 0 picks a free one) or "ipc://PATH".
        policy: gives the heartbeat and the patience that workers are told.
    """

    def __init__(self, address: str, policy: Policy) -> None:
        self._wanted = address
        self._policy = policy
        self._bound = ""
        self._peers: dict[str, _Peer] = {}
        self._names: dict[bytes, str] = {}
        self._context: zmq.Context[zmq.Socket[bytes]] | None = None
        self._socket: zmq.Socket[bytes] | None = None
        self._reports: Callable[[Door, Event], None] | None = None
        self._beating: asyncio.TimerHandle | None = None
        self._again: asyncio.Handle | None = None

    @property
    def address(self) -> str:
        """Where workers should connect, once `open` has returned."""
        return self._bound or self._wanted

    async def open(self, report: Callable[[Door, Event], None]) -> None:
        """Bind, and report events from now on; see `Door.open`.

        Raises:
            ConfigError: the address is in use or no address.
        """
        loop = asyncio.get_running_loop()
        self._context = zmq.Context()
        self._socket = self._context.socket(zmq.ROUTER)
        self._socket.setsockopt(zmq.LINGER, 0)
        self._socket.setsockopt(zmq.ROUTER_MANDATORY, 1)
        self._socket.setsockopt(zmq.MAXMSGSIZE, _LARGEST)
        self._socket.setsockopt(zmq.IPV6, int("[" in self._wanted))
        self._socket.copy_threshold = _LARGE
        try:
            _refuse_stolen(self._wanted)
            self._socket.bind(self._wanted)
        except zmq.ZMQError as error:
            await self._shut(0)
            raise ConfigError(_why_not(self._wanted, error)) from error
        except ConfigError:
            await self._shut(0)
            raise
        self._bound = self._socket.getsockopt_string(zmq.LAST_ENDPOINT)
        self._reports = report
        loop.add_reader(int(self._socket.getsockopt(zmq.FD)), self._take_in)
        self._again = loop.call_soon(self._take_in)
        self._beat()

    def welcome(self, worker: str) -> None:
        """Tell a worker that it is in."""
        if (peer := self._peers.get(worker)) is not None:
            peer.welcomed = True
            self._say(
                worker,
                Welcome(heartbeat_s=self._policy.heartbeat_s, patience_s=self._policy.patience_s),
            )

    def send(self, worker: str, job: Evaluate) -> None:
        """Hand a job to a worker; a worker that is gone is reported as `Left`."""
        self._say(worker, job)

    def drop(self, worker: str, reason: str) -> None:
        """Tell a worker that it is not wanted (any more), and why; it ends."""
        peer = self._peers.pop(worker, None)
        if peer is not None:
            self._names.pop(peer.identity, None)
            self._put(peer.identity, Refused(reason=reason))

    async def close(self, reason: str) -> None:
        """Say goodbye to every worker and give the address back."""
        if self._socket is None:
            return
        asyncio.get_running_loop().remove_reader(int(self._socket.getsockopt(zmq.FD)))
        for peer in self._peers.values():
            self._put(peer.identity, Goodbye(reason=reason))
        for timer in (self._beating, self._again):
            if timer is not None:
                timer.cancel()
        self._beating = self._again = self._reports = None
        self._peers.clear()
        self._names.clear()
        await self._shut(_LINGER_MS)

    async def _shut(self, linger_ms: int) -> None:
        closing, self._socket = self._socket, None
        context, self._context = self._context, None
        if closing is not None and context is not None:
            closing.close(linger=linger_ms)
            await asyncio.to_thread(context.term)

    def _beat(self) -> None:
        """Tell every worker that the server lives; those whose connection is gone have left."""
        for worker in list(self._peers):
            if self._peers[worker].welcomed:
                self._say(worker, Heartbeat())
        every = min(0.5 * self._policy.heartbeat_s, 0.25)
        self._beating = asyncio.get_running_loop().call_later(every, self._beat)

    def _say(self, worker: str, message: Message) -> None:
        peer = self._peers.get(worker)
        if peer is None:
            self._report(Left(worker, "its connection is gone"))
        elif not self._put(peer.identity, message):
            self._forget(worker)
            self._report(Left(worker, "its connection is gone"))

    def _put(self, identity: bytes, message: Message) -> bool:
        """Send; False if the peer is gone. Never waits."""
        if self._socket is None:
            return False
        try:
            self._socket.send_multipart([identity, *encode(message)], zmq.DONTWAIT, copy=False)
        except zmq.ZMQError as error:
            if error.errno == errno.EHOSTUNREACH:
                return False
            if error.errno != errno.EAGAIN:
                raise
            # its queue is full: it does not read, and its silence will be noticed. Only what
            # cannot be said again later counts as a broken connection.
            return isinstance(message, Heartbeat | Unknown | Refused | Goodbye)
        finally:
            self._look_again()
        return True

    def _look_again(self) -> None:
        """A send may have swallowed the descriptor's edge: look for messages once more."""
        if self._again is None:
            self._again = asyncio.get_running_loop().call_soon(self._take_in)

    def _take_in(self) -> None:
        """Take in what has come. The descriptor signals edges, so read until nothing is left."""
        if self._again is not None:
            self._again.cancel()
            self._again = None
        for _ in range(_AT_ONCE):
            if self._socket is None:
                return
            try:
                identity, *rest = self._socket.recv_multipart(zmq.DONTWAIT, copy=False)
            except zmq.Again:
                return
            frames = [f.buffer if len(f) >= _LARGE else f.bytes for f in rest]
            self._hear(identity.bytes, frames)
        self._look_again()

    def _hear(self, identity: bytes, frames: Sequence[Frame]) -> None:
        worker = self._names.get(identity)
        try:
            message = decode(frames)
        except ProtocolError as error:
            self._breach(identity, worker, str(error))
            return
        match message:
            case Hello():
                self._meet(identity, message)
            case _ if worker is None or not self._peers[worker].welcomed:
                if not isinstance(message, Goodbye):
                    self._put(identity, Unknown())
            case Heartbeat():
                self._report(Heard(worker))
            case Result():
                self._report(Answered(worker, message))
            case Failure():
                self._report(Failed(worker, message.job, message.blame, message.message))
            case Goodbye():
                self._forget(worker)
                self._report(Left(worker, message.reason or "said goodbye", orderly=True))
            case _:
                self._breach(identity, worker, f"{type(message).__name__} is not for servers")

    def _meet(self, identity: bytes, hello: Hello) -> None:
        worker = hello.name
        if hello.protocol != VERSION:
            log.warning("worker turned away", worker=worker, protocol=hello.protocol, ours=VERSION)
            self._put(
                identity,
                Refused(
                    reason=f"worker {worker} speaks version {hello.protocol} of the worker "
                    f"protocol, this server version {VERSION}; install the same mixserver on both"
                ),
            )
            return
        known = self._names.get(identity)
        if known is not None and known != worker:
            self._breach(identity, known, f"changed its name to {worker}")
            return
        before = self._peers.get(worker)
        if before is not None and before.identity != identity:
            self._names.pop(before.identity, None)
            if (before.host, before.pid) != (hello.host, hello.pid):
                self._put(
                    before.identity,
                    Refused(
                        reason=f"another worker has joined under the name {worker}; give each "
                        "its own with --name"
                    ),
                )
        self._peers[worker] = _Peer(identity, hello.host, hello.pid)
        self._names[identity] = worker
        self._report(Joined(worker, hello.role, hello.model))

    def _breach(self, identity: bytes, worker: str | None, reason: str) -> None:
        """Somebody does not speak the protocol. What it says is told back to it, if it can hear."""
        log.warning("garbage at the workers' door", worker=worker, reason=reason)
        self._put(identity, Refused(reason=f"this is a mixserver; {reason}"))
        if worker is not None:
            self._forget(worker)
            self._report(Left(worker, f"broke the protocol: {reason}"))

    def _forget(self, worker: str) -> None:
        peer = self._peers.pop(worker, None)
        if peer is not None:
            self._names.pop(peer.identity, None)

    def _report(self, event: Event) -> None:
        if self._reports is not None:
            self._reports(self, event)


def _refuse_stolen(address: str) -> None:
    """ZeroMQ would take an ipc path from a server that still listens there.

    Raises:
        ConfigError: one does.
    """
    if not address.startswith("ipc://") or not Path(path := address[len("ipc://") :]).exists():
        return
    with socket.socket(socket.AF_UNIX) as probe, contextlib.suppress(OSError):
        probe.connect(path)
        raise ConfigError(_in_use(address))


def _in_use(address: str) -> str:
    return (
        f"workers.door = {address!r} is in use by another program. Stop it, or choose another "
        "address (tcp://127.0.0.1:0 picks a free port)."
    )


def _why_not(address: str, error: zmq.ZMQError) -> str:
    if error.errno == errno.EADDRINUSE:
        return _in_use(address)
    return (
        f"workers.door = {address!r} cannot be bound: {error.strerror}. Expected "
        "tcp://HOST:PORT with an address of this machine (or tcp://*:PORT for all), or ipc://PATH."
    )
