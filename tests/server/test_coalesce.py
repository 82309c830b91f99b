"""Work that several wait for is done once, and ended when nobody waits any more."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable
from typing import Any

import pytest

from mixserver.server.coalesce import SharedTask, wait_all
from mixserver.server.timing import Timing


class Work:
    """Counts how often it was begun and ended; done when told to be."""

    def __init__(self, error: Exception | None = None) -> None:
        self.begun = self.cancelled = 0
        self.go = asyncio.Event()
        self._error = error

    async def __call__(self, times: Timing) -> int:
        self.begun += 1
        try:
            await self.go.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        if self._error is not None:
            raise type(self._error)(*self._error.args)  # one that holds on to no test
        return 7


async def _turns() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def _wait(shared: SharedTask[int]) -> int:
    with shared:
        return await shared.result()


async def test_it_is_begun_by_the_first_and_done_once_for_all() -> None:
    work = Work()
    shared = SharedTask(work)
    await _turns()
    assert (work.begun, shared.running, shared.usable) == (0, False, True)
    waiting = [asyncio.ensure_future(_wait(shared)) for _ in range(3)]
    await _turns()
    assert shared.running
    work.go.set()
    assert await asyncio.gather(*waiting, _wait(shared)) == [7] * 4
    assert (work.begun, shared.running, shared.usable) == (1, False, True)


async def test_who_leaves_ends_it_only_if_nobody_else_waits() -> None:
    work = Work()
    shared = SharedTask(work)
    first, second = (asyncio.ensure_future(_wait(shared)) for _ in range(2))
    await _turns()
    first.cancel()
    await _turns()
    assert (work.cancelled, shared.usable) == (0, True)
    second.cancel()
    await asyncio.gather(first, second, return_exceptions=True)
    await _turns()
    assert (work.cancelled, shared.running, shared.usable) == (1, False, False)


async def test_what_was_left_cannot_be_joined_again() -> None:
    work = Work()
    shared = SharedTask(work)
    with shared:
        await _turns()
        assert shared.usable
    assert (work.cancelled, shared.running, shared.usable) == (0, True, False)  # not noticed yet
    await _turns()
    assert work.cancelled == 1


async def test_the_first_to_fail_fails_all_and_ends_the_rest() -> None:
    bad, good = Work(ValueError("bad")), Work()
    failing, other = SharedTask(bad), SharedTask(good)
    both = asyncio.ensure_future(wait_all(other, failing))
    await _turns()
    bad.go.set()
    with pytest.raises(ValueError, match="bad"):
        await both
    await _turns()
    assert (good.cancelled, failing.usable, other.usable) == (1, False, False)


async def test_an_error_that_nobody_waits_for_is_no_error(
    loop_errors: Callable[[], list[dict[str, Any]]],
) -> None:
    works = [Work(ValueError("one")), Work(ValueError("other"))]
    both = asyncio.ensure_future(wait_all(*(SharedTask(work) for work in works)))
    await _turns()
    for work in works:
        work.go.set()
    with pytest.raises(ValueError, match="one"):
        await both
    del both
    await _turns()
    assert loop_errors() == []


async def test_waiting_outside_its_context_is_refused() -> None:
    with pytest.raises(RuntimeError, match="outside"):
        await SharedTask(Work()).result()


def test_waiting_excludes_the_servers_own_work() -> None:
    def waited(since: float, *pieces: Timing) -> float:
        timing = Timing()
        timing.wait_for(pieces, since)
        return timing.waiting

    cheap = Timing(last_result=10.0)
    rest = Timing(last_result=12.0, busy=[(1.0, 1.5), (4.0, 6.0)])
    assert waited(1.0, cheap) == 9.0
    assert waited(1.0, cheap, rest) == 11.0 - 0.5 - 2.0
    assert waited(5.0, cheap, rest) == 7.0 - 1.0  # joined later
    assert waited(13.0, cheap, rest) == 0.0  # it was there


@pytest.fixture
async def loop_errors() -> Callable[[], list[dict[str, Any]]]:
    """What the event loop complained about so far."""
    said: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: said.append(context))

    def heard() -> list[dict[str, Any]]:
        gc.collect()
        return said

    return heard
