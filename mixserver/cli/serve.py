"""`mixserver serve`: the server alone; i-PI and the workers are started by hand."""

from __future__ import annotations

from pathlib import Path

import click


@click.command()
@click.argument("case", type=click.Path(exists=True, path_type=Path))
@click.option("--dry-run", is_flag=True, help="Read and build everything, open nothing.")
@click.option("--quiet", is_flag=True, help="Show warnings only.")
def serve(case: Path, dry_run: bool, quiet: bool) -> None:
    """Answer i-PI's force requests as CASE says, until i-PI says EXIT.

    \b
    Examples:
      mixserver serve inputs/minimal
      mixserver-worker toy --server tcp://127.0.0.1:5555 --role cheap
    """
    import asyncio
    import tempfile

    from mixserver.build import build
    from mixserver.cli.logs import configure
    from mixserver.config import load_case
    from mixserver.launch import install_stop
    from mixserver.record.recorder import new_run_folder
    from mixserver.service import Service

    loaded = load_case(case)
    if dry_run:
        configure(None)
        with tempfile.TemporaryDirectory() as nowhere:
            parts = build(loaded, Path(nowhere))
            parts.recorder.close()
        click.echo(f"{loaded.file}: {len(parts.topology)} atoms, everything fits together")
        return
    folder = new_run_folder(loaded.folder / loaded.config.record.folder)
    configure(folder / "server.log", verbose=not quiet)

    async def job() -> None:
        parts = build(loaded, folder)
        service = Service(parts)
        async with service.doors():
            click.echo(f"workers connect to {parts.door.address}; records in {folder}")
            await service.serve()

    async def stoppable() -> None:
        task = asyncio.create_task(job())
        install_stop(asyncio.get_running_loop(), task.cancel)
        await task

    try:
        asyncio.run(stoppable())
    except asyncio.CancelledError:
        click.echo("stopped")
        raise SystemExit(130) from None
    click.echo(f"i-PI said EXIT; records in {folder}")
