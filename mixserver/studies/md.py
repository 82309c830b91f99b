"""Trajectories of a task: i-PI in segments, each from the RESTART of the one before.

A segment that was interrupted is made again from its beginning, by processes that start as they did
the first time. So a task that is killed at any point and started again makes the same trajectory to
the bit, on the same machine with workers of one thread, and loses one segment at most.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from mixserver.config import Case
from mixserver.core.errors import ConfigError
from mixserver.ipi.input import read_input
from mixserver.server.launch import Run, run_case
from mixserver.server.runs import note_end, read_run_info, run_lock
from mixserver.studies.study import Stopped, TaskContext

_LOOK_S: Final = 1.0
_DONE: Final = "done"


async def run_segments(
    context: TaskContext,
    case: Case,
    *,
    segments: int = 1,
    share: tuple[float, float] = (0.0, 1.0),
) -> list[Path]:
    """Run a case of a task to its last step, or go on where it was interrupted.

    Args:
        context: the task's.
        case: its case, with a folder inside that of the task; see `write_case`.
        segments: into how many parts of equal length the run is divided; 1 for a minimiser or a
            band, which i-PI ends when it has converged.
        share: which part of the task this is, for progress.

    Returns:
        The folders of the segments, oldest first, as `read_properties` takes them.

    Raises:
        Stopped: `context.stop` was set.
        MixserverError: the run failed.
    """
    total = read_input(case.folder / case.config.ipi.input).total_steps
    segments = max(1, min(segments, total))
    done: list[Path] = []
    made = 0
    for number in range(1, segments + 1):
        folder = case.runs / f"{number:04d}"
        if not _complete(folder):
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
            steps = math.ceil(number * total / segments)
            restart = done[-1] / "RESTART" if done else None
            reach = [share[0] + (share[1] - share[0]) * at / total for at in (made, steps)]
            await _segment(context, case, folder, restart, steps, reach)
        made = math.ceil(number * total / segments)
        done.append(folder)
    context.report(share[1], 1.0)
    return done


def _complete(folder: Path) -> bool:
    try:
        about = read_run_info(folder)
    except ConfigError:
        return False
    return about is not None and about.ended == _DONE


async def _segment(
    context: TaskContext,
    case: Case,
    folder: Path,
    restart: Path | None,
    steps: int,
    reach: Sequence[float],
) -> None:
    shown: asyncio.Queue[Run] = asyncio.Queue()
    telling = asyncio.create_task(_tell(context, shown, reach))
    try:
        with run_lock(folder):
            await run_case(
                case, folder, stop=context.stop, restart=restart, steps=steps, shown=shown
            )
    finally:
        telling.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await telling
    if context.stop.is_set():
        raise Stopped
    note_end(folder, _DONE)


async def _tell(context: TaskContext, shown: asyncio.Queue[Run], reach: Sequence[float]) -> None:
    run = await shown.get()
    tail, begun, total = run.properties_tail(), run.ipi.step, run.ipi.total_steps
    while True:
        done = (tail.last().get("step", 0.0) - begun) / (total - begun)
        context.report(reach[0] + (reach[1] - reach[0]) * min(1.0, max(0.0, done)), 1.0)
        await asyncio.sleep(_LOOK_S)
