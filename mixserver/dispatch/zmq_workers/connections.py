"""The TCP connections of a listening ZeroMQ socket: how much each has sent, and how to end one.

libzmq keeps the parts of a message until its last one has come, limits the size of a part but not
their number, and has no way to disconnect a peer. So the connections themselves are watched: the
socket's monitor tells their file descriptors, the kernel counts the bytes that each has received
(TCP_INFO), and a connection is shut down that has sent more than a message may have without
completing one. Linux only; elsewhere, and for ipc, nothing is counted.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import socket
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import zmq

from mixserver.dispatch.zmq_workers.loopback_user import loopback_user

HELLO_BYTES: Final = 1 << 16
"""What a connection may send before its worker is welcomed: a Hello, heartbeats, encryption."""
SILENT_S: Final = 30.0
"""How long a connection may stay without a welcomed worker."""
HANDSHAKE_MS: Final = 10_000
"""How long the handshake of ZMTP may take, encryption included."""

MOST_UNKNOWN: Final = 256
"""Connections without a welcomed worker; the oldest of more are ended."""
MOST_VISITORS: Final = 64
"""The same at an address where no worker joins: that of the status."""

_TCP_INFO: Final = getattr(socket, "TCP_INFO", None)
_BYTES_RECEIVED: Final = struct.Struct("=Q")
_AT: Final = 128
"""Where struct tcp_info has tcpi_bytes_received."""
_EVENTS: Final = (
    zmq.EVENT_ACCEPTED
    | zmq.EVENT_DISCONNECTED
    | zmq.EVENT_CLOSED
    | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL
    | zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL
)
_OTHERS: Final = (
    "without keys only your own programs may connect here; see mixserver keys new --help"
)
_EVENT: Final = struct.Struct("=Hi")
"""First frame of a monitor's message: the event, and its descriptor or reason."""
_FAILED: Final = (zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL, zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL)


@dataclass(slots=True)
class Connection:
    """One connection, by its descriptor, which belongs to libzmq."""

    fd: int
    inode: int
    """Of the socket: a descriptor is used again, an inode is not while it is known here."""
    since: float
    peer: str
    """Address of the other end."""
    identity: bytes = b""
    """Of its messages; empty until the first one."""
    welcomed: bool = False
    heard: bool = False
    """Whether a message has been completed since its bytes were last counted."""
    counted: int = 0
    """Bytes it had sent when a message was last seen to be complete."""


