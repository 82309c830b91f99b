"""The exchange with i-PI over one open connection: requests in, replies out, until it ends."""

from __future__ import annotations

import contextlib
import select
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

import structlog

from mixserver.core.errors import MixserverError, PeerGone
from mixserver.ipi.session.events import ForcesRequested, SessionEvent
from mixserver.ipi.session.shared_memory import SharedSegments
from mixserver.ipi.session.wakeup import Wakeup
from mixserver.wire import Bytes
from mixserver.wire.address import Address
from mixserver.wire.ipi import Reply, Send
from mixserver.wire.ipi_driver import AttachMemory, Driver, ExitReceived, RequestsReceived

log = structlog.get_logger(__name__)

FIRST_PAUSE_S: Final = 0.05
"""Before the first attempt to connect again."""
_SEND_S: Final = 60.0
"""Time for i-PI to accept a message."""
_SEND_CLOSING_S: Final = 1.0
"""The same once the connection is being closed."""
_SILENT_S: Final = 60.0
"""Time after which a new connection without a message is reported."""
_SILENT: Final = (
    "is it i-PI (or ASE) that listens there? i-PI's thread for drivers ends if a server is killed "
    "while they talk: then send i-PI SIGTERM, so that it writes its RESTART, and start it from "
    "that. `python -m mixserver.ipi.host input.xml` is i-PI without this fault"
)
_RETURN_S: Final = 2.0
"""Time for i-PI to listen again after it sent EXIT in mid-evaluation."""


@dataclass(slots=True, eq=False)
class ConnectionState:
    """What a connection keeps across reconnects, shared by its thread and its callers."""

    address: Address
    notify: Callable[[SessionEvent], None]
    wakeup: Wakeup = field(default_factory=Wakeup)
    outbox: deque[tuple[int, Sequence[Reply] | MixserverError]] = field(default_factory=deque)
    """Replies and failures for the thread to send, by the serial of their request."""
    serial: int = 0
    """Counts the requests."""
    closing: bool = False
    stop_after: float | None = None
    """time.monotonic() after which a lost connection is not made again; None is never."""
    pause_s: float = FIRST_PAUSE_S
    """Before the next attempt to connect."""
    last_seen: float | None = None
    """When the last bytes came from i-PI, by time.time()."""

    @property
    def may_stop(self) -> bool:
        """Whether a lost connection need not be made again."""
        return self.stop_after is not None and time.monotonic() > self.stop_after


