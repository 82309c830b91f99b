"""Where mixserver's own workers connect: a ZeroMQ ROUTER on the event loop.

Knows the worker protocol and which connection is which worker; not what any of them is asked or
why. A plain socket watched through its file descriptor: no futures, no copies of large arrays.
"""

from __future__ import annotations

import asyncio
import errno
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import structlog
import zmq

from mixserver.dispatch.admission import cleaned, misspoken
from mixserver.dispatch.events import Answered, Door, Event, Failed, Heard, Joined, Left
from mixserver.dispatch.policy import Policy
from mixserver.dispatch.telling import Hush
from mixserver.dispatch.zmq_address import SocketFile, refuse_stolen, why_not
from mixserver.errors import ConfigError, ProtocolError
from mixserver.wire.text import SENTENCE, clean
from mixserver.wire.worker import (
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

_PER_ATOM: Final = 24
"""Bytes of one atom in the largest array of a message."""
_SPARE: Final = 4 << 20
"""Bytes of a frame beyond the case's own atoms: checks and fits ask for cells of their own."""
_STRANGERS: Final = 1 << 14
"""Bytes of a header that is read of one that has not joined."""
_LARGE: Final = 1 << 16
"""Bytes from which a frame is worth not copying."""
_AT_ONCE: Final = 64
_AT_ONCE_S: Final = 0.005
"""Messages, and seconds, taken in before anything else has a turn on the event loop."""
_LINGER_MS: Final = 500
"""How long goodbyes may take to get out."""


@dataclass(slots=True)
class _Peer:
    """One connection whose worker was taken in, or would like to be."""

    identity: bytes
    process: str


class ZmqDoor:
    """A door for mixserver's own workers.

    Args:
        address: "tcp://HOST:PORT" (port 0 picks a free one) or "ipc://PATH".
        policy: gives the heartbeat and the patience that workers are told.
        atoms: of the case's structure: what no message about it can exceed is not even received.
        clock: seconds that never go backwards.
    """

    def __init__(
        self,
        address: str,
        policy: Policy,
        *,
        atoms: int = 0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._wanted = address
        self._policy = policy
        self._largest = _PER_ATOM * atoms + _SPARE
        self._clock = clock
        self._hush = Hush(clock)
        self._newcomer: tuple[str, _Peer] | None = None
        """Who said Hello just now, while it is considered."""
        self._bound = ""
        self._file = SocketFile.of("")
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
        self._socket.setsockopt(zmq.MAXMSGSIZE, self._largest)
        self._socket.setsockopt(zmq.IPV6, int("[" in self._wanted))
        self._socket.copy_threshold = _LARGE
        try:
            refuse_stolen(self._wanted)
            self._socket.bind(self._wanted)
        except zmq.ZMQError as error:
            await self._shut(0)
            raise ConfigError(why_not(self._wanted, error)) from error
        except ConfigError:
            await self._shut(0)
            raise
        self._bound = self._socket.getsockopt_string(zmq.LAST_ENDPOINT)
        self._file = SocketFile.of(self._bound)
        self._reports = report
        loop.add_reader(int(self._socket.getsockopt(zmq.FD)), self._take_in)
        self._again = loop.call_soon(self._take_in)
        self._beat()

    def welcome(self, worker: str) -> None:
        """Tell a worker that it is in; a worker that had its name until now has to end."""
        if (newcomer := self._taken_up(worker)) is not None:
            before = self._peers.get(worker)
            if before is not None and before.identity != newcomer.identity:
                self._names.pop(before.identity, None)
                if before.process != newcomer.process:
                    self._put(
                        before.identity,
                        Refused(
                            reason=f"another worker has joined under the name {worker}, while this "
                            "one was silent; give each its own with --name"
                        ),
                    )
            self._peers[worker] = newcomer
            self._names[newcomer.identity] = worker
        if worker in self._peers:
            self._say(
                worker,
                Welcome(heartbeat_s=self._policy.heartbeat_s, patience_s=self._policy.patience_s),
            )

    def send(self, worker: str, job: Evaluate) -> None:
        """Hand a job to a worker; a worker that is gone is reported as `Left`."""
        if job.positions.nbytes > self._largest:
            why = (
                f"it has {len(job.positions)} atoms, but the answer of more than "
                f"{self._largest // _PER_ATOM} would not be received here"
            )
            self._report(Failed(worker, job.job, "input", why))
        else:
            self._say(worker, job)

    def drop(self, worker: str, reason: str) -> None:
        """Tell a worker that it is not wanted (any more), and why; it ends."""
        newcomer, peer = self._taken_up(worker), self._peers.get(worker)
        if newcomer is not None:
            self._put(newcomer.identity, Refused(reason=reason))
        if peer is not None and (newcomer is None or newcomer.process == peer.process):
            self._forget(worker)
            if newcomer is None:
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
            self._file.remove()

    def _beat(self) -> None:
        """Tell every worker that the server lives; those whose connection is gone have left."""
        # first of all: whatever goes wrong below, the heart goes on beating
        every = min(0.5 * self._policy.heartbeat_s, 0.25)
        self._beating = asyncio.get_running_loop().call_later(every, self._beat)
        for worker, peer in list(self._peers.items()):
            if self._peers.get(worker) is peer:  # one that has left may take others with it
                self._say(worker, Heartbeat())

    def _say(self, worker: str, message: Message) -> None:
        peer = self._peers.get(worker)
        if peer is None or not self._put(peer.identity, message):
            self._forget(worker)
            unsent = isinstance(message, Evaluate)
            self._report(Left(worker, "its connection is gone", unsent=unsent))

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
        until = self._clock() + _AT_ONCE_S
        for _ in range(_AT_ONCE):
            if self._socket is None:
                return
            try:
                identity, *rest = self._socket.recv_multipart(zmq.DONTWAIT, copy=False)
            except zmq.Again:
                return
            frames = [f.buffer if len(f) >= _LARGE else f.bytes for f in rest]
            self._hear(identity.bytes, frames)
            if self._clock() >= until:
                break
        self._look_again()

    def _hear(self, identity: bytes, frames: Sequence[Frame]) -> None:
        worker = self._names.get(identity)
        try:
            if worker is None and frames and len(frames[0]) > _STRANGERS:
                raise ProtocolError(
                    f"before it has joined, a worker sends at most {_STRANGERS} bytes, got "
                    f"{len(frames[0])}"
                )
            message = decode(frames)
        except ProtocolError as error:
            self._breach(identity, worker, str(error))
            return
        match message:
            case Hello():
                self._meet(identity, message)
            case _ if worker is None:
                if not isinstance(message, Goodbye):
                    self._put(identity, Unknown())
            case Heartbeat():
                self._report(Heard(worker))
            case Result():
                self._report(Answered(worker, message))
            case Failure():
                said = clean(message.message, SENTENCE)
                self._report(Failed(worker, message.job, message.blame, said))
            case Goodbye():
                self._forget(worker)
                reason = clean(message.reason, SENTENCE) or "said goodbye"
                self._report(Left(worker, reason, orderly=True))
            case _:
                self._breach(identity, worker, f"{type(message).__name__} is not for servers")

    def _meet(self, identity: bytes, hello: Hello) -> None:
        """Consider one that wants to join; one that has its name keeps it until then."""
        worker = hello.name
        if wrong := misspoken(hello):
            self._refuse(identity, wrong)
            return
        known = self._names.get(identity)
        if known is not None and known != worker:
            self._breach(identity, known, f"changed its name to {worker}")
            return
        if not self._put(identity, Heartbeat()):
            return  # it has hung up since, and joined again by a newer connection
        process = f"{clean(hello.host)}:{hello.pid}" if hello.host or hello.pid else ""
        owner = self._peers.get(worker)
        if owner is not None and owner.process != process:
            self._say(worker, Heartbeat())  # notices if its connection is gone
        self._newcomer = worker, _Peer(identity, process)
        self._report(Joined(worker, hello.role, cleaned(hello.model), process, hello.job))
        self._newcomer = None

    def _taken_up(self, worker: str) -> _Peer | None:
        """The connection of one that is being considered under a name; it is no longer."""
        if self._newcomer is None or self._newcomer[0] != worker:
            return None
        peer, self._newcomer = self._newcomer[1], None
        return peer

    def _breach(self, identity: bytes, worker: str | None, reason: str) -> None:
        """A peer does not speak the protocol. It gets its own words back, if it can hear."""
        self._refuse(identity, f"this is a mixserver; {reason}", worker=worker)
        if worker is not None:
            self._forget(worker)
            self._report(Left(worker, f"broke the protocol: {reason}"))

    def _refuse(self, identity: bytes, reason: str, **more: Any) -> None:
        """Turn a peer away before it is considered; one that keeps coming is answered slowly."""
        held = self._hush(identity)
        if held is not None:
            if held:
                more["more_like_it"] = held
            log.warning("refused at the workers' door", reason=reason, **more)
            self._put(identity, Refused(reason=reason))

    def _forget(self, worker: str) -> None:
        peer = self._peers.pop(worker, None)
        if peer is not None:
            self._names.pop(peer.identity, None)

    def _report(self, event: Event) -> None:
        if self._reports is not None:
            self._reports(self, event)
