"""`mixserver serve`: the server alone; i-PI and the workers are started by hand."""

from __future__ import annotations

from pathlib import Path

import click


@click.command()
@click.argument("case", type=click.Path(exists=True, path_type=Path))
@click.option(
    "--restart",
    "earlier",
    metavar="RUN",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Continue the run in this folder: with its models and settings, and what it remembers.",
)
@click.option(
    "--runs",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIR",
    help="Make the folder of records in DIR instead of CASE/runs.",
)
@click.option("--dry-run", is_flag=True, help="Read and build everything, open nothing.")
@click.option("--quiet", is_flag=True, help="Show warnings only.")
def serve(case: Path, earlier: Path | None, runs: Path | None, dry_run: bool, quiet: bool) -> None:
    """Answer i-PI's force requests as CASE says, until i-PI says EXIT.

    Start i-PI from a RESTART or checkpoint of RUN if you give one.

    \b
    Examples:
      mixserver serve inputs/minimal
      mixserver-worker toy --server tcp://127.0.0.1:5555 --role cheap
      mixserver serve inputs/minimal --restart inputs/minimal/runs/0001
    """
    import asyncio
    import shutil
    import tempfile

    from mixserver.build import build
    from mixserver.cli.logs import configure
    from mixserver.cli.say import say
    from mixserver.config import load_case
    from mixserver.launch import install_stop
    from mixserver.record.runs import new_run_folder, occupied
    from mixserver.restarting import origin, refuse_other_settings
    from mixserver.service import Service

    loaded = load_case(case).with_runs(runs)
    if earlier is not None:
        refuse_other_settings(earlier, loaded.config)
    if dry_run:
        configure(None)
        with tempfile.TemporaryDirectory() as nowhere:
            parts = build(loaded, Path(nowhere), earlier=earlier)
            parts.recorder.close()
        say(f"{loaded.file}: {len(parts.topology)} atoms, everything fits together")
        return
    folder = new_run_folder(loaded.runs)
    configure(folder / "server.log", verbose=not quiet)
    shutil.copyfile(loaded.file, folder / "mix.toml")  # what a restart is compared with

    async def job() -> None:
        begun_with = None if earlier is None else origin(earlier, folder)
        parts = build(loaded, folder, earlier=earlier, begun_with=begun_with)
        parts.models.write()
        service = Service(parts)
        async with service.doors():
            say(f"workers connect to {parts.door.address}; records in {folder}")
            await service.serve()

    async def stoppable() -> None:
        task = asyncio.create_task(job())
        install_stop(asyncio.get_running_loop(), task.cancel)
        await task

    try:
        with occupied(folder):
            asyncio.run(stoppable())
    except asyncio.CancelledError:
        say("stopped")
        raise SystemExit(130) from None
    say(f"i-PI said EXIT; records in {folder}")
