"""`mixserver run`: i-PI, the server and the local workers as one job."""

from __future__ import annotations

from pathlib import Path

import click


@click.command()
@click.argument("case", type=click.Path(exists=True, path_type=Path))
@click.option("--restart", is_flag=True, help="Continue the newest run that made any step.")
@click.option(
    "--from",
    "source",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Continue from this RESTART or checkpoint, in its run's folder.",
)
@click.option(
    "--steps",
    type=click.IntRange(min=1),
    help="Total steps, instead of what input.xml or RESTART says.",
)
@click.option(
    "--runs",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIR",
    help="Make this run's folder in DIR instead of CASE/runs.",
)
@click.option("--quiet", is_flag=True, help="No progress, only errors.")
def run(
    case: Path,
    restart: bool,
    source: Path | None,
    steps: int | None,
    runs: Path | None,
    quiet: bool,
) -> None:
    """Run CASE, a folder or its mix.toml, from beginning to end.

    Starts i-PI, the server and the workers of [[local]], shows progress, and stops all of them on
    Ctrl-C, at the end and on any failure. Results are in CASE/runs/NNNN or DIR/NNNN. A restart
    reads RESTART in place of input.xml; models, [region] and [mixing] must be the same.

    \b
    Examples:
      mixserver run inputs/minimal
      mixserver run inputs/silicon_vacancy --restart --steps 2000
    """
    import asyncio

    from mixserver.cli.logs import configure
    from mixserver.cli.progress import show
    from mixserver.cli.say import say
    from mixserver.config import load_case
    from mixserver.errors import ConfigError
    from mixserver.launch import Run, install_stop, run_case
    from mixserver.record.runs import new_run_folder, occupied
    from mixserver.restarting import restart_file

    if restart and source is not None:
        raise ConfigError("--restart finds the file to continue from, --from names it: give one")
    loaded = load_case(case).with_runs(runs)
    records = loaded.runs
    if restart:
        configure(None)
        restart_file(records)  # refused before there is a folder
    folder = new_run_folder(records)
    configure(folder / "server.log")

    async def job() -> bool:
        shown: asyncio.Queue[Run] = asyncio.Queue()
        stop = asyncio.Event()
        install_stop(asyncio.get_running_loop(), stop.set)
        display = asyncio.create_task(show(shown, quiet=quiet))
        try:
            await run_case(loaded, folder, stop=stop, restart=source, steps=steps, shown=shown)
        finally:
            display.cancel()
            await asyncio.gather(display, return_exceptions=True)
        return stop.is_set()

    with occupied(folder):
        if restart:  # again: another run may have begun meanwhile
            source = restart_file(records, before=folder)
        if source is not None and not quiet:
            say(f"continuing from {source}")
        stopped = asyncio.run(job())
    if stopped:
        if (folder / "RESTART").exists():
            again = f"mixserver run {case} --restart" + (f" --runs {runs}" if runs else "")
            say(f"stopped; i-PI's RESTART is in {folder}: {again}")
        else:
            say("stopped before i-PI had written a RESTART")
        raise SystemExit(130)
    if not quiet:
        say(f"done; results in {folder}: mixserver plot {folder}")