class Connections:
    """Follows the connections of one socket.

    Args:
        most: bytes that a whole message may have.
        must_join: whether connections are bounded more tightly until they are welcomed.
        own_user: whether peers on this machine must belong to this user, or be root.
        on_new: called when a connection has come, which wants to be looked at closely.
        on_end: called with the peer's address and the reason when a connection is ended here.
        on_failed: called when a handshake has failed, with the peer's address ("" if it is not
            known), and whether the peer broke the protocol (else it just went away).
        clock: seconds that never go backwards.
    """

    def __init__(
        self,
        most: int,
        *,
        must_join: bool,
        own_user: bool,
        on_new: Callable[[], None],
        on_end: Callable[[str, str], None],
        on_failed: Callable[[str, bool], None],
        clock: Callable[[], float],
    ) -> None:
        self._most = most
        self._must_join = must_join
        self._own_user = own_user
        self._tcp = False
        self._on_new = on_new
        self._on_end = on_end
        self._on_failed = on_failed
        self._clock = clock
        self._by_fd: dict[int, Connection] = {}
        self._by_identity: dict[bytes, Connection] = {}
        self._socket: zmq.Socket[Any] | None = None
        self._monitor: zmq.Socket[Any] | None = None
        self._failed = 0

    def follow(self, listening: zmq.Socket[Any], *, tcp: bool) -> zmq.Socket[Any]:
        """Follow a socket that is not bound yet; returns its monitor, which must be polled."""
        self._socket = listening
        self._tcp = tcp
        self._monitor = listening.get_monitor_socket(_EVENTS)
        return self._monitor

    def close(self) -> None:
        """Follow it no longer; call it before the socket is closed."""
        if self._socket is not None and self._monitor is not None:
            self._socket.disable_monitor()
            self._monitor.close(linger=0)
        self._socket = self._monitor = None
        self._by_fd.clear()
        self._by_identity.clear()

    def heard(self, fd: int, identity: bytes) -> bool:
        """A message of a connection is complete. Called for each, so it is quick.

        Returns:
            False if the connection was refused, so that its message must not be used.
        """
        if not self._tcp:
            return True  # none is followed
        connection = self._by_fd.get(fd)
        if connection is None or connection.identity != identity:
            connection = self._met(fd, identity)
        if connection is None:
            return False
        connection.heard = True
        return True

    def welcome(self, identity: bytes) -> None:
        """The worker of a connection may send whole results from now on."""
        if (connection := self._by_identity.get(identity)) is not None:
            connection.welcomed = True

    def unwelcome(self, identity: bytes) -> None:
        """The worker of a connection is dropped."""
        if (connection := self._by_identity.get(identity)) is not None:
            connection.welcomed = False

    def end(self, identity: bytes) -> None:
        """Shut a peer's connection down, unless its worker was welcomed meanwhile."""
        connection = self._by_identity.get(identity)
        if connection is not None and not connection.welcomed:
            self._shut(connection)

    def read_events(self) -> None:
        """Read what the monitor has to tell."""
        while self._monitor is not None:
            try:
                frames = self._monitor.recv_multipart(zmq.DONTWAIT)
            except zmq.Again:
                return
            kind, value = _EVENT.unpack(frames[0])
            if kind == zmq.EVENT_ACCEPTED:
                self._accepted(value)
            elif kind in _FAILED:  # of the connection that is closed next
                self._failed = kind
            elif kind in {zmq.EVENT_DISCONNECTED, zmq.EVENT_CLOSED}:
                peer = self._forget(value)
                failed, self._failed = self._failed, 0
                if failed:
                    self._on_failed(peer, failed == zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL)

    def look(self) -> bool:
        """End connections that send too much; returns whether to look again soon."""
        self.read_events()
        now, waiting = self._clock(), False
        for connection in list(self._by_fd.values()):
            total = _received(connection)
            if total is None:
                continue
            if connection.heard:
                connection.heard, connection.counted = False, total
            if reason := self._excess(connection, total, now):
                self._shut(connection)
                self._on_end(connection.peer, reason)
            waiting |= not (connection.welcomed and self._must_join)
        return waiting

    def _excess(self, connection: Connection, total: int, now: float) -> str:
        """Why a connection must be ended, or ""."""
        unfinished = total - connection.counted
        most = self._most if connection.welcomed else HELLO_BYTES
        if unfinished > most:
            return f"it sent {unfinished} bytes of one message, which has at most {most}"
        if connection.welcomed:
            return ""
        if total > HELLO_BYTES + self._most:
            return f"it sent {total} bytes, but no Hello that was accepted"
        if now - connection.since > SILENT_S:
            return f"no worker of it was welcomed within {SILENT_S:g} s"
        return ""

    def _accepted(self, fd: int) -> None:
        self._forget(fd)
        try:
            with socket.socket(fileno=os.dup(fd)) as own:
                inode, peer = os.fstat(own.fileno()).st_ino, own.getpeername()
                if not isinstance(peer, tuple):
                    return
                text = f"{peer[0]}:{peer[1]}"
                user = loopback_user(own) if self._own_user else None
                if user is not None and user not in {os.getuid(), 0}:
                    _reset(own)
                    if user >= 0:  # else it has gone by itself
                        self._on_end(text, f"it is of user {user} of this machine, and {_OTHERS}")
                    return
        except OSError:  # it has gone already
            return
        self._by_fd[fd] = Connection(fd, inode, self._clock(), text, welcomed=not self._must_join)
        self._make_room()
        self._on_new()

    def _make_room(self) -> None:
        """End the oldest of too many connections without a worker: descriptors are few."""
        most = MOST_UNKNOWN if self._must_join else MOST_VISITORS
        unknown = [one for one in self._by_fd.values() if not (self._must_join and one.welcomed)]
        for connection in unknown[: max(0, len(unknown) - most)]:
            self._shut(connection)
            self._forget(connection.fd)
            self._on_end(connection.peer, f"more than {most} without a worker")

    def _met(self, fd: int, identity: bytes) -> Connection | None:
        """The connection of a first message; None if it is not followed (ipc)."""
        self.read_events()
        connection = self._by_fd.get(fd)
        if connection is not None:
            if connection.identity:
                self._by_identity.pop(connection.identity, None)
            connection.identity = identity
            self._by_identity[identity] = connection
        return connection

    def _forget(self, fd: int) -> str:
        """The peer of a connection that is no more; "" if it was not followed."""
        connection = self._by_fd.pop(fd, None)
        if connection is None:
            return ""
        if self._by_identity.get(connection.identity) is connection:
            del self._by_identity[connection.identity]
        return connection.peer

    def _shut(self, connection: Connection) -> None:
        """Reset the connection; libzmq then forgets it with all that it has kept of it."""
        own = _duplicate(connection)
        if own is not None:
            with own:
                _reset(own)


def _reset(own: socket.socket) -> None:
    """Drop a connection at once, with what the kernel still holds of it.

    An orderly shutdown would let a peer that never pauses be read on: its end comes only after
    everything received before. Linux resets a socket that is connected to no address.
    """
    nowhere = struct.pack("=H14x", socket.AF_UNSPEC)
    if ctypes.CDLL(None).connect(own.fileno(), nowhere, len(nowhere)) != 0:
        with contextlib.suppress(OSError):  # the peer was faster
            own.shutdown(socket.SHUT_RDWR)


def _duplicate(connection: Connection) -> socket.socket | None:
    """The connection's socket under a descriptor of our own; None if it has gone."""
    try:
        own = socket.socket(fileno=os.dup(connection.fd))
    except OSError:
        return None
    if os.fstat(own.fileno()).st_ino == connection.inode:
        return own
    own.close()
    return None


def _received(connection: Connection) -> int | None:
    """Bytes that the kernel has received for a connection; None if it is gone or unknown."""
    if _TCP_INFO is None:
        return None
    own = _duplicate(connection)
    if own is None:
        return None
    with own:
        try:
            info = own.getsockopt(socket.IPPROTO_TCP, _TCP_INFO, _AT + _BYTES_RECEIVED.size)
        except OSError:
            return None
    if len(info) < _AT + _BYTES_RECEIVED.size:
        return None
    (count,) = _BYTES_RECEIVED.unpack_from(info, _AT)
    return int(count)
