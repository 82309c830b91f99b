"""`mixserver run`: i-PI, the server and the local workers as one job."""

from __future__ import annotations

from pathlib import Path

import click


@click.command()
@click.argument("case", type=click.Path(exists=True, path_type=Path))
@click.option("--restart", is_flag=True, help="Go on from the last RESTART of the case's runs.")
@click.option(
    "--steps",
    type=click.IntRange(min=1),
    help="Total steps, instead of what input.xml or RESTART says.",
)
@click.option("--quiet", is_flag=True, help="No progress, only errors.")
def run(case: Path, restart: bool, steps: int | None, quiet: bool) -> None:
    """Run CASE, a folder or its mix.toml, from beginning to end.

    Starts i-PI, the server and the workers of [[local]], shows how far it is, and stops all of
    them on Ctrl-C, at the end and on any failure. Results are in CASE/runs/NNNN. A restart goes
    by its RESTART: input.xml is not read again.

    \b
    Examples:
      mixserver run inputs/minimal
      mixserver run inputs/silicon_vacancy --restart --steps 2000
    """
    import asyncio

    from mixserver.cli.logs import configure
    from mixserver.cli.progress import show
    from mixserver.config import load_case
    from mixserver.errors import ConfigError
    from mixserver.launch import Run, install_stop, run_case
    from mixserver.record.recorder import new_run_folder

    loaded = load_case(case)
    records = loaded.folder / loaded.config.record.folder
    source: Path | None = None
    if restart:
        left = sorted(file for file in records.glob("[0-9]*/RESTART") if not file.is_symlink())
        if not left:
            raise ConfigError(f"no run in {records} left a RESTART, so there is nothing to go on")
        source = left[-1]
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

    if asyncio.run(job()):
        if (folder / "RESTART").exists():
            click.echo(f"stopped; i-PI's RESTART is in {folder}: mixserver run {case} --restart")
        else:
            click.echo("stopped before i-PI had anything to go on from")
        raise SystemExit(130)
    if not quiet:
        click.echo(f"done; results in {folder}: mixserver plot {folder}")
