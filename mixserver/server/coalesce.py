"""Work shared by several waiters: done once, and cancelled or kept when they leave."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Coroutine
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

from mixserver.server.timing import Timing

_T = TypeVar("_T")


class SharedTask(Generic[_T]):
    """A task that starts with its first waiter and runs once for all of them.

    Waiters are inside its context. It is cancelled when the last one leaves before it is done.
    `make` does the work, and notes its times.
    """

    def __init__(self, make: Callable[[Timing], Coroutine[Any, Any, _T]]) -> None:
        self.timing = Timing()
        self._make: Callable[[Timing], Coroutine[Any, Any, _T]] | None = make
        self._task: asyncio.Task[_T] | None = None
        self._waiting = 0
        self._abandoned = False

    @property
    def running(self) -> bool:
        """Whether it has started and is not done."""
        return self._task is not None and not self._task.done()

    @property
    def usable(self) -> bool:
        """Whether it can be waited for: it neither failed nor was abandoned."""
        if self._abandoned or self._task is None or not self._task.done():
            return not self._abandoned
        return not self._task.cancelled() and self._task.exception() is None

    def __enter__(self) -> Self:
        if self._make is not None:
            self._task = asyncio.ensure_future(self._make(self.timing))
            self._task.add_done_callback(_retrieve_error)
            self._make = None  # free what it holds
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
            self._abandoned = True
            self._task.cancel()

    async def result(self) -> _T:
        """Wait for it, inside its context; once it is done, anywhere.

        Raises:
            RuntimeError: the caller is outside of its context.
            Exception: what the work raised.
        """
        if self._task is None or not (self._waiting or self._task.done()):
            raise RuntimeError("a shared task is waited for outside of its context")
        if not self._task.done():
            await asyncio.wait((self._task,))
        return self._task.result()


async def wait_all(*shared: SharedTask[Any]) -> None:
    """Wait for several tasks, started in this order; the first to fail fails all.

    Raises:
        Exception: what the first to fail raised.
    """
    with contextlib.ExitStack() as stack:
        tasks = [stack.enter_context(piece)._task for piece in shared]
        going = [task for task in tasks if task is not None and not task.done()]
        if going:
            await asyncio.wait(going, return_when=asyncio.FIRST_EXCEPTION)
        for task in tasks:
            if task is not None and task.done():
                task.result()


def cache_async(make: Callable[[], Awaitable[_T]]) -> Callable[[], Awaitable[_T]]:
    """Make something once, however many wait for it at the same time; again if it failed."""
    making: asyncio.Future[_T] | None = None

    async def made() -> _T:
        nonlocal making
        if making is None or (making.done() and (making.cancelled() or making.exception())):
            making = asyncio.ensure_future(make())
        return await asyncio.shield(making)

    return made


def _retrieve_error(task: asyncio.Task[Any]) -> None:
    """Mark the error as retrieved: waiters got it, and without waiters it does not matter."""
    if not task.cancelled():
        task.exception()
