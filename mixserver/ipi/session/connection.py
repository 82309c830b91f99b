"""One connection to i-PI, on a thread of its own that always reads and never computes.

i-PI drops a driver that does not take positions within 0.1 s, and blocks on a STATUS that is not
answered, so neither may depend on the event loop. Incoming messages are reported through `notify`.
The calling thread writes a reply directly as far as the socket accepts it without blocking, because
waking this thread would take longer; the remainder is queued for this thread. Reconnects with
exponential back-off until stopped.
"""

from __future__ import annotations

import select
import socket
import threading
import time
from collections.abc import Callable, Sequence
from typing import Final

import structlog

from mixserver.core.errors import MixserverError, PeerGone, ProtocolError
from mixserver.ipi.session.events import Connected, Disconnected, SessionEvent, ThreadEnded
from mixserver.ipi.session.exchange import ConnectionState, Exchange
from mixserver.ipi.session.open_socket import open_connection
from mixserver.wire.address import Address
from mixserver.wire.ipi import Reply
from mixserver.wire.ipi_driver import Driver

log = structlog.get_logger(__name__)

_LONGEST_PAUSE_S: Final = 1.0


class IpiConnection:
    """One connection to i-PI.

    `notify` is called on the connection's thread; `announce_beads` see `wire.ipi_driver.Driver`.
    """

    def __init__(
        self, address: Address, *, announce_beads: bool, notify: Callable[[SessionEvent], None]
    ) -> None:
        self.connected = False
        self._announce_beads = announce_beads
        self._state = ConnectionState(address, notify)
        self._socket_lock = threading.Lock()
        """Held by the thread that uses the socket; the connection's own thread releases it only
        while it waits for i-PI and no reply is partly sent."""
        self._exchange: Exchange | None = None
        self._absent = False
        """Whether i-PI did not listen when this thread tried to connect last."""
        self._thread = threading.Thread(target=self._run, name=f"i-PI {address}", daemon=True)

    @property
    def last_seen(self) -> float | None:
        """When the last bytes came from i-PI, by time.time()."""
        return self._state.last_seen

    def start(self) -> None:
        """Begin to connect."""
        self._thread.start()

    def reply(self, serial: int, replies: Sequence[Reply]) -> None:
        """Send the checked replies to a `ForcesRequested`; never blocks."""
        if self._socket_lock.acquire(blocking=False):
            try:
                if self._exchange is None or self._exchange.try_reply(serial, replies):
                    return
            finally:
                self._socket_lock.release()
        self._state.outbox.append((serial, replies))
        self._state.wakeup.notify()

    def fail(self, serial: int, error: MixserverError) -> None:
        """Report to i-PI that a `ForcesRequested` failed, hang up and connect again."""
        self._state.outbox.append((serial, error))
        self._state.wakeup.notify()

    def stop_reconnecting(self) -> None:
        """Do not reconnect once this connection is lost: another one received EXIT."""
        self._state.stop_after = time.monotonic()
        self._state.wakeup.notify()

    def close(self) -> None:
        """Send what is queued, hang up, end the thread."""
        self._state.closing = True
        self._state.wakeup.notify()

    def join(self) -> None:
        """Release the thread and its sockets; quick after `ThreadEnded` or `close`."""
        if self._thread.ident is not None:
            self._thread.join()
        self._state.wakeup.close()

    def _run(self) -> None:
        state = self._state
        exited, error = False, None
        try:
            while not exited and not state.closing:
                self._absent = False
                connection = self._connect()
                if connection is None:
                    exited = not state.closing
                    break
                with connection:
                    exited = self._serve(connection)
                if not exited:
                    self._back_off()
        except BaseException as problem:
            error = problem
        state.notify(ThreadEnded(exited, error))

    def _connect(self) -> socket.socket | None:
        """Connect, however long it takes; None if the connection is no longer needed."""
        state = self._state
        reason = ""
        while not state.closing:
            try:
                connection = open_connection(state.address)
            except OSError as problem:
                if state.may_stop:
                    return None
                self._absent = True
                if reason != str(problem):
                    reason = str(problem)
                    log.info("waiting for i-PI", address=str(state.address), reason=reason)
                self._back_off()
            else:
                log.info("connected to i-PI", address=str(state.address))
                return connection
        return None

    def _back_off(self) -> None:
        """Wait before the next attempt to connect, twice as long each time."""
        state = self._state
        until = time.monotonic() + state.pause_s
        state.pause_s = min(2 * state.pause_s, _LONGEST_PAUSE_S)
        poll = select.poll()
        poll.register(state.wakeup, select.POLLIN)
        while not state.closing and (left := until - time.monotonic()) > 0:
            poll.poll(1000 * left)
            state.wakeup.clear()
            state.outbox.clear()
            if state.may_stop:
                break

    def _serve(self, connection: socket.socket) -> bool:
        """Serve one connection until it ends; True if i-PI sent EXIT."""
        state = self._state
        address = str(state.address)
        driver = Driver(announce_beads=self._announce_beads)
        with self._socket_lock:
            exchange = self._exchange = Exchange(state, connection, driver, self._socket_lock)
            self.connected = True
            state.notify(Connected(self._absent))
            try:
                return exchange.run()
            except (PeerGone, OSError) as problem:
                log.info("i-PI disconnected", address=address, reason=str(problem))
                # i-PI hangs up without EXIT on drivers it never used
                return state.may_stop
            except ProtocolError as problem:
                log.warning("connection to i-PI dropped", address=address, reason=str(problem))
                return False
            except MixserverError as problem:
                # the session reports it, or raises it
                log.info("request failed", address=address, reason=str(problem))
                return False
            finally:
                self.connected = False
                self._exchange = None
                exchange.close()
                if driver.busy:
                    state.notify(Disconnected(state.serial, exchange.dropped))
