"""The listener for mixserver's own workers: the server side of the worker protocol.

Knows which connection is which worker; not which jobs they get, or why.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import Any, Final

import structlog

from mixserver.core.errors import ProtocolError
from mixserver.dispatch.event_log import LogThrottle
from mixserver.dispatch.policy import Policy
from mixserver.dispatch.scheduling.admission import invalid_hello, other_key_error, printable_card
from mixserver.dispatch.scheduling.events import (
    FailureReceived,
    Listener,
    ResultReceived,
    WorkerAlive,
    WorkerEvent,
    WorkerJoined,
    WorkerLeft,
)
from mixserver.dispatch.zmq_workers.lock import ZmqLock
from mixserver.dispatch.zmq_workers.peers import Peer, Peers
from mixserver.dispatch.zmq_workers.router import ZmqRouter
from mixserver.wire import Bytes
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

log = structlog.get_logger(__name__)

_PER_ATOM: Final = 24
"""Bytes of one atom in the largest array of a message."""
_SPARE: Final = 4 << 20
"""Bytes of a frame beyond the case's own atoms: checks and fits evaluate cells of their own."""
_MAX_HELLO: Final = 1 << 14
"""Bytes of a header that is read from a peer that has not joined."""
_LINGER_MS: Final = 500
"""How long goodbyes may take to get out."""
_REVOKED: Final = "its key was revoked (mixserver keys list shows the keys)"
_LIST_S: Final = 1.0
"""Seconds between two looks at the list of keys."""


