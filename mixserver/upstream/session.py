"""The session with whoever asks for forces: takes requests off the links, gives answers back.

Knows neither bytes nor physics: what a request is worth is up to `answer`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Final

import numpy as np
import structlog

from mixserver.errors import ConfigError, MixserverError, NoAnswer, UpstreamError
from mixserver.upstream.link import Link
from mixserver.upstream.notices import Contact, Ended, Lost, Notice, Wanted
from mixserver.upstream.repeats import Repeats
from mixserver.wire.address import SOCKETS_PREFIX, Address, parse_address
from mixserver.wire.ipi import Reply, Request, check_reply

log = structlog.get_logger(__name__)

_MOST_FAILURES: Final = 5
"""i-PI hands a failed request out again at once; so many in a row and nothing will cure it."""


class Upstream:
    """Answers one address of i-PI, or of ASE's SocketIOCalculator, until it says EXIT.

    Args:
        address: "unix:NAME" or "HOST:PORT".
        answer: evaluates one request, on the event loop. The requests of a batch and of several
            connections are asked for at the same time.
        sockets_prefix: what i-PI puts before a unix socket's name.
        connections: how many; i-PI gives each its own bead.
        announce_beads: have i-PI name the bead before every request (0.1 ms).
        force_timeout_s: an `answer` that takes longer counts as failed; i-PI can neither end nor
            write its RESTART while it waits.
        first_contact_s: give up if nobody listens at the address after this; 0 waits for ever.
        later_contact_s: give up if i-PI has gone without EXIT and not come back after this; 0
            waits for ever.
        again: whether i-PI may ask again after an answer that raised this error; otherwise `run`
            ends with it at once.
        connected: called on the event loop whenever a connection stands, the first time and again.

    Raises:
        ConfigError: the address is malformed, or less than one connection is wanted.
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
        again: Callable[[MixserverError], bool] = lambda _: True,
        connected: Callable[[], None] | None = None,
    ) -> None:
        if connections < 1:
            raise ConfigError(f"upstream.connections must be 1 or more, got {connections}")
        self.address: Address = parse_address(address, sockets_prefix=sockets_prefix)
        self.requests = 0
        """How many requests were answered (each slot of a batch is one)."""
        self.failures = 0
        """How many times a request, or a batch of them, failed."""
        self._answer = answer
        self._first_contact_s = first_contact_s
        self._later_contact_s = later_contact_s
        self._again = again
        self._connected = connected
        self._failures_in_a_row = 0
        self._stopped = False
        self._contact = asyncio.Event()
        self._connections = connections
        self._announce_beads = announce_beads
        self._links: list[Link] = []
        self._repeats = Repeats(self._answer_one, self._links, force_timeout_s)
        self._desks: list[_Desk] = []

    @property
    def connected(self) -> bool:
        """Whether any connection stands."""
        return any(link.connected for link in self._links)

    @property
    def last_seen(self) -> float | None:
        """time.time() of the last bytes from i-PI; None before the first."""
        return max((link.last_seen for link in self._links if link.last_seen), default=None)

    async def run(self) -> None:
        """Answer until i-PI says EXIT on every connection, or `stop`. Call once.

        Connects again whenever a connection is lost, and after a failed answer, which i-PI is
        told in a 12-byte error header and asks again. An evaluation under way, or done, when its
        connection was lost answers the same request if i-PI comes back with it.

        Raises:
            UpstreamError: i-PI did not listen within `first_contact_s`, or again within
                `later_contact_s`.
            MixserverError: an answer failed in a way that asking again does not cure, or several
                did in a row; the last one's error.
        """
        loop = asyncio.get_running_loop()
        for _ in range(self._connections):
            desk = _Desk(self._evaluate, self._repeats, self._contacted)

            def notify(notice: Notice, desk: _Desk = desk) -> None:
                loop.call_soon_threadsafe(desk.hear, notice)

            desk.link = Link(self.address, announce_beads=self._announce_beads, notify=notify)
            self._desks.append(desk)
            self._links.append(desk.link)
        try:
            async with asyncio.TaskGroup() as tasks:
                if self._first_contact_s > 0:
                    tasks.create_task(self._expect_contact())
                for desk in self._desks:
                    desk.open()
                serving = [tasks.create_task(self._serve(desk)) for desk in self._desks]
                if self._later_contact_s > 0:
                    tasks.create_task(self._expect_return(serving))
                if self._stopped:
                    self.stop()
        except ExceptionGroup as group:
            raise _first(group) from None
        finally:
            await self._close()

    def stop(self) -> None:
        """Have `run` hang up and return. What is being evaluated is cancelled."""
        self._stopped = True
        self._contact.set()
        for link in self._links:
            link.close()

    def part(self) -> None:
        """Do not come back once a connection is lost: i-PI said EXIT elsewhere."""
        for link in self._links:
            link.part()

    async def _close(self) -> None:
        for link in self._links:
            link.close()
        try:
            for desk in self._desks:
                await desk.ended.wait()
        finally:
            await self._repeats.clear()
            for link in self._links:
                link.join()

    def _contacted(self) -> None:
        self._contact.set()
        if self._connected is not None:
            self._connected()

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

    async def _serve(self, desk: _Desk) -> None:
        try:
            if await desk.over:
                self._one_exited(desk.link)
        finally:
            desk.clear()

    def _one_exited(self, link: Link) -> None:
        self._contact.set()
        for other in self._links:
            if other is not link:
                other.part()

    def _evaluate(self, desk: _Desk, wanted: Wanted) -> None:
        # i-PI fills a short batch up with copies of its last request: they are asked for once.
        requests = wanted.requests
        last = len(requests)
        while last > 1 and _same(requests[last - 1], requests[last - 2]):
            last -= 1
        deliver = partial(self._deliver, desk, wanted.serial, len(requests))
        self._repeats.ask(desk.link, requests[:last], deliver)

    def _deliver(
        self, desk: _Desk, serial: int, slots: int, outcome: list[Reply] | BaseException
    ) -> None:
        if isinstance(outcome, list):
            desk.link.reply(serial, outcome + outcome[-1:] * (slots - len(outcome)))
            self.requests += slots
            self._failures_in_a_row = desk.late_in_a_row = 0
            return
        if not isinstance(outcome, MixserverError):
            desk.fail(outcome)
            return
        desk.link.refuse(serial, outcome)
        self.failures += 1
        if isinstance(outcome, NoAnswer):  # slow beads are late together: each has its own count
            desk.late_in_a_row += 1
        else:
            self._failures_in_a_row += 1
        in_a_row = max(self._failures_in_a_row, desk.late_in_a_row)
        log.error(  # the traceback of a told error says nothing
            "evaluation failed", kind=type(outcome).__name__, error=str(outcome), slots=slots
        )
        if not self._again(outcome) or in_a_row >= _MOST_FAILURES:
            desk.fail(outcome)

    async def _answer_one(self, request: Request) -> Reply:
        return check_reply(await self._answer(request), len(request.positions))


