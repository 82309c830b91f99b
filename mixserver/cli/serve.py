"""`mixserver serve`: the server alone; i-PI and the workers are started by hand."""

from __future__ import annotations

from pathlib import Path

import click

from mixserver.cli.listener_options import listener_options


@click.command()
@click.argument("case", type=click.Path(path_type=Path))
@click.option(
    "--restart",
    "earlier",
    metavar="RUN",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Continue the run in this folder: with its models, settings and region state.",
)
@click.option(
    "--runs",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIR",
    help="Make the folder of records in DIR instead of CASE/runs.",
)
@listener_options
@click.option("--dry-run", is_flag=True, help="Read and build everything, open nothing.")
@click.option("--quiet", is_flag=True, help="Show warnings only.")
@click.option("--log-json", is_flag=True, help="Events on stderr as JSON lines, as in server.log.")
def serve(
    case: Path,
    earlier: Path | None,
    runs: Path | None,
    door: str | None,
    keys: Path | None,
    dry_run: bool,
    quiet: bool,
    log_json: bool,
) -> None:
    """Answer i-PI's force requests for CASE until i-PI sends EXIT.

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

    from mixserver.cli.echo import echo_line
    from mixserver.cli.logs import configure
    from mixserver.config import load_case
    from mixserver.server.build import build
    from mixserver.server.launch import on_stop_signals
    from mixserver.server.restart import restart_origin
    from mixserver.server.runs import new_run_folder, run_lock
    from mixserver.server.same_potential import check_same_settings
    from mixserver.server.service import Service
    from mixserver.server.status.reporting import status_available
    from mixserver.server.status.snapshot import Snapshots
    from mixserver.server.warnings.watch import watched

    loaded = load_case(case).with_runs(runs).with_workers_at(door, keys)
    if earlier is not None:
        check_same_settings(earlier, loaded.config)
    if dry_run:
        configure(None)
        with tempfile.TemporaryDirectory() as scratch:
            parts = build(loaded, Path(scratch), earlier=earlier)
            parts.recorder.close()
        echo_line(f"{loaded.file}: {len(parts.topology)} atoms, no errors found")
        return
    folder = new_run_folder(loaded.runs)
    configure(folder / "server.log", verbose=not quiet, as_json=log_json)
    shutil.copyfile(loaded.file, folder / "mix.toml")  # a restart is compared with it

    async def job() -> None:
        restarted_from = None if earlier is None else restart_origin(earlier, folder)
        parts = build(loaded, folder, earlier=earlier, restarted_from=restarted_from)
        parts.models.write()
        service = Service(parts)
        snapshots = Snapshots(service, loaded, folder)
        async with service.listening(), status_available(snapshots), watched(service):
            echo_line(f"workers connect to {parts.listener.address}; records in {folder}")
            await service.serve()

    async def stoppable() -> None:
        task = asyncio.create_task(job())
        on_stop_signals(asyncio.get_running_loop(), task.cancel)
        await task

    try:
        with run_lock(folder):
            asyncio.run(stoppable())
    except asyncio.CancelledError:
        echo_line("stopped")
        raise SystemExit(130) from None
    echo_line(f"i-PI sent EXIT; records in {folder}")