class ZmqListener:
    """Accepts mixserver's own workers.

    Args:
        address: "tcp://HOST:PORT" (port 0 picks a free one) or "ipc://PATH".
        policy: the heartbeat and the patience, which are sent to workers.
        atoms: of the case's structure; frames larger than any message about it are not received.
        lock: lets in only workers whose keys are on its list; None lets everybody in.
        clock: seconds that never go backwards.
    """

    def __init__(
        self,
        address: str,
        policy: Policy,
        *,
        atoms: int = 0,
        lock: ZmqLock | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._policy = policy
        self._max_frame = _PER_ATOM * atoms + _SPARE
        self._lock = lock
        self._router = ZmqRouter(
            address,
            max_frame=self._max_frame,
            max_message=2 * self._max_frame,  # forces, and two numbers per atom
            handle=self._receive,
            lock=lock,
            clock=clock,
        )
        self._throttle = LogThrottle(clock)
        self._peers = Peers()
        self._decoder = Decoder()
        self._report_to: Callable[[Listener, WorkerEvent], None] | None = None
        self._heartbeat: asyncio.TimerHandle | None = None

    @property
    def address(self) -> str:
        """Address to which workers connect, once `open` has returned."""
        return self._router.address

    async def open(self, report: Callable[[Listener, WorkerEvent], None]) -> None:
        """Bind the address, and report events from now on; see `Listener.open`.

        Raises:
            ConfigError: the address is malformed or in use.
        """
        await self._router.open()
        self._report_to = report
        self._send_heartbeats()

    def welcome(self, worker: str) -> None:
        """Tell a worker that it is accepted; a worker that had its name until now must end."""
        if (newcomer := self._peers.take_newcomer(worker)) is not None:
            before = self._peers.add(worker, newcomer)
            if before is not None and before.identity != newcomer.identity:
                self._router.end(before.identity)
            if before is not None and before.process != newcomer.process:
                reason = (
                    f"another worker has joined under the name {worker}, while this one was "
                    "silent; give each its own with --name"
                )
                self._put(before.identity, Refused(reason=reason))
        if (peer := self._peers.get(worker)) is not None:
            self._router.welcome(peer.identity)
            policy = self._policy
            self._send(
                worker, Welcome(heartbeat_s=policy.heartbeat_s, patience_s=policy.patience_s)
            )

    def send(self, worker: str, job: Evaluate) -> None:
        """Send a job to a worker; a worker that is gone is reported as `WorkerLeft`."""
        if job.positions.nbytes > self._max_frame:
            reason = (
                f"it has {len(job.positions)} atoms, but results of more than "
                f"{self._max_frame // _PER_ATOM} would not be received here"
            )
            self._report(FailureReceived(worker, job.job, "input", reason))
        else:
            self._send(worker, job)

    def drop(self, worker: str, reason: str) -> None:
        """Disconnect a worker, with the reason; it ends."""
        newcomer, peer = self._peers.take_newcomer(worker), self._peers.get(worker)
        if newcomer is not None:
            self._put(newcomer.identity, Refused(reason=reason))
        if peer is not None and (newcomer is None or newcomer.process == peer.process):
            self._peers.remove(worker)
            if newcomer is None:
                self._put(peer.identity, Refused(reason=reason))
            self._router.end(peer.identity)

    async def close(self, reason: str) -> None:
        """Say goodbye to every worker and release the address."""
        for _, peer in self._peers:
            self._put(peer.identity, Goodbye(reason=reason))
        if self._heartbeat is not None:
            self._heartbeat.cancel()
            self._heartbeat = None
        self._report_to = None
        self._peers.clear()
        await self._router.close(_LINGER_MS)

    def _send_heartbeats(self) -> None:
        """Show every worker that the server is alive; those whose connection is gone have left."""
        # rescheduled first: whatever fails below, the heartbeats go on
        every = min(0.5 * self._policy.heartbeat_s, 0.25)
        loop = asyncio.get_running_loop()
        self._heartbeat = loop.call_later(every, self._send_heartbeats)
        for worker, peer in self._peers:
            if self._peers.get(worker) is peer:  # one that has left may take others with it
                self._send(worker, Heartbeat())
        self._end_revoked()

    def _end_revoked(self) -> None:
        """Disconnect workers whose keys are not on the list any more."""
        if self._lock is None or not self._lock.refresh(_LIST_S):
            return
        for worker, peer in self._peers:
            if self._lock.name(peer.user) is None:
                self._throttle(peer.user)  # its next messages need no line of their own
                self.drop(worker, _REVOKED)
                self._report(WorkerLeft(worker, _REVOKED, orderly=True))

    def _send(self, worker: str, message: Message) -> None:
        peer = self._peers.get(worker)
        if peer is None or not self._put(peer.identity, message):
            self._peers.remove(worker)
            unsent = isinstance(message, Evaluate)
            self._report(WorkerLeft(worker, "its connection is gone", unsent=unsent))

    def _put(self, identity: bytes, message: Message) -> bool:
        # only a message that cannot be sent again later counts as a broken connection
        repeatable = isinstance(message, Heartbeat | Unknown | Refused | Goodbye)
        return self._router.send(identity, encode(message), may_be_lost=repeatable)

    def _receive(self, identity: bytes, user: str, frames: Sequence[Bytes]) -> None:
        worker = self._peers.name(identity)
        peer = None if worker is None else self._peers.get(worker)
        if self._lock is not None and (peer is None or peer.user != user):
            if worker is not None:  # an identity is no proof; a key is
                self._peers.remove(worker)
                self._report(WorkerLeft(worker, "its connection is gone"))
                worker = None
            if self._lock.name(user) is None:
                self._put(identity, Refused(reason=_REVOKED))
                self._router.end(identity)
                if self._throttle(user) is not None:
                    log.warning("peer refused", reason=_REVOKED)
                return
        try:
            if worker is None and frames and len(frames[0]) > _MAX_HELLO:
                raise ProtocolError(
                    f"before it has joined, a worker sends at most {_MAX_HELLO} bytes, got "
                    f"{len(frames[0])}"
                )
            message = self._decoder.decode(frames)
        except ProtocolError as error:
            self._break_off(identity, worker, str(error))
            return
        match message:
            case Hello():
                self._consider(identity, user, message)
            case _ if worker is None:
                if not isinstance(message, Goodbye):
                    self._put(identity, Unknown())
            case Heartbeat():
                self._report(WorkerAlive(worker))
            case Result():
                self._report(ResultReceived(worker, message))
            case Failure():
                reason = clean(message.message, SENTENCE)
                self._report(FailureReceived(worker, message.job, message.blame, reason))
            case Goodbye():
                self._peers.remove(worker)
                reason = clean(message.reason, SENTENCE) or "said goodbye"
                self._report(WorkerLeft(worker, reason, orderly=True))
            case _:
                kind = type(message).__name__
                self._break_off(identity, worker, f"{kind} is not a message for servers")

    def _consider(self, identity: bytes, user: str, hello: Hello) -> None:
        """Report a worker that asks to join; the owner of its name keeps it meanwhile."""
        worker = hello.name
        if error := invalid_hello(hello) or self._key_error(hello, user):
            self._refuse(identity, error)
            return
        known = self._peers.name(identity)
        if known is not None and known != worker:
            self._break_off(identity, known, f"changed its name to {worker}")
            return
        if not self._put(identity, Heartbeat()):
            return  # it has disconnected since, and joined again by a newer connection
        process = ""
        if hello.host or hello.pid:
            process = f"{clean(hello.host)}:{hello.pid}@{hello.started:.3f}"
        owner = self._peers.get(worker)
        if owner is not None and owner.process != process:
            self._send(worker, Heartbeat())  # notices if its connection is gone
        self._peers.consider(worker, Peer(identity, process, user))
        card = printable_card(hello.model)
        self._report(WorkerJoined(worker, hello.role, card, process, hello.job))
        self._peers.end_consideration()

    def _key_error(self, hello: Hello, user: str) -> str:
        """Why a key cannot have a worker of this name or role; "" if it can."""
        if self._lock is None:
            return ""
        worker, key = hello.name, self._lock.name(user)
        if error := self._lock.role_error(hello, user):
            return error
        reserved = self._lock.reserved_for(worker)
        if reserved is not None and reserved != key:
            return other_key_error(worker, f"is reserved for the key {reserved}", key)
        owner = self._peers.get(worker)
        if owner is not None and owner.user != user:
            self._send(worker, Heartbeat())  # notices if its connection is gone
            owner = self._peers.get(worker)
        if owner is not None and owner.user != user:
            theirs = self._lock.name(owner.user) or "another one"
            return other_key_error(worker, f"belongs to a worker with the key {theirs}", key)
        return ""

    def _break_off(self, identity: bytes, worker: str | None, reason: str) -> None:
        """A peer broke the protocol: tell it, and forget it."""
        self._refuse(identity, f"this is a mixserver; {reason}", worker=worker)
        if worker is not None:
            self._peers.remove(worker)
            self._report(WorkerLeft(worker, f"broke the protocol: {reason}"))

    def _refuse(self, identity: bytes, reason: str, **more: Any) -> None:
        """Refuse a peer before it is considered; one that keeps coming is answered slowly."""
        suppressed = self._throttle(identity)
        if suppressed is not None:
            if suppressed:
                more["suppressed"] = suppressed
            log.warning("peer refused", reason=reason, **more)
            self._put(identity, Refused(reason=reason))
        self._router.end(identity)

    def _report(self, event: WorkerEvent) -> None:
        if self._report_to is not None:
            self._report_to(self, event)
