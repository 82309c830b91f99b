"""Progress of work in named steps: bars on a terminal, lines elsewhere."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Coroutine, Iterator
from typing import Any, TypeVar

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

Show = Callable[[str, int, int], None]
"""Called with (step, done, total); a total of 0 is unknown."""

_LINE_EVERY_S = 10.0
_Result = TypeVar("_Result")


async def until_stopped(work: Coroutine[Any, Any, _Result]) -> _Result | None:
    """Await work, or end it in order at a signal to stop; None if it was stopped."""
    from mixserver.server.launch import on_stop_signals

    task = asyncio.ensure_future(work)
    # once: a second one would disturb the orderly end of i-PI
    stop = asyncio.Event()
    on_stop_signals(asyncio.get_running_loop(), stop.set)
    stopping = asyncio.ensure_future(stop.wait())
    await asyncio.wait({task, stopping}, return_when=asyncio.FIRST_COMPLETED)
    if not task.done():
        task.cancel()
        await asyncio.wait({task})
        return None
    stopping.cancel()
    return task.result()


@contextlib.contextmanager
def shown(*, quiet: bool = False) -> Iterator[Show]:
    """A function that shows how far steps are, inside this context."""
    if quiet:
        yield lambda step, done, total: None
        return
    console = Console(stderr=True)
    if not console.is_terminal:
        yield _lines(console)
        return
    bar = Progress(
        TextColumn("{task.description:<20}"),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("ETA"),
        TimeRemainingColumn(compact=True),
        console=console,
    )
    tasks: dict[str, TaskID] = {}

    def show(step: str, done: int, total: int) -> None:
        if step not in tasks:
            tasks[step] = bar.add_task(step, total=total or None)
        bar.update(tasks[step], completed=done, total=total or None)

    with bar:
        yield show


def _lines(console: Console) -> Show:
    began = time.monotonic()
    last: dict[str, float] = {}
    first: dict[str, tuple[float, int]] = {}
    """When a step was first shown, and how far it was then."""

    def show(step: str, done: int, total: int) -> None:
        now, unfinished = time.monotonic(), done < total or not total
        pause = _LINE_EVERY_S if unfinished else 0.0
        if now < last.get(step, -pause) + pause:
            return
        last[step] = float("inf") if 0 < total <= done else now
        first_time, first_done = first.setdefault(step, (now, done))
        left = ""
        if unfinished and total and done > first_done:
            pace = (now - first_time) / (done - first_done)
            left = f"  {pace * (total - done):.0f} s left"
        console.print(
            f"{now - began:7.1f} s  {step}  {done}{f'/{total}' if total else ''}{left}",
            highlight=False,
            soft_wrap=True,
        )

    return show
