"""A ZeroMQ ROUTER socket on the event loop, watched through its file descriptor.

No futures, no copies of large arrays, no thread. Knows nothing of what its messages mean.
"""

from __future__ import annotations

import asyncio
import errno
import os
import time
from collections.abc import Callable, Sequence
from typing import Final

import structlog
import zmq

from mixserver.core.errors import ConfigError
from mixserver.dispatch.event_log import LogThrottle
from mixserver.dispatch.zmq_workers.address import DOOR, SocketFile, bind_error, check_socket_path
from mixserver.dispatch.zmq_workers.connections import HANDSHAKE_MS, Connections
from mixserver.dispatch.zmq_workers.lock import ZmqLock
from mixserver.wire import Bytes

_NO_COPY: Final = 1 << 16
"""Bytes from which a frame is not copied."""
_BURST: Final = 64
_BURST_S: Final = 0.005
"""Messages, and seconds, that are read before other work has a turn on the event loop."""
_UNREAD: Final = 64
"""Messages of one peer that wait to be read; more wait on its side."""
_LOOK_S: Final = 0.25
_LOOK_CLOSELY_S: Final = 0.02
"""Seconds between two looks at what connections have sent; the second while any is not welcomed."""
_LOOK_SHARE: Final = 0.05
"""Of the time, that looks may take."""
# Plain numbers: pyzmq's multipart calls compute with enumerations for each frame, and a try that
# finds nothing raises an exception; together 50 us a message.
_NO_WAIT: Final = int(zmq.DONTWAIT)
_NO_WAIT_MORE: Final = int(zmq.DONTWAIT) | int(zmq.SNDMORE)
_READABLE: Final = int(zmq.POLLIN)

log = structlog.get_logger(__name__)


