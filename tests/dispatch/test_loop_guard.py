"""A failed timer ends the run; a task that was not awaited does not."""

from __future__ import annotations

import asyncio
import gc

import pytest
import structlog

from mixserver.core.errors import MixserverError
from mixserver.dispatch.loop_guard import end_on_loop_error


async def test_a_failed_timer_ends_the_run_once_with_its_error() -> None:
    ended: list[MixserverError] = []
    loop = asyncio.get_running_loop()
    end_on_loop_error(loop, ended.append)
    died = asyncio.Event()

    def beat() -> None:
        loop.call_soon(died.set)
        raise KeyError("worker b")

    for _ in range(2):
        died.clear()
        loop.call_later(0.0, beat)
        await died.wait()
    (error,) = ended
    assert "KeyError: 'worker b'" in str(error)
    assert "beat" in str(error)
    assert "server.log" in str(error)


async def test_a_log_that_fails_does_not_keep_the_run_going() -> None:
    def fails(*_: object) -> str:
        raise TypeError("a library of another version")

    structlog.configure(processors=[fails])
    ended: list[MixserverError] = []
    loop = asyncio.get_running_loop()
    end_on_loop_error(loop, ended.append)
    loop.call_soon(lambda: 1 / 0)
    await asyncio.sleep(0.0)
    await asyncio.sleep(0.0)
    assert "ZeroDivisionError" in str(ended[0])


async def test_a_failed_task_that_was_not_awaited_is_not_a_failed_timer() -> None:
    ended: list[MixserverError] = []
    loop = asyncio.get_running_loop()
    end_on_loop_error(loop, ended.append)

    async def fail() -> None:
        raise ValueError("the peer disconnected")

    task = asyncio.create_task(fail())
    with pytest.raises(ValueError, match="disconnected"):
        await task
    lonely = asyncio.create_task(fail())
    await asyncio.wait({lonely})
    del lonely
    gc.collect()
    await asyncio.sleep(0)
    assert ended == []
