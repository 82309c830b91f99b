"""Evaluations for i-PI that outlive the connection which asked for them.

i-PI that lost patience, or its connection, asks for the same again. What is under way by then, or
done meanwhile, answers that: it is evaluated once, and regions with a memory advance once.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Final, TypeAlias

import numpy as np
import structlog

from mixserver.errors import EvaluationError, NoAnswer
from mixserver.upstream.link import Link
from mixserver.wire.ipi import Reply, Request

log = structlog.get_logger(__name__)

_MOST: Final = 6
"""An evaluation is given up after so many times the longest wait, however often it is asked for."""
_KEPT_S: Final = 2.0
"""How long an evaluation goes on for an i-PI that hung up and says nothing any more."""
_KEPT_FOR_IMPATIENT_S: Final = 15.0
"""The same if it hung up because of its <timeout>, or got an error because it had waited too long:
it comes back once its other requests let it."""

_IMPATIENT: Final = (
    "it ended, or its <timeout> is shorter than an evaluation: then it asks for the same again, "
    "which the evaluation under way answers. Take <timeout> out of its <ffsocket> (none is the "
    "default), or set it well above the time of the slowest evaluation"
)

Deliver: TypeAlias = Callable[[list[Reply] | BaseException], None]
"""Takes the replies, or why there are none."""


@dataclass(slots=True, eq=False)
class Work:
    """The evaluation of one request."""

    request: Request
    link: Link
    """Which connection asked for it last."""
    task: asyncio.Future[None] | None = None
    outcome: Reply | BaseException | None = None
    """Its answer, or why there is none; None while it is under way."""
    began: float = field(default_factory=time.monotonic)
    waited_s: float = 0.0
    """For how long it was waited for, by all connections one after the other."""
    left_at: float | None = None
    """time.time() when its connection was lost; None while a connection waits."""


@dataclass(slots=True, eq=False)
class _Ask:
    """What a connection waits for."""

    link: Link
    works: list[Work]
    deliver: Deliver
    timer: asyncio.TimerHandle | None = None
    since: float = field(default_factory=time.monotonic)

    def end(self) -> None:
        """Stop waiting."""
        if self.timer is not None:
            self.timer.cancel()
        for work in self.works:
            work.waited_s += time.monotonic() - self.since


class Repeats:
    """What is being evaluated, and what was and could not be delivered.

    Args:
        answer: evaluates one request.
        links: every connection to this i-PI.
        longest_s: how long one connection may wait for an evaluation.
    """

    def __init__(
        self, answer: Callable[[Request], Awaitable[Reply]], links: Sequence[Link], longest_s: float
    ) -> None:
        self._answer = answer
        self._links = links
        self._longest_s = longest_s
        self._works: list[Work] = []
        self._asks: dict[Link, _Ask] = {}
        self._watches: set[asyncio.Task[None]] = set()
        self._ending: set[asyncio.Future[None]] = set()
        self._impatient = 0
        """How often i-PI did not wait."""

    def ask(self, link: Link, requests: Sequence[Request], deliver: Deliver) -> None:
        """Evaluate requests at once, or go on with what is under way for them.

        Args:
            link: which connection asks. If that is for something new, what is left of its own
                earlier requests is withdrawn.
            requests: what is wanted.
            deliver: called on the event loop, unless the connection is lost, with the replies; or
                with what evaluating one of them raised, the others then being withdrawn; or with
                `NoAnswer` after `longest_s`, while they go on; or with `EvaluationError` after
                several times as long, in all.
        """
        found = [self._adopt(request, link) for request in requests]
        if not any(found):
            self._drop([w for w in self._works if w.left_at is not None and w.link is link])
        works = [
            work if work is not None else self._begin(request, link)
            for work, request in zip(found, requests, strict=True)
        ]
        left_s = _MOST * self._longest_s - max(work.waited_s for work in works)
        ask = self._asks[link] = _Ask(link, works, deliver)
        ask.timer = asyncio.get_running_loop().call_later(
            max(0.0, min(self._longest_s, left_s)), self._late, ask
        )
        self._settle(ask)

    def lost(self, link: Link, *, impatient: bool) -> None:
        """A connection was lost; end what it asked for, unless i-PI comes back and asks again.

        Args:
            link: which.
            impatient: whether i-PI said that it drops us, as it does after its <timeout>.
        """
        if impatient:
            self._impatient += 1
            first = self._impatient == 1
            (log.warning if first else log.info)(
                "i-PI did not wait for its forces",
                times=self._impatient,
                **({"why": _IMPATIENT} if first else {}),
            )
        ask = self._asks.pop(link, None)
        if ask is None:
            return
        ask.end()
        left = [work for work in ask.works if not self._hand_over(work, ask)]
        self._leave(left, _KEPT_FOR_IMPATIENT_S if impatient else _KEPT_S)

    def abandon(self, link: Link) -> None:
        """A connection is over for good; end what it asked for."""
        ask = self._asks.pop(link, None)
        if ask is not None:
            ask.end()
            self._drop(ask.works)

    async def clear(self) -> None:
        """End everything."""
        for link in list(self._asks):
            self.abandon(link)
        self._drop(list(self._works))
        for watch in self._watches:
            watch.cancel()
        await asyncio.gather(*self._watches, *self._ending, return_exceptions=True)

    def _adopt(self, request: Request, link: Link) -> Work | None:
        """What was left of this very request, if anything."""
        for work in self._works:
            if work.left_at is not None and _same(work.request, request):
                log.info(
                    "i-PI asks again for what is under way",
                    since_s=round(time.monotonic() - work.began, 1),
                    done=work.outcome is not None,
                )
                work.left_at, work.link = None, link
                return work
        return None

    def _begin(self, request: Request, link: Link) -> Work:
        work = Work(request, link)
        work.task = asyncio.ensure_future(self._run(work))
        self._works.append(work)
        return work

    async def _run(self, work: Work) -> None:
        """Evaluate, and deliver at once: another turn of the event loop would take as long."""
        try:
            work.outcome = await self._answer(work.request)
        except Exception as error:
            work.outcome = error  # for the case that i-PI asks again
        except BaseException as error:
            work.outcome = error
            raise
        try:
            self._done(work)
        except Exception as error:
            asyncio.get_running_loop().call_soon(_raise, error)  # a bug; it ends the run

    def _done(self, work: Work) -> None:
        ask = self._asks.get(work.link)
        if ask is not None and any(work is one for one in ask.works):
            self._settle(ask)

    def _settle(self, ask: _Ask) -> None:
        """Deliver what was asked for, if it is there or cannot be had."""
        outcomes = [work.outcome for work in ask.works if work.outcome is not None]
        failed = [outcome for outcome in outcomes if isinstance(outcome, BaseException)]
        replies = [outcome for outcome in outcomes if not isinstance(outcome, BaseException)]
        if not failed and len(replies) < len(ask.works):
            return
        self._end(ask)
        self._drop(ask.works)
        if not failed:
            ask.deliver(replies)
        elif not isinstance(failed[0], asyncio.CancelledError):
            ask.deliver(failed[0])

    def _late(self, ask: _Ask) -> None:
        """It was waited for as long as one connection may wait."""
        self._end(ask)
        waited_s = max(work.waited_s for work in ask.works)
        if waited_s < _MOST * self._longest_s:
            self._leave(ask.works, _KEPT_FOR_IMPATIENT_S)
            ask.deliver(
                NoAnswer(
                    f"no answer after {self._longest_s:g} s (upstream.force_timeout_s). Raise that "
                    "if an evaluation may take so long, or look at what the workers are doing"
                )
            )
            return
        self._drop(ask.works)
        ask.deliver(
            EvaluationError(
                f"no answer after {waited_s:.4g} s in all, though i-PI asked again and again: "
                f"{_MOST} times upstream.force_timeout_s = {self._longest_s:g} s. Raise that if "
                "an evaluation may take so long, or look at what the workers are doing"
            )
        )

    def _end(self, ask: _Ask) -> None:
        ask.end()
        if self._asks.get(ask.link) is ask:
            del self._asks[ask.link]

    def _hand_over(self, work: Work, lost: _Ask) -> bool:
        """Whether another connection waits for the same as one that was lost.

        i-PI gave it to that before, or beads are at one place. What is further goes on there: if it
        were withdrawn, beads that i-PI is impatient with would be begun again and again.
        """
        for ask in list(self._asks.values()):
            for at, twin in enumerate(ask.works):
                if not _same(work.request, twin.request):
                    continue
                further = work.outcome is not None or work.began < twin.began
                if twin.outcome is not None or isinstance(work.outcome, BaseException):
                    further = False
                self._drop([twin if further else work])
                if further:
                    ask.works[at], work.link = work, ask.link
                    # what both waited for it together counts once
                    work.waited_s -= time.monotonic() - max(lost.since, ask.since)
                    self._settle(ask)
                return True
        return False

    def _leave(self, works: Sequence[Work], kept_s: float) -> None:
        """Keep works that have no connection for a while: i-PI may ask for them again."""
        now = time.time()
        for work in works:
            if isinstance(work.outcome, BaseException):
                self._drop([work])
            else:
                work.left_at = now
        watch = asyncio.ensure_future(self._watch(works, kept_s))
        self._watches.add(watch)
        watch.add_done_callback(self._watches.discard)

    def _drop(self, works: Sequence[Work]) -> None:
        for work in works:
            with contextlib.suppress(ValueError):
                self._works.remove(work)
            # it may take a moment to tidy up
            if work.outcome is None and work.task is not None and work.task.cancel():
                self._ending.add(work.task)
                work.task.add_done_callback(self._ending.discard)

    async def _watch(self, works: Sequence[Work], kept_s: float) -> None:
        """End works that were left, once it is clear that i-PI is gone."""
        left = [work for work in works if work.left_at is not None]
        while left:
            await asyncio.sleep(kept_s)
            left = [work for work in left if work in self._works and work.left_at is not None]
            gone = [work for work in left if not self._back(work)]
            if gone:
                log.info("evaluation withdrawn: i-PI has not come back", after_s=kept_s)
                self._drop(gone)

    def _back(self, work: Work) -> bool:
        """Whether i-PI has spoken since a work was left, on any connection that still stands."""
        since = work.left_at or 0.0
        return any(link.connected and (link.last_seen or 0.0) > since for link in self._links)


def too_long(error: Exception) -> bool:
    """Whether asking again may cure a failure: it took long, and goes on."""
    return isinstance(error, NoAnswer)


def _same(one: Request, other: Request) -> bool:
    """Whether two requests are the same in everything that an answer may depend on."""
    return (
        (one.slot, one.bead, one.parameters) == (other.slot, other.bead, other.parameters)
        and np.array_equal(one.cell, other.cell)
        and np.array_equal(one.positions, other.positions)
    )


def _raise(error: Exception) -> None:
    raise error
