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
from typing import Final

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
"""The same if it hung up because of its <timeout>: it comes back once its other requests let it."""

_IMPATIENT: Final = (
    "it ended, or its <timeout> is shorter than an evaluation: then it asks for the same again, "
    "which the evaluation under way answers. Take <timeout> out of its <ffsocket> (none is the "
    "default), or set it well above the time of the slowest evaluation"
)


@dataclass(slots=True, eq=False)
class Work:
    """The evaluation of one request."""

    request: Request
    task: asyncio.Future[Reply]
    link: Link
    """Which connection asked for it last."""
    began: float = field(default_factory=time.monotonic)
    waited_s: float = 0.0
    """For how long it was waited for, by all connections one after the other."""
    left_at: float | None = None
    """time.time() when its connection was lost; None while somebody waits."""


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
        self._watches: set[asyncio.Task[None]] = set()
        self._impatient = 0
        """How often i-PI did not wait."""

    async def replies(self, link: Link, requests: Sequence[Request]) -> list[Reply]:
        """Evaluate requests at once, or go on with what is under way for them.

        When this is cancelled, because the connection is lost, the evaluations go on for a while;
        so they do when they took too long for one wait.

        Args:
            link: which connection asks. If that is for something new, what is left of its own
                earlier requests is withdrawn.
            requests: what is wanted.

        Raises:
            NoAnswer: they took longer than `longest_s`, and go on.
            EvaluationError: they took several times as long, in all.
            Exception: what evaluating one of them raised; the others are withdrawn.
        """
        found = [self._adopt(request, link) for request in requests]
        if not any(found):
            self._drop([w for w in self._works if w.left_at is not None and w.link is link])
        works = [
            work if work is not None else self._begin(request, link)
            for work, request in zip(found, requests, strict=True)
        ]
        began = time.monotonic()
        left_s = _MOST * self._longest_s - max(work.waited_s for work in works)
        try:
            done, waiting = await asyncio.wait(
                {work.task for work in works},
                timeout=max(0.0, min(self._longest_s, left_s)),
                return_when=asyncio.FIRST_EXCEPTION,
            )
        except asyncio.CancelledError:
            self._leave(works)
            raise
        finally:
            for work in works:
                work.waited_s += time.monotonic() - began
        failed = [w for w in works if w.task in done and _failed(w.task)]
        if waiting and not failed:
            waited_s = max(work.waited_s for work in works)
            if waited_s < _MOST * self._longest_s:
                self._leave(works)
                raise NoAnswer(
                    f"no answer after {self._longest_s:g} s (upstream.force_timeout_s); i-PI is "
                    "told, and asks again"
                )
            self._drop(works)
            raise EvaluationError(
                f"no answer after {waited_s:.4g} s in all, though i-PI asked again and again: "
                f"{_MOST} times upstream.force_timeout_s = {self._longest_s:g} s. Raise that if "
                "an evaluation may take so long, or look what the workers are doing"
            )
        self._drop(works)
        if failed:
            return [failed[0].task.result()]  # raises
        return [work.task.result() for work in works]

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
        mine = [work for work in self._works if work.left_at is not None and work.link is link]
        if mine:
            kept_s = _KEPT_FOR_IMPATIENT_S if impatient else _KEPT_S
            watch = asyncio.ensure_future(self._watch(mine, kept_s))
            self._watches.add(watch)
            watch.add_done_callback(self._watches.discard)

    async def clear(self) -> None:
        """End everything."""
        works = list(self._works)
        self._drop(works)
        for watch in self._watches:
            watch.cancel()
        await asyncio.gather(*self._watches, *(w.task for w in works), return_exceptions=True)

    def _adopt(self, request: Request, link: Link) -> Work | None:
        """What was left of this very request, if anything."""
        for work in self._works:
            if work.left_at is not None and _same(work.request, request):
                log.info(
                    "i-PI asks again for what is under way",
                    since_s=round(time.monotonic() - work.began, 1),
                    done=work.task.done(),
                )
                work.left_at, work.link = None, link
                return work
        return None

    def _begin(self, request: Request, link: Link) -> Work:
        work = Work(request, asyncio.ensure_future(self._answer(request)), link)
        self._works.append(work)
        return work

    def _leave(self, works: Sequence[Work]) -> None:
        now = time.time()
        for work in works:
            others = [w for w in self._works if w is not work and w.left_at is None]
            if any(_same(work.request, other.request) for other in others):
                self._drop([work])  # i-PI gave it to another connection before this one was lost
            elif work.task.done() and _failed(work.task):
                self._drop([work])
            else:
                work.left_at = now

    def _drop(self, works: Sequence[Work]) -> None:
        for work in works:
            with contextlib.suppress(ValueError):
                self._works.remove(work)
            if work.task.done():
                _failed(work.task)
            else:
                work.task.cancel()

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


def _failed(task: asyncio.Future[Reply]) -> bool:
    """Whether a work that is done failed; asking marks its error as seen."""
    return task.cancelled() or task.exception() is not None
