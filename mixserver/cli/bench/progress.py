"""Progress of a benchmark: a bar on a terminal, and rows above it as they come."""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import Self

import click
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

from mixserver.analysis.bench.report import Row


class SuiteProgress:
    """A bar on stderr for what is being measured; nothing where that is no terminal."""

    def __init__(self) -> None:
        console = Console(stderr=True)
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            TaskProgressColumn("{task.completed:.0f}/{task.total:.0f}"),
            TimeElapsedColumn(),
            console=console,
            transient=True,
            redirect_stdout=False,
            disable=not console.is_terminal,
        )
        self._task = self._bar.add_task("starting", total=None)

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bar.stop()

    def update(self, what: str, done: int, total: int) -> None:
        """Show how many rounds of what are done."""
        self._bar.update(self._task, description=what, completed=done, total=total, refresh=True)

    def above(self, text: Callable[[Row], str]) -> Callable[[Row], None]:
        """A function that prints the text of a row above the bar, on stdout."""

        def show(row: Row) -> None:
            self._bar.stop()
            click.echo(text(row))
            self._bar.start()

        return show
