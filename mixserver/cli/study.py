"""The command line of a study's study.py: run, status and analyse."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

from mixserver.cli.echo import echo_line
from mixserver.core.command_group import CommandGroup
from mixserver.core.scratch import scratch_directory

if TYPE_CHECKING:
    from mixserver.studies.study import Results, Study


def study_command(study: Study) -> click.Group:
    """The commands of a study; its study.py ends with `study_command(STUDY)()`."""
    size = click.option(
        "--size",
        type=click.Choice(list(study.sizes)),
        default=study.sizes[0],
        show_default=True,
        help="How long and how large: the first finishes here, the paper's needs a cluster.",
    )
    runs = click.option(
        "--runs",
        type=click.Path(file_okay=False, path_type=Path),
        help="Where tasks have their folders, instead of `runs` beside study.py.",
    )

    @click.group(cls=CommandGroup, help=study.title)
    @click.option("--traceback", is_flag=True, help="On an error, show where in the code it arose.")
    def group(traceback: bool) -> None:
        pass

    @group.command()
    @size
    @runs
    @click.option(
        "--at-once",
        type=click.IntRange(min=1),
        help="Tasks at a time; one per core that this process may use, if not given.",
    )
    @click.option("--quiet", is_flag=True, help="Print errors only.")
    @click.argument("names", nargs=-1, metavar="[TASK]...")
    def run(
        size: str, runs: Path | None, at_once: int | None, quiet: bool, names: tuple[str, ...]
    ) -> None:
        """Run the tasks that are not done, or those named; then analyse.

        Stopped with Ctrl-C or killed, the same command goes on and finds the same results.
        """
        from mixserver.studies.study import Results

        _run(Results(study, size, runs), at_once, names, quiet=quiet)

    @group.command()
    @size
    def check(size: str) -> None:
        """Check models, elements, cells and inputs of all arms; runs nothing."""
        from mixserver.cli.logs import configure
        from mixserver.studies.runner import check_study
        from mixserver.studies.study import Results

        configure(None)
        with scratch_directory() as scratch:
            count = check_study(Results(study, size), Path(scratch))
        click.echo(f"{count} arms: nothing that a run would refuse")

    @group.command()
    @size
    @runs
    def status(size: str, runs: Path | None) -> None:
        """Show what is done, runs, or failed and why."""
        from mixserver.studies.study import Results

        click.echo(_status(Results(study, size, runs)))

    @group.command()
    @size
    @runs
    def analyse(size: str, runs: Path | None) -> None:
        """Make tables and figures from the tasks that are done."""
        from mixserver.studies.study import Results

        _analyse(Results(study, size, runs))

    @group.command(hidden=True)
    @size
    @runs
    @click.argument("name")
    def task(size: str, runs: Path | None, name: str) -> None:
        """Run one task in this process."""
        from mixserver.cli.logs import configure
        from mixserver.studies.runner import run_one
        from mixserver.studies.study import Results

        results = Results(study, size, runs)
        (one,) = (task for task in study.tasks(size) if task.name == name)
        results.task_folder(one).mkdir(parents=True, exist_ok=True)
        configure(results.task_folder(one) / "task.jsonl")
        raise SystemExit(run_one(results, one))

    return group


def _run(results: Results, at_once: int | None, names: tuple[str, ...], *, quiet: bool) -> None:
    import asyncio

    from mixserver.cli.logs import configure
    from mixserver.cli.steps import shown
    from mixserver.server.launch import on_stop_signals
    from mixserver.studies.runner import Ended, check_study, missing_tasks, run_tasks

    configure(None)
    missing = missing_tasks(results, names)
    if missing:
        with scratch_directory() as scratch:
            check_study(results, Path(scratch))
    results.folder.mkdir(parents=True, exist_ok=True)
    cores = len(os.sched_getaffinity(0))

    async def job() -> Ended:
        stop = asyncio.Event()
        on_stop_signals(asyncio.get_running_loop(), stop.set)
        with shown(quiet=quiet) as show:

            def progress(done: float, total: float, running: object) -> None:
                show("tasks, %", int(100.0 * done / total), 100)

            return await run_tasks(
                results, missing, at_once=at_once or cores, stop=stop, progress=progress
            )

    ended = asyncio.run(job()) if missing else Ended()
    if ended.elsewhere:
        echo_line(f"other processes work on {len(ended.elsewhere)} tasks")
    told: dict[str, list[str]] = {}
    for name, why in ended.failed.items():
        told.setdefault(why, []).append(name)
    for why, failed in told.items():
        echo_line(f"failed: {', '.join(failed)}: {why}")
    if ended.stopped:
        echo_line("stopped; the same command goes on")
        raise SystemExit(130)
    if not quiet or not told:
        _analyse(results, quiet=quiet)
    if told:
        raise SystemExit(1)


def _status(results: Results) -> str:
    from mixserver.cli.tables import text_table
    from mixserver.studies.study import is_running, made_with

    now = made_with(results.study)
    rows = []
    for task in results.study.tasks(results.size):
        why = results.failure(task)
        if results.read(task, now) is not None:
            state, why = "done", ""
        elif is_running(results.task_folder(task)):
            state = f"runs, {100.0 * results.progress(task):.0f} %"
        elif why:
            state = "failed"
        else:
            part = results.progress(task)
            state = f"interrupted at {100.0 * part:.0f} %" if part else "waits"
        rows.append([task.name, state, why])
    done = sum(row[1] == "done" for row in rows)
    return f"{text_table(['task', 'state', ''], rows, left=(0, 1, 2))}\n{done} of {len(rows)} done"


def _analyse(results: Results, *, quiet: bool = False) -> None:
    import msgspec

    from mixserver.core.atomic_write import write_atomically
    from mixserver.core.errors import ConfigError
    from mixserver.studies.study import made_with

    found = results.read_all(made_with(results.study))
    if not found:
        raise ConfigError(
            f"no task of {results.folder} is done, so there is nothing to analyse; see `status`"
        )
    outcome = results.study.analyse(found, results.folder)
    parts = [f"**{table.title}**\n\n{table.markdown()}" for table in outcome.tables]
    parts += [f"![{Path(name).stem}]({name})" for name in outcome.figures]
    parts += list(outcome.remarks)
    count = len(results.study.tasks(results.size))
    if len(found) < count:
        parts.append(f"{len(found)} of {count} tasks are done.")
    page = "\n\n".join(parts) + "\n"
    write_atomically(results.folder / "table.md", page.encode())
    data = {"tables": [table.as_json() for table in outcome.tables], "remarks": outcome.remarks}
    text = msgspec.json.format(msgspec.json.encode(data))
    write_atomically(results.folder / "table.json", text + b"\n")
    if not quiet:
        click.echo(
            page + f"\nin {results.folder}: table.md, table.json, " + ", ".join(outcome.figures)
        )
