"""One connection to i-PI, on a thread of its own that always reads and never computes.

i-PI drops a driver that does not take positions within 0.1 s, and everything waits for a STATUS
that is not answered, so neither may depend on the event loop. What arrives is told through
`notify`. A reply is sent by whoever has it, as far as the socket takes it at once, because waking a
thread takes longer; the rest, and what comes while the thread is at work, is posted to it. Connects
again, slower and slower, until told to stop.
"""

from __future__ import annotations

import contextlib
import select
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final

import structlog

from mixserver.errors import MixserverError, PeerGone, ProtocolError
from mixserver.upstream.connect import open_connection
from mixserver.upstream.notices import Contact, Ended, Lost, Notice, Wanted
from mixserver.upstream.segments import Segments
from mixserver.wire.address import Address
from mixserver.wire.ipi import Bytes, Reply, Say
from mixserver.wire.ipi_driver import Asked, Attach, Driver, Exit

log = structlog.get_logger(__name__)

_FIRST_PAUSE_S: Final = 0.05
_LONGEST_PAUSE_S: Final = 1.0
_SEND_S: Final = 60.0
_LAST_WORDS_S: Final = 1.0
_AFTERWARDS_S: Final = 2.0


class Link:
    """One connection to i-PI.

    Args:
        address: where it listens.
        announce_beads: see `wire.ipi_driver.Driver`.
        notify: called on the link's thread.
    """

    def __init__(
        self, address: Address, *, announce_beads: bool, notify: Callable[[Notice], None]
    ) -> None:
        self.connected = False
        self.last_seen: float | None = None
        """time.time() of the last bytes from i-PI."""
        self._address = address
        self._announce_beads = announce_beads
        self._notify = notify
        self._posted: deque[tuple[int, Sequence[Reply] | MixserverError]] = deque()
        self._bell, self._wake = socket.socketpair()
        self._bell.setblocking(False)
        self._wake.setblocking(False)
        self._closing = False
        self._parting: float | None = None
        self._serial = 0
        self._pause_s = _FIRST_PAUSE_S
        self._turn = threading.Lock()
        """Held by whoever uses the connection; the thread lets go of it only while it waits for
        i-PI and nothing is half sent."""
        self._talking: _Talk | None = None
        self._thread = threading.Thread(target=self._run, name=f"i-PI {address}", daemon=True)

    def start(self) -> None:
        """Begin to connect."""
        self._thread.start()

    def reply(self, serial: int, replies: Sequence[Reply]) -> None:
        """Send the checked replies to a `Wanted`; never waits."""
        if self._turn.acquire(blocking=False):
            try:
                if self._talking is None or self._talking.answer(serial, replies):
                    return
            finally:
                self._turn.release()
        self._posted.append((serial, replies))
        self._ring()

    def refuse(self, serial: int, error: MixserverError) -> None:
        """Tell i-PI that a `Wanted` failed, hang up and connect again."""
        self._posted.append((serial, error))
        self._ring()

    def part(self) -> None:
        """Another connection got EXIT: do not come back once this one is lost."""
        self._parting = time.monotonic()
        self._ring()

    def close(self) -> None:
        """Send what is posted, hang up, end the thread."""
        self._closing = True
        self._ring()

    def join(self) -> None:
        """Give back the thread and its sockets; quick once `Ended` was told or after `close`."""
        if self._thread.ident is not None:
            self._thread.join()
        self._bell.close()
        self._wake.close()

    @property
    def _deserted(self) -> bool:
        return self._parting is not None and time.monotonic() > self._parting

    def _ring(self) -> None:
        with contextlib.suppress(OSError):  # full: it rings already; closed: nobody listens
            self._wake.send(b"!")

    def _run(self) -> None:
        exited, error = False, None
        try:
            while not exited and not self._closing:
                connection = self._connect()
                if connection is None:
                    exited = not self._closing
                    break
                with connection:
                    exited = self._talk(connection)
                if not exited:
                    self._rest()
        except BaseException as problem:
            error = problem
        self._notify(Ended(exited, error))

    def _connect(self) -> socket.socket | None:
        """Connect, however long it takes; None if it is no longer wanted."""
        said = ""
        while not self._closing:
            try:
                connection = open_connection(self._address)
            except OSError as problem:
                if self._deserted:
                    return None
                if said != str(problem):
                    said = str(problem)
                    log.info("waiting for i-PI", address=str(self._address), why=said)
                self._rest()
            else:
                log.info("connected to i-PI", address=str(self._address))
                return connection
        return None

    def _rest(self) -> None:
        until = time.monotonic() + self._pause_s
        self._pause_s = min(2 * self._pause_s, _LONGEST_PAUSE_S)
        bell = select.poll()
        bell.register(self._bell, select.POLLIN)
        while not self._closing and (left := until - time.monotonic()) > 0:
            bell.poll(1000 * left)
            self._hush()
            self._posted.clear()
            if self._deserted:
                break

    def _talk(self, connection: socket.socket) -> bool:
        """Serve one connection until it ends; True if i-PI said EXIT."""
        driver = Driver(announce_beads=self._announce_beads)
        with self._turn:
            talk = self._talking = _Talk(self, connection, driver)
            self.connected = True
            self._notify(Contact())
            try:
                return talk.run()
            except (PeerGone, OSError) as problem:
                log.info("i-PI hung up", address=str(self._address), why=str(problem))
                # i-PI hangs up without EXIT on drivers it never used
                return self._deserted
            except ProtocolError as problem:
                log.warning("i-PI dropped", address=str(self._address), why=str(problem))
                return False
            except MixserverError as problem:
                log.warning("request refused", address=str(self._address), why=str(problem))
                return False
            finally:
                self.connected = False
                self._talking = None
                talk.close()
                if driver.busy:
                    self._notify(Lost(self._serial, talk.dropped))

    def _hush(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while self._bell.recv(4096):
                pass


class _Talk:
    """One connection while it lasts."""

    def __init__(self, link: Link, connection: socket.socket, driver: Driver) -> None:
        self._link = link
        self._connection = connection
        self._driver = driver
        self._segments: Segments | None = None
        self.dropped = False
        """Whether i-PI said EXIT in mid-evaluation."""
        self._asked = 0.0
        self._unsent: memoryview | None = None
        """The rest of a reply that the socket did not take at once; goes before all else."""
        self._idle = select.poll()
        self._idle.register(connection, select.POLLIN)
        self._idle.register(link._bell, select.POLLIN)

    def answer(self, serial: int, replies: Sequence[Reply]) -> bool:
        """Send a reply as far as that needs no waiting, if it is due; False if it must be posted.

        Called off the thread, with the turn held.
        """
        link = self._link
        if link._posted or self._unsent is not None:
            return False
        if serial != link._serial or not self._driver.busy:
            return True
        if self._segments is not None and not self._segments.whole:
            return False  # the thread says so
        link._pause_s = _FIRST_PAUSE_S
        for event in self._driver.answer(replies):
            if isinstance(event, Say):
                rest = memoryview(event.data)
                with contextlib.suppress(OSError):  # full; or gone, which the thread notices
                    rest = rest[self._connection.send(rest) :]
                if rest:
                    self._unsent = rest
                    link._ring()
        return True

    def run(self) -> bool:
        link, driver, connection = self._link, self._driver, self._connection
        while True:
            try:
                n = connection.recv_into(driver.want())
            except BlockingIOError:
                if self._unsent is not None:
                    self._send(b"")
                elif link._posted:
                    self._send_posted()
                elif link._closing:
                    return False
                else:
                    self._rest()
                continue
            if n == 0:
                raise PeerGone("end of stream")
            if self._segments is not None:
                self._segments.check()
            for event in driver.filled(n):
                if isinstance(event, Exit):
                    return self._exit(event)
                self._do(event)
            link.last_seen = time.time()

    def close(self) -> None:
        self._driver.detach()
        if self._segments is not None:
            self._segments.close()

    def _exit(self, event: Exit) -> bool:
        if not event.busy:
            log.info("i-PI said EXIT", address=str(self._link._address))
            return True
        # An EXIT that does not wait for its forces is i-PI's way to drop a driver which exceeded
        # its <timeout>: it goes on without us, so come back, unless it is really gone.
        self.dropped = True
        waited_s = round(time.monotonic() - self._asked, 1)
        log.info("i-PI lost patience", address=str(self._link._address), after_s=waited_s)
        self._link._parting = time.monotonic() + _AFTERWARDS_S
        return False

    def _do(self, event: object) -> None:
        match event:
            case Say(data):
                self._send(data)
            case Attach(names):
                self._segments = Segments(names)
                for next_event in self._driver.attached(self._segments.buffers):
                    self._do(next_event)
            case Asked(requests):
                self._link._parting = None
                self._asked = time.monotonic()
                self._link._serial += 1
                self._link._notify(Wanted(self._link._serial, requests))

    def _send_posted(self) -> None:
        link = self._link
        while link._posted:
            serial, content = link._posted.popleft()
            if serial != link._serial or not self._driver.busy:
                continue
            if isinstance(content, MixserverError):
                self._send(self._driver.refuse(content))
                raise content
            if self._segments is not None:
                self._segments.check()
            for event in self._driver.answer(content):
                self._do(event)
            link._pause_s = _FIRST_PAUSE_S

    def _send(self, data: Bytes) -> None:
        if self._unsent is not None:
            before, self._unsent = self._unsent, None
            self._send(before)
        rest = memoryview(data)
        until = time.monotonic() + _SEND_S
        while rest:
            try:
                rest = rest[self._connection.send(rest) :]
            except BlockingIOError:
                if self._link._closing:
                    until = min(until, time.monotonic() + _LAST_WORDS_S)
                if (left := until - time.monotonic()) <= 0:
                    raise PeerGone("it does not take what we send") from None
                poll = select.poll()
                poll.register(self._connection, select.POLLOUT)
                poll.register(self._link._bell, select.POLLIN)
                self._heed(poll.poll(1000 * left))

    def _rest(self) -> None:
        """Wait for i-PI or for the bell, and let others have a turn meanwhile."""
        self._link._turn.release()
        try:
            ready = self._idle.poll()
        finally:
            self._link._turn.acquire()
        self._heed(ready)

    def _heed(self, ready: list[tuple[int, int]]) -> None:
        bell = self._link._bell.fileno()
        if any(fd == bell for fd, _ in ready):
            self._link._hush()
