"""Runs the tasks of a study, several at a time, each in a process of its own.

A task that fails does not end the others. Stopped, all end in order. Killed, their processes end
with this one; the next run goes on.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

import msgspec
import structlog

from mixserver.core.atomic_write import write_atomically
from mixserver.core.errors import ConfigError, MixserverError, first_error
from mixserver.core.processes import ManagedProcess, how_ended, start_process
from mixserver.server.launch import on_stop_signals
from mixserver.studies.arms import check_arm
from mixserver.studies.study import (
    FAILURE,
    LOG,
    RESULT,
    Results,
    Stopped,
    Task,
    TaskContext,
    is_running,
    made_with,
    task_lock,
)

log = structlog.get_logger(__name__)

STOPPED: Final = 130
"""Exit status of a task that was told to end."""
ELSEWHERE: Final = 75
"""Exit status of a task on which another process works."""
FAILED: Final = 1
_GRACE_S: Final = 90.0
_LOOK_S: Final = 0.5
_LINES: Final = 12

Progress = Callable[[float, float, Sequence[str]], None]
"""Called with the tasks done (fractions of running ones included), all tasks, and running names."""


@dataclass(slots=True)
class Ended:
    """What became of the tasks of one call."""

    done: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)
    """Why, by name."""
    elsewhere: list[str] = field(default_factory=list)
    """Tasks on which another process works."""
    stopped: bool = False


def missing_tasks(results: Results, names: Sequence[str] = ()) -> list[Task]:
    """The tasks without a result, of those named or of all.

    Raises:
        ConfigError: a result was made with other settings, or a name is not a task's.
    """
    now = made_with(results.study)
    tasks = results.study.tasks(results.size)
    known = {task.name for task in tasks}
    if unknown := [name for name in names if name not in known]:
        raise ConfigError(
            f"there is no task {unknown[0]!r}; those of this size are {', '.join(sorted(known))}"
        )
    wanted = [task for task in tasks if not names or task.name in names]
    return [task for task in wanted if results.read(task, now) is None]


def check_study(results: Results, folder: Path) -> int:
    """Check the cases of all arms, written below a folder, before any task runs.

    Returns:
        How many there are; 0 if the study names none.

    Raises:
        ConfigError: a model is missing or lacks an element, a region does not fit into its cell ...
    """
    study = results.study
    if study.cases is None:
        return 0
    seen: set[tuple[str, ...]] = set()
    cases = study.cases(results.size, study.base(), study.workers(), folder)
    for case in cases:
        # a model is loaded once for all arms, which have the same elements
        new = tuple(one for one in case.config.local if one.command not in seen)
        seen |= {one.command for one in new}
        check_arm(replace(case, config=msgspec.structs.replace(case.config, local=new)))
    return len(cases)


async def run_tasks(
    results: Results,
    tasks: Sequence[Task],
    *,
    at_once: int,
    stop: asyncio.Event,
    progress: Progress = lambda done, total, names: None,
) -> Ended:
    """Run some tasks, so many at a time, in the order given.

    Args:
        results: where they belong.
        tasks: without results.
        at_once: processes at a time.
        stop: once set, running tasks end in order and no other begins.
        progress: see `Progress`.
    """
    ended = Ended()
    waiting = list(tasks)
    running: dict[asyncio.Task[int], tuple[Task, ManagedProcess]] = {}
    halt = asyncio.ensure_future(stop.wait())
    try:
        while running or (waiting and not stop.is_set()):
            while waiting and len(running) < at_once and not stop.is_set():
                task = waiting.pop(0)
                if is_running(results.task_folder(task)):
                    ended.elsewhere.append(task.name)
                    continue
                process = await _start(results, task)
                running[asyncio.create_task(process.wait())] = (task, process)
            if not running:
                continue
            await asyncio.wait(
                {*running, *(() if halt.done() else (halt,))},
                timeout=_LOOK_S,
                return_when=asyncio.FIRST_COMPLETED,
            )
            if stop.is_set():
                await asyncio.gather(*(p.end(_GRACE_S) for _, p in running.values()))
            for future in [one for one in running if one.done()]:
                task, process = running.pop(future)
                await process.end(_GRACE_S)
                _sort(ended, results, task, future.result(), process, stopped=stop.is_set())
            names = [task.name for task, _ in running.values()]
            shares = sum(results.progress(task) for task, _ in running.values())
            finished = len(ended.done) + len(ended.failed) + len(ended.elsewhere)
            progress(finished + shares, len(tasks), names)
    finally:
        halt.cancel()
        await asyncio.gather(*(process.end(_GRACE_S) for _, process in running.values()))
    ended.stopped = stop.is_set()
    order = [task.name for task in tasks]
    ended.failed = {name: ended.failed[name] for name in order if name in ended.failed}
    return ended


async def _start(results: Results, task: Task) -> ManagedProcess:
    folder = results.task_folder(task)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / FAILURE).unlink(missing_ok=True)
    runs = ["--runs", str(results.runs.resolve())] if results.runs else []
    return await start_process(
        task.name,
        [
            sys.executable,
            str(results.study.script.resolve()),
            *("task", task.name, "--size", results.size, *runs),
        ],
        folder=results.study.folder,
        log_file=folder / LOG,
        environment={"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"},
    )


def _sort(
    ended: Ended, results: Results, task: Task, code: int, process: ManagedProcess, *, stopped: bool
) -> None:
    folder = results.task_folder(task)
    if code == 0 and (folder / RESULT).exists():
        ended.done.append(task.name)
    elif code == ELSEWHERE:
        ended.elsewhere.append(task.name)
    elif not (stopped or code == STOPPED):
        why = results.failure(task) if code == FAILED else ""
        ended.failed[task.name] = why or f"its process {how_ended(code)}; " + process.quoted_log(
            _LINES
        )


def run_one(results: Results, task: Task) -> int:
    """Run one task in this process; returns the exit status."""
    folder = results.task_folder(task)
    with task_lock(folder) as mine:
        if not mine:
            return ELSEWHERE
        study = results.study
        now = made_with(study)
        if results.read(task, now) is not None:
            return 0
        context = TaskContext(task, folder, study.base(), study.workers())
        try:
            values = asyncio.run(_stoppable(results, context))
        except Stopped:
            return STOPPED
        except (MixserverError, ExceptionGroup) as error:
            if not isinstance(first := first_error(error), MixserverError):
                raise
            write_atomically(folder / FAILURE, f"{first}\n".encode())
            return FAILED
        results.write(task, now, values)
    return 0


async def _stoppable(results: Results, context: TaskContext) -> dict[str, object]:
    on_stop_signals(asyncio.get_running_loop(), context.stop.set)
    values = await results.study.run(context)
    if context.stop.is_set():
        raise Stopped
    return values