class _Desk:
    """One link's desk on the event loop, where what it tells is begun at once.

    Args:
        evaluate: has what a link wants evaluated.
        repeats: knows what is under way.
        contact: called whenever there is contact.
    """

    link: Link

    def __init__(
        self,
        evaluate: Callable[[_Desk, Wanted], None],
        repeats: Repeats,
        contact: Callable[[], None],
    ) -> None:
        self.over: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        """Whether i-PI said EXIT, once the link's thread is done; or why it cannot go on."""
        self.late_in_a_row = 0
        """How often its requests took too long since one was answered."""
        self.ended = asyncio.Event()
        self.ended.set()
        self._evaluate = evaluate
        self._repeats = repeats
        self._contact = contact

    def open(self) -> None:
        """Begin to connect."""
        self.link.start()
        self.ended.clear()

    def hear(self, notice: Notice) -> None:
        """Do what a notice asks for."""
        match notice:
            case Contact():
                self._contact()
            case Wanted() if not self.over.done():
                self._evaluate(self, notice)
            case Lost(_, impatient):
                self._repeats.lost(self.link, impatient=impatient)
            case Ended(exited, error):
                self.ended.set()
                self._repeats.abandon(self.link)
                if error is not None:
                    self.fail(error)
                elif not self.over.done():
                    self.over.set_result(exited)

    def fail(self, error: BaseException) -> None:
        """It cannot go on."""
        if not self.over.done():
            self.over.set_exception(error)

    def clear(self) -> None:
        """End what is still being evaluated."""
        self.over.cancel()
        self._repeats.abandon(self.link)


def _same(one: Request, other: Request) -> bool:
    return np.array_equal(one.cell, other.cell) and np.array_equal(one.positions, other.positions)


def _first(group: ExceptionGroup[Exception]) -> Exception:
    """Dig out the error that a nest of task groups wraps."""
    error = group.exceptions[0]
    return _first(error) if isinstance(error, ExceptionGroup) else error
