"""The session with i-PI: takes requests from the connections, returns the replies.

The one policy for failed evaluations is here: i-PI may repeat a request that only took too long,
any other error ends the session. (i-PI gives a refused request to the next driver that connects,
without limit, so repeating one that cannot succeed would never end.) Knows neither bytes nor
physics: `answer` evaluates.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Final

import structlog

from mixserver.core.errors import ConfigError, MixserverError, NoAnswer, UpstreamError
from mixserver.ipi.session.connection import IpiConnection
from mixserver.ipi.session.evaluation import same_positions
from mixserver.ipi.session.events import ForcesRequested, SessionEvent
from mixserver.ipi.session.handler import ConnectionHandler
from mixserver.ipi.session.repeated_requests import PendingEvaluations
from mixserver.wire.address import SOCKETS_PREFIX, Address, parse_address
from mixserver.wire.ipi import Reply, Request
from mixserver.wire.ipi_reply import check_reply

log = structlog.get_logger(__name__)

_MOST_TIMEOUTS: Final = 5
"""A session ends after this many timeouts in a row on one connection."""


class Session:
    """Answers one address of i-PI, or of ASE's SocketIOCalculator, until it sends EXIT.

    Args:
        address: "unix:NAME" or "HOST:PORT".
        answer: evaluates one request, on the event loop. The requests of a batch and of several
            connections are evaluated concurrently.
        sockets_prefix: what i-PI puts before a unix socket's name.
        connections: how many; i-PI gives each its own bead.
        announce_beads: have i-PI name the bead before every request (0.1 ms).
        force_timeout_s: an `answer` that takes longer counts as failed; i-PI can neither end nor
            write its RESTART while it waits.
        first_contact_s: give up if nothing listens at the address after this; 0 waits for ever.
        later_contact_s: give up if i-PI has gone without EXIT and not come back after this; 0
            waits for ever.
        connected: called on the event loop at every connect and reconnect, with whether i-PI did
            not listen before.

    Raises:
        ConfigError: the address is malformed, or `connections` is less than one.
    """

    def __init__(
        self,
        address: str,
        answer: Callable[[Request], Awaitable[Reply]],
        *,
        sockets_prefix: str = SOCKETS_PREFIX,
        connections: int = 1,
        announce_beads: bool = False,
        force_timeout_s: float = 3600.0,
        first_contact_s: float = 0.0,
        later_contact_s: float = 0.0,
        connected: Callable[[bool], None] | None = None,
    ) -> None:
        if connections < 1:
            raise ConfigError(f"upstream.connections must be 1 or more, got {connections}")
        self.address: Address = parse_address(address, sockets_prefix=sockets_prefix)
        self.requests = 0
        """Number of answered requests (each slot of a batch is one)."""
        self.failures = 0
        """Number of requests, or batches, that failed."""
        self._answer = answer
        self._first_contact_s = first_contact_s
        self._later_contact_s = later_contact_s
        self._on_connected = connected
        self._stopped = False
        self._contact = asyncio.Event()
        self._count = connections
        self._announce_beads = announce_beads
        self._connections: list[IpiConnection] = []
        self._pending = PendingEvaluations(self._checked, self._connections, force_timeout_s)
        self._handlers: list[ConnectionHandler] = []

    @property
    def connected(self) -> bool:
        """Whether any connection is open."""
        return any(connection.connected for connection in self._connections)

    @property
    def last_seen(self) -> float | None:
        """When the last bytes came from i-PI, by time.time(); None before the first."""
        return max((c.last_seen for c in self._connections if c.last_seen), default=None)

    async def run(self) -> None:
        """Answer until i-PI sends EXIT on every connection, or `stop`. Call once.

        Reconnects whenever a connection is lost, and after a timeout, which i-PI receives as a
        12-byte error header before it repeats the request. An evaluation that was running, or had
        finished, when its connection was lost answers the same request if i-PI repeats it.

        Raises:
            UpstreamError: i-PI did not listen within `first_contact_s`, or again within
                `later_contact_s`.
            MixserverError: an answer failed, or several in a row took too long.
        """
        loop = asyncio.get_running_loop()
        for _ in range(self._count):
            handler = ConnectionHandler(self._evaluate, self._pending, self._contacted)

            def notify(event: SessionEvent, handler: ConnectionHandler = handler) -> None:
                loop.call_soon_threadsafe(handler.handle, event)

            handler.connection = IpiConnection(
                self.address, announce_beads=self._announce_beads, notify=notify
            )
            self._handlers.append(handler)
            self._connections.append(handler.connection)
        try:
            async with asyncio.TaskGroup() as tasks:
                if self._first_contact_s > 0:
                    tasks.create_task(self._expect_contact())
                for handler in self._handlers:
                    handler.open()
                serving = [tasks.create_task(self._serve(handler)) for handler in self._handlers]
                if self._later_contact_s > 0:
                    tasks.create_task(self._expect_return(serving))
                if self._stopped:
                    self.stop()
        except ExceptionGroup as group:
            raise _first(group) from None
        finally:
            await self._close()

    def stop(self) -> None:
        """Make `run` hang up and return. Running evaluations are cancelled."""
        self._stopped = True
        self._contact.set()
        for connection in self._connections:
            connection.close()

    def stop_reconnecting(self) -> None:
        """Do not reconnect once a connection is lost: i-PI sent EXIT on another."""
        for connection in self._connections:
            connection.stop_reconnecting()

    async def _close(self) -> None:
        for connection in self._connections:
            connection.close()
        try:
            for handler in self._handlers:
                await handler.thread_ended.wait()
        finally:
            await self._pending.close()
            for connection in self._connections:
                connection.join()

    def _contacted(self, absent: bool) -> None:
        self._contact.set()
        if self._on_connected is not None:
            self._on_connected(absent)

    async def _expect_contact(self) -> None:
        try:
            async with asyncio.timeout(self._first_contact_s):
                await self._contact.wait()
        except TimeoutError:
            raise UpstreamError(
                f"no program listens at {self.address} after {self._first_contact_s:g} s "
                "(upstream.first_contact_s). Is i-PI running, and does its <ffsocket> have this "
                "address and mode?"
            ) from None

    async def _expect_return(self, serving: Sequence[asyncio.Task[None]]) -> None:
        """Watch for an i-PI that has gone without EXIT and stays away."""
        await self._contact.wait()
        limit, away = self._later_contact_s, 0.0
        every = min(1.0, 0.1 * limit)
        while (await asyncio.wait(serving, timeout=every))[1]:
            away = 0.0 if self.connected else away + every
            if away > limit:
                raise UpstreamError(
                    f"i-PI at {self.address} left without sending EXIT and has not come back "
                    f"for {limit:g} s (upstream.later_contact_s; 0 waits for ever). See why it "
                    "ended; start this server again together with it"
                )

    async def _serve(self, handler: ConnectionHandler) -> None:
        try:
            if await handler.over:  # i-PI sent EXIT
                self._contact.set()
                for other in self._connections:
                    if other is not handler.connection:
                        other.stop_reconnecting()
        finally:
            handler.close()

    def _evaluate(self, handler: ConnectionHandler, event: ForcesRequested) -> None:
        # i-PI fills a short batch up with copies of its last request: they are evaluated once
        requests = event.requests
        last = len(requests)
        while last > 1 and same_positions(requests[last - 1], requests[last - 2]):
            last -= 1
        deliver = partial(self._deliver, handler, event.serial, len(requests))
        self._pending.submit(handler.connection, requests[:last], deliver)

    def _deliver(
        self,
        handler: ConnectionHandler,
        serial: int,
        slots: int,
        outcome: list[Reply] | BaseException,
    ) -> None:
        if isinstance(outcome, list):
            handler.connection.reply(serial, outcome + outcome[-1:] * (slots - len(outcome)))
            self.requests += slots
            handler.timeouts_in_a_row = 0
            return
        if not isinstance(outcome, MixserverError):
            handler.fail(outcome)
            return
        handler.connection.fail(serial, outcome)
        self.failures += 1
        # slow beads time out together, so each connection counts its own timeouts
        handler.timeouts_in_a_row += 1
        last = not isinstance(outcome, NoAnswer) or handler.timeouts_in_a_row >= _MOST_TIMEOUTS
        log.error(  # without a traceback: the message explains it
            "evaluation failed",
            kind=type(outcome).__name__,
            error=str(outcome),
            slots=slots,
            raised=last,
        )
        if last:
            handler.fail(outcome)

    async def _checked(self, request: Request) -> Reply:
        return check_reply(await self._answer(request), len(request.positions))


def _first(group: ExceptionGroup[Exception]) -> Exception:
    """The error that a nest of task groups wraps."""
    error = group.exceptions[0]
    return _first(error) if isinstance(error, ExceptionGroup) else error
