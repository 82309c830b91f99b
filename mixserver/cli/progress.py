"""Progress of a run: a bar on a terminal, occasional lines elsewhere."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Mapping

import structlog
from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn
from rich.text import Text

from mixserver.cli.status_text import duration
from mixserver.ipi.final_state import final_step
from mixserver.ipi.output import PropertiesTail
from mixserver.server.launch import Run
from mixserver.server.records.report import Report

log = structlog.get_logger(__name__)

_LINE_EVERY_S = 10.0
_MOST_S = 600.0
"""Longest time between two lines; it grows with the run, so that a log of days stays short."""
_PACE_S = 30.0
"""The pace is that of the last so many seconds, or of one step where that takes longer."""

_ENDED = frozenset({"done", "stopped"})
"""Stages in which i-PI has written its last RESTART."""


class Pace:
    """Steps per second and the time left, from when which step was seen.

    Args:
        total: number of the last step.
    """

    def __init__(self, total: int) -> None:
        self._total = total
        self._start: float | None = None
        self._seen: deque[tuple[float, float]] = deque()

    def see(self, now: float, step: float) -> None:
        """Note the step at a time in seconds."""
        if self._start is None:
            self._start = step
        if step == (self._seen[-1][1] if self._seen else self._start):
            return
        self._seen.append((now, step))
        while len(self._seen) > 2 and self._seen[1][0] < now - _PACE_S:
            self._seen.popleft()

    @property
    def per_s(self) -> float | None:
        """Steps per second; None before two were seen to begin."""
        if len(self._seen) < 2:
            return None
        (began, first), (now, step) = self._seen[0], self._seen[-1]
        return (step - first) / (now - began) if now > began and step > first else None

    @property
    def left_s(self) -> float | None:
        """Seconds to the last step; None while unknown."""
        per_s = self.per_s
        return None if per_s is None else max(0.0, self._total - self._seen[-1][1]) / per_s

    def __str__(self) -> str:
        per_s, left_s = self.per_s, self.left_s
        if per_s is None or left_s is None:
            return ""
        rate = f"{per_s:.3g} steps/s" if per_s >= 0.1 else f"{1.0 / per_s:.3g} s/step"
        return f"{rate}  ETA {duration(left_s)}" if left_s > 0.0 else rate


class _Console(Console):
    """A terminal that may be closed: the run continues, and its records are in files."""

    def on_broken_pipe(self) -> None:
        """Print nothing more, instead of ending the program."""
        self.quiet = True


async def show(runs: asyncio.Queue[Run], *, quiet: bool = False, as_events: bool = False) -> None:
    """Show a run as soon as it exists, until cancelled; as events of the log if asked."""
    run = await runs.get()
    if quiet:
        return
    if as_events:
        await _events(run, run.properties_tail())
        return
    console = _Console(stderr=True)
    tail = run.properties_tail()
    if console.is_terminal:
        await _bar(run, tail, console)
    else:
        await _lines(run, tail, console)


async def _bar(run: Run, tail: PropertiesTail, console: Console) -> None:
    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        TaskProgressColumn("{task.completed:.0f}/{task.total:.0f}"),
        TextColumn("{task.fields[pace]}"),
        console=console,
    )
    task = bar.add_task(run.stage, total=run.ipi.total_steps, pace="")
    pace = Pace(run.ipi.total_steps)

    def shown() -> Group:
        step, words = _state(run, tail)
        pace.see(time.monotonic(), step)
        bar.update(task, description=run.stage, completed=step, pace=str(pace))
        return Group(bar, *(Text(word, style="dim", no_wrap=True) for word in words))

    with Live(shown(), console=console, auto_refresh=False) as live:
        try:
            while True:
                live.update(shown(), refresh=True)
                await asyncio.sleep(0.25)
        finally:
            live.update(shown(), refresh=True)


async def _lines(run: Run, tail: PropertiesTail, console: Console) -> None:
    printed = ("", -1.0)
    last = -_LINE_EVERY_S
    began = time.monotonic()
    pace = Pace(run.ipi.total_steps)

    def print_line() -> None:
        step, words = _state(run, tail)
        parts = [f"step {step:.0f}/{run.ipi.total_steps}", str(pace), *words]
        console.print(
            f"{time.monotonic() - began:7.1f} s  {run.stage}  {'  '.join(filter(None, parts))}",
            highlight=False,
            soft_wrap=True,
        )

    try:
        while True:
            step, _ = _state(run, tail)
            now = time.monotonic()
            pace.see(now, step)
            if run.stage != printed[0] or now - last > _between(now - began):
                print_line()
                printed, last = (run.stage, step), now
            await asyncio.sleep(0.5)
    finally:
        step = _state(run, tail)[0]
        pace.see(time.monotonic(), step)
        if (run.stage, step) != printed:
            print_line()


def _between(age_s: float) -> float:
    """Seconds between two lines of a run that is so old."""
    return min(max(_LINE_EVERY_S, 0.02 * age_s), _MOST_S)


async def _events(run: Run, tail: PropertiesTail) -> None:
    pace = Pace(run.ipi.total_steps)
    while True:
        step, _ = _state(run, tail)
        pace.see(time.monotonic(), step)
        evaluations = sum(run.service.parts.recorder.counts.values())
        log.info(
            "progress",
            stage=run.stage,
            step=int(step),
            total_steps=run.ipi.total_steps,
            evaluations=evaluations,
            steps_per_s=None if pace.per_s is None else float(f"{pace.per_s:.3g}"),
            eta_s=None if pace.left_s is None else round(pace.left_s),
        )
        await asyncio.sleep(_LINE_EVERY_S)


def _state(run: Run, tail: PropertiesTail) -> tuple[float, list[str]]:
    """The step, and one or two lines about the state."""
    properties = tail.last()
    report = run.service.parts.recorder.latest
    step = _step(run, properties.get("step"), report)
    words = []
    kelvin = printed_temperature(properties, step)
    if report is not None:
        mixed = run.case.config.region is not None
        words += _words(kelvin, report, mixed=mixed)
    elif run.stage == "running":
        words.append("waiting for i-PI's first request")
    return step, words


def _step(run: Run, printed: float | None, report: Report | None) -> float:
    """Steps made: i-PI may print few of them, and not the last."""
    if run.stage in _ENDED and (final := final_step(run.folder)) is not None:
        return float(final)
    evaluation = None if report is None else report.evaluation
    steps = run.snapshots.steps
    made = printed if steps is None else steps.made(printed, evaluation)
    return float(run.ipi.step + (evaluation or 0) if made is None else made)


def printed_temperature(properties: Mapping[str, float], step: float) -> str:
    """The temperature that i-PI printed last, and of which step if that is over."""
    if "temperature" not in properties:
        return ""
    printed = properties.get("step")
    words = f"T {properties['temperature']:.0f} K"
    if printed is None:
        return f"{words} (last printed)  "
    return f"{words}  " if printed >= step else f"{words} at step {printed:.0f}  "


def _words(kelvin: str, report: Report, *, mixed: bool) -> list[str]:
    sizes = (
        f"core {report.core}  blend {report.blend}  buffer {report.buffer}  halo {report.halo}"
        if report.clusters or report.core
        else "no atom is expensive"
    )
    return [
        f"{kelvin}{sizes if mixed else ''}",
        f"ms: cheap {_ms(report.ms_cheap)}  expensive {_ms(report.ms_expensive)}  "
        f"waiting {report.ms_waiting:.0f}  own {report.ms_own:.2f}",
    ]


def _ms(took: float | None) -> str:
    """A time, or "-" if the model was not evaluated."""
    return "-" if took is None else f"{took:.0f}"