class ZmqRouter:
    """Binds an address and exchanges multipart messages with any number of peers.

    Args:
        address: "tcp://HOST:PORT" (port 0 picks a free one) or "ipc://PATH".
        max_frame: bytes; a peer that sends a larger frame is disconnected by ZeroMQ.
        max_message: bytes of all frames of a message; a TCP peer that sends more is disconnected.
            0 for that of one frame.
        must_join: whether peers are bounded more tightly until `welcome`, and ended if that does
            not come.
        handle: called with the identity of a peer, the key that let it in (without a lock ""), and
            the frames of its message.
        lock: lets in only keys of its list; None lets everybody in.
        clock: seconds that never go backwards.
        setting: the key of mix.toml that the address comes from, for messages.
    """

    def __init__(
        self,
        address: str,
        *,
        max_frame: int,
        max_message: int = 0,
        handle: Callable[[bytes, str, Sequence[Bytes]], None],
        lock: ZmqLock | None = None,
        must_join: bool = True,
        clock: Callable[[], float],
        setting: str = DOOR,
    ) -> None:
        self.address = address
        """Where peers connect; the bound address once `open` has returned."""
        self._max_frame = max_frame
        self._handle = handle
        self._clock = clock
        self._setting = setting
        self._file = SocketFile.of("")
        self._context: zmq.Context[zmq.Socket[bytes]] | None = None
        self._socket: zmq.Socket[bytes] | None = None
        self._scheduled: asyncio.Handle | None = None
        self._lock = lock
        self._connections = Connections(
            max_message or max_frame,
            must_join=must_join,
            own_user=must_join and lock is None,
            on_new=self._look_closely,
            on_end=self._log_end,
            on_failed=self._log_failed,
            clock=clock,
        )
        self._look_timer: asyncio.TimerHandle | None = None
        self._ends = LogThrottle(clock, interval_s=60.0)
        self._handshakes = LogThrottle(clock, interval_s=60.0)

    async def open(self) -> None:
        """Bind the address, and handle messages from now on.

        Raises:
            ConfigError: the address is malformed or in use.
        """
        loop = asyncio.get_running_loop()
        self._context = zmq.Context()
        self._socket = self._context.socket(zmq.ROUTER)
        self._socket.setsockopt(zmq.LINGER, 0)
        self._socket.setsockopt(zmq.ROUTER_MANDATORY, 1)
        self._socket.setsockopt(zmq.MAXMSGSIZE, self._max_frame)
        self._socket.setsockopt(zmq.IPV6, int("[" in self.address))
        self._socket.setsockopt(zmq.RCVHWM, _UNREAD)
        self._socket.setsockopt(zmq.HANDSHAKE_IVL, HANDSHAKE_MS)
        for user in (os.getuid(), 0):  # of a private socket, whatever the mode of its file
            self._socket.setsockopt(zmq.IPC_FILTER_UID, user)
        self._socket.copy_threshold = _NO_COPY
        monitor = self._connections.follow(self._socket, tcp=self.address.startswith("tcp://"))
        try:
            check_socket_path(self.address, self._setting)
            if self._lock is not None:
                self._lock.secure(self._socket)
                self._lock.open(self._context)
            self._socket.bind(self.address)
        except zmq.ZMQError as error:
            await self._release(0)
            raise ConfigError(bind_error(self.address, error, self._setting)) from error
        except ConfigError:
            await self._release(0)
            raise
        self.address = self._socket.getsockopt_string(zmq.LAST_ENDPOINT)
        self._file = SocketFile.of(self.address)
        self._monitor_fd = int(monitor.getsockopt(zmq.FD))
        loop.add_reader(self._monitor_fd, self._connections.read_events)
        loop.add_reader(int(self._socket.getsockopt(zmq.FD)), self._read)
        self._scheduled = loop.call_soon(self._read)
        self._look()

    async def close(self, linger_ms: int) -> None:
        """Release the address; messages on their way have so long to get out."""
        if self._socket is None:
            return
        loop = asyncio.get_running_loop()
        loop.remove_reader(int(self._socket.getsockopt(zmq.FD)))
        loop.remove_reader(self._monitor_fd)
        if self._scheduled is not None:
            self._scheduled.cancel()
            self._scheduled = None
        if self._look_timer is not None:
            self._look_timer.cancel()
            self._look_timer = None
        await self._release(linger_ms)

    async def _release(self, linger_ms: int) -> None:
        closing, self._socket = self._socket, None
        context, self._context = self._context, None
        self._connections.close()
        if self._lock is not None:
            self._lock.close()
        if closing is not None and context is not None:
            closing.close(linger=linger_ms)
            await asyncio.to_thread(context.term)
            self._file.remove()

    def send(self, identity: bytes, frames: Sequence[Bytes], *, may_be_lost: bool) -> bool:
        """Send a message without waiting; False if the peer is gone.

        Args:
            identity: the peer.
            frames: the message.
            may_be_lost: if the peer's queue is full: True drops the message (the peer does not
                read, and its silence will be noticed); False counts as a broken connection.
        """
        if self._socket is None:
            return False
        send = self._socket.send
        try:
            send(identity, _NO_WAIT_MORE)
            for frame in frames[:-1]:
                send(frame, _NO_WAIT_MORE, copy=False)
            send(frames[-1], _NO_WAIT, copy=False)
        except zmq.ZMQError as error:
            if error.errno == errno.EHOSTUNREACH:
                return False
            if error.errno != errno.EAGAIN:
                raise
            return may_be_lost
        finally:
            self._schedule_read()
        return True

    def welcome(self, identity: bytes) -> None:
        """A peer may send whole results from now on."""
        self._connections.welcome(identity)

    def end(self, identity: bytes) -> None:
        """End a peer's connection, once what was sent to it is on its way.

        Unless its worker is welcomed again until then.
        """
        self._connections.unwelcome(identity)
        asyncio.get_running_loop().call_later(_LOOK_S, self._connections.end, identity)

    def _look(self) -> None:
        """Look at what connections have sent, now and again."""
        loop = asyncio.get_running_loop()
        self._look_timer = loop.call_later(_LOOK_S, self._look)  # whatever happens below
        began = time.perf_counter()
        if self._connections.look():
            self._look_closely((time.perf_counter() - began) / _LOOK_SHARE)

    def _look_closely(self, pause_s: float = 0.0) -> None:
        """The next look is soon, after a pause at least."""
        soon = asyncio.get_running_loop().time() + max(_LOOK_CLOSELY_S, pause_s)
        if self._look_timer is not None and self._look_timer.when() > soon:
            self._look_timer.cancel()
            self._look_timer = asyncio.get_running_loop().call_at(soon, self._look)

    def _schedule_read(self) -> None:
        """Look for messages once more: a send may have consumed the descriptor's edge."""
        if self._scheduled is None:
            self._scheduled = asyncio.get_running_loop().call_soon(self._read)

    def _read(self) -> None:
        """Handle what has arrived. The descriptor signals edges, so read until nothing is left."""
        if self._scheduled is not None:
            self._scheduled.cancel()
            self._scheduled = None
        until = self._clock() + _BURST_S
        for _ in range(_BURST):
            if self._socket is None:
                return
            if not self._socket.getsockopt(zmq.EVENTS) & _READABLE:  # type: ignore[operator]
                return
            part = first = self._socket.recv(_NO_WAIT, copy=False)
            frames: list[Bytes] = []
            while part.more:
                part = self._socket.recv(_NO_WAIT, copy=False)
                frames.append(part.buffer if len(part) >= _NO_COPY else part.bytes)
            identity = first.bytes
            try:
                fd = int(first.get(zmq.SRCFD))
                user = "" if self._lock is None else str(first.get("User-Id"))
            except zmq.ZMQError:
                # ZMTP 1 or 2, or bytes that pass for it: no worker is so old. It is not heard, so
                # that its connection is ended soon.
                continue
            if not self._connections.heard(fd, identity):
                continue
            self._handle(identity, user, frames)
            if self._clock() >= until:
                break
        self._schedule_read()

    def _log_end(self, peer: str, reason: str) -> None:
        suppressed = self._ends(peer.rpartition(":")[0])
        if suppressed is not None:
            more = {"suppressed": suppressed} if suppressed else {}
            log.warning("connection ended", peer=peer, reason=reason, **more)

    def _log_failed(self, peer: str, broke_protocol: bool) -> None:
        """Without a lock, a peer that goes away in the handshake means nothing: a port scan."""
        if self._lock is None and not broke_protocol:
            return
        suppressed = self._handshakes("")
        if suppressed is not None:
            more = {"suppressed": suppressed} if suppressed else {}
            reason = (
                "it uses keys, which this address does not, or it is no ZeroMQ program"
                if self._lock is None
                else "it has no key (--key), or expects the key of another server (--server-key)"
            )
            who = peer or "unknown: its connection was gone before it could be asked"
            log.warning("connection refused in the handshake", peer=who, reason=reason, **more)