class Exchange:
    """The exchange over one connection, a non-blocking socket, while it lasts.

    The thread that uses the socket holds the lock, see `IpiConnection`.
    """

    def __init__(
        self,
        state: ConnectionState,
        connection: socket.socket,
        driver: Driver,
        lock: threading.Lock,
    ) -> None:
        self.dropped = False
        """Whether i-PI sent EXIT in mid-evaluation."""
        self._state = state
        self._connection = connection
        self._driver = driver
        self._lock = lock
        self._segments: SharedSegments | None = None
        self._requested = 0.0
        self._silent = True
        """Whether i-PI has sent nothing yet, and that was not reported."""
        self._unsent: memoryview | None = None
        """The rest of a reply that the socket did not accept at once; sent before all else."""
        self._idle = select.poll()
        self._idle.register(connection, select.POLLIN)
        self._idle.register(state.wakeup, select.POLLIN)

    def try_reply(self, serial: int, replies: Sequence[Reply]) -> bool:
        """Send a reply as far as that does not block; False if the thread must send it.

        Called on other threads, with the lock held.
        """
        state = self._state
        if state.outbox or self._unsent is not None:
            return False
        if serial != state.serial or not self._driver.busy:
            return True  # no longer needed
        if self._segments is not None and not self._segments.intact:
            return False  # the thread reports it
        state.pause_s = FIRST_PAUSE_S
        for event in self._driver.answer(replies):
            if isinstance(event, Send):
                rest = memoryview(event.data)
                with contextlib.suppress(OSError):  # full; or gone, which the thread notices
                    rest = rest[self._connection.send(rest) :]
                if rest:
                    self._unsent = rest
                    state.wakeup.notify()
        return True

    def run(self) -> bool:
        """Read and answer until the connection ends; True if i-PI sent EXIT.

        Raises:
            PeerGone: i-PI closed the connection, or does not accept data.
            MixserverError: i-PI broke the protocol, or a request failed.
        """
        state, driver, connection = self._state, self._driver, self._connection
        while True:
            try:
                n = connection.recv_into(driver.get_buffer())
            except BlockingIOError:
                if self._unsent is not None:
                    self._send(b"")
                elif state.outbox:
                    self._send_outbox()
                elif state.closing:
                    return False
                else:
                    self._wait()
                continue
            if n == 0:
                raise PeerGone("end of stream")
            self._silent = False
            if self._segments is not None:
                self._segments.check()
            for event in driver.buffer_updated(n):
                if isinstance(event, ExitReceived):
                    return self._exit(event)
                self._handle(event)
            state.last_seen = time.time()

    def close(self) -> None:
        """Release shared memory."""
        self._driver.detach()
        if self._segments is not None:
            self._segments.close()

    def _exit(self, event: ExitReceived) -> bool:
        state = self._state
        if not event.busy:
            log.info("i-PI sent EXIT", address=str(state.address))
            return True
        # An EXIT that does not wait for its forces is how i-PI drops a driver that exceeded its
        # <timeout>: it continues without us, so reconnect, unless it has really ended.
        self.dropped = True
        waited_s = round(time.monotonic() - self._requested, 1)
        log.info("i-PI timed out", address=str(state.address), after_s=waited_s)
        state.stop_after = time.monotonic() + _RETURN_S
        return False

    def _handle(self, event: object) -> None:
        match event:
            case Send(data):
                self._send(data)
            case AttachMemory(names):
                self._segments = SharedSegments(names)
                for next_event in self._driver.attached(self._segments.buffers):
                    self._handle(next_event)
            case RequestsReceived(requests):
                self._state.stop_after = None
                self._requested = time.monotonic()
                self._state.serial += 1
                self._state.notify(ForcesRequested(self._state.serial, requests))

    def _send_outbox(self) -> None:
        state = self._state
        while state.outbox:
            serial, content = state.outbox.popleft()
            if serial != state.serial or not self._driver.busy:
                continue
            if isinstance(content, MixserverError):
                self._send(self._driver.refuse(content))
                raise content
            if self._segments is not None:
                self._segments.check()
            for event in self._driver.answer(content):
                self._handle(event)
            state.pause_s = FIRST_PAUSE_S

    def _send(self, data: Bytes) -> None:
        state = self._state
        if self._unsent is not None:
            before, self._unsent = self._unsent, None
            self._send(before)
        rest = memoryview(data)
        until = time.monotonic() + _SEND_S
        while rest:
            try:
                rest = rest[self._connection.send(rest) :]
            except BlockingIOError:
                if state.closing:
                    until = min(until, time.monotonic() + _SEND_CLOSING_S)
                if (left := until - time.monotonic()) <= 0:
                    raise PeerGone("it does not accept data") from None
                poll = select.poll()
                poll.register(self._connection, select.POLLOUT)
                poll.register(state.wakeup, select.POLLIN)
                self._clear_wakeup(poll.poll(1000 * left))

    def _wait(self) -> None:
        """Wait for i-PI or a wakeup; other threads may use the socket meanwhile."""
        self._lock.release()
        try:
            ready = self._idle.poll(1e3 * _SILENT_S if self._silent else None)
        finally:
            self._lock.acquire()
        if not ready and self._silent:
            self._silent = False
            log.warning(
                "connected, but no message comes",
                address=str(self._state.address),
                for_s=_SILENT_S,
                why=_SILENT,
            )
        self._clear_wakeup(ready)

    def _clear_wakeup(self, ready: list[tuple[int, int]]) -> None:
        wakeup = self._state.wakeup.fileno()
        if any(fd == wakeup for fd, _ in ready):
            self._state.wakeup.clear()
