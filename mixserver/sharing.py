"""Work that several may wait for: done once, and ended when nobody waits any more.

Knows neither frames nor workers.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Coroutine
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

_T = TypeVar("_T")


class Times:
    """When a piece of work was the server's own, and when its last answer came."""

    def __init__(self) -> None:
        self.busy: list[tuple[float, float]] = []
        """From when to when the server itself worked at it, on the event loop's clock (s)."""
        self.last_answer = 0.0
        """When nothing was missing any more, on the same clock."""


class Shared(Generic[_T]):
    """A piece of work that is begun when the first waits for it, and done once for all who do.

    Who waits is inside its context. When the last leaves before it is done, it is cancelled: what
    nobody wants is not evaluated.

    Args:
        make: does the work, and says what of its time was the server's own.
    """

    def __init__(self, make: Callable[[Times], Coroutine[Any, Any, _T]]) -> None:
        self.times = Times()
        self._make: Callable[[Times], Coroutine[Any, Any, _T]] | None = make
        self._task: asyncio.Task[_T] | None = None
        self._waiting = 0
        self._left = False

    @property
    def running(self) -> bool:
        """Whether it is being done."""
        return self._task is not None and not self._task.done()

    @property
    def usable(self) -> bool:
        """Whether it pays to wait for it: it neither failed nor was left."""
        if self._left or self._task is None or not self._task.done():
            return not self._left
        return not self._task.cancelled() and self._task.exception() is None

    def __enter__(self) -> Self:
        if self._make is not None:
            self._task = asyncio.ensure_future(self._make(self.times))
            self._task.add_done_callback(_look)
            self._make = None  # it holds on to what it was made from
        self._waiting += 1
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._waiting -= 1
        if not self._waiting and self._task is not None and not self._task.done():
            self._left = True
            self._task.cancel()

    async def result(self) -> _T:
        """Wait for it, inside its context; once it is done, anywhere.

        Raises:
            RuntimeError: it is waited for outside of its context.
            Exception: what the work raised.
        """
        if self._task is None or not (self._waiting or self._task.done()):
            raise RuntimeError("shared work is waited for outside of its context")
        if not self._task.done():
            await asyncio.wait((self._task,))
        return self._task.result()


async def together(*pieces: Shared[Any]) -> None:
    """Wait for several pieces, begun in this order; the first to fail fails all.

    Raises:
        Exception: what the first to fail raised.
    """
    with contextlib.ExitStack() as stack:
        tasks = [stack.enter_context(piece)._task for piece in pieces]
        going = [task for task in tasks if task is not None and not task.done()]
        if going:
            await asyncio.wait(going, return_when=asyncio.FIRST_EXCEPTION)
        for task in tasks:
            if task is not None and task.done():
                task.result()


def waited(since: float, *pieces: Shared[Any]) -> float:
    """Seconds since some time in which there was nothing to do but wait for others' answers."""
    until = max(piece.times.last_answer for piece in pieces)
    own = sum(
        max(0.0, min(end, until) - max(begin, since))
        for piece in pieces
        for begin, end in piece.times.busy
    )
    return max(0.0, until - since - own)


def _look(task: asyncio.Task[Any]) -> None:
    """Whoever waited got the error; that nobody did is no error of its own."""
    if not task.cancelled():
        task.exception()
