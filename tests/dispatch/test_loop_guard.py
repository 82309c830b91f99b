"""A timer that dies ends the run; a task that nobody awaited does not."""

from __future__ import annotations

import asyncio
import gc

import pytest

from mixserver.dispatch.guard import end_on_loop_error
from mixserver.errors import MixserverError


async def test_a_timer_that_dies_ends_the_run_once_and_says_how() -> None:
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


async def test_a_task_that_failed_and_that_nobody_awaited_is_no_dead_timer() -> None:
    ended: list[MixserverError] = []
    loop = asyncio.get_running_loop()
    end_on_loop_error(loop, ended.append)

    async def fail() -> None:
        raise ValueError("somebody hung up")

    task = asyncio.create_task(fail())
    with pytest.raises(ValueError, match="hung up"):
        await task
    lonely = asyncio.create_task(fail())
    await asyncio.wait({lonely})
    del lonely
    gc.collect()
    await asyncio.sleep(0)
    assert ended == []
