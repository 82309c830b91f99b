"""`mixserver run`: i-PI, the server and the local workers as one job."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import click

from mixserver.cli.listener_options import listener_options
from mixserver.cli.until import TIME_IS_UP, Until

if TYPE_CHECKING:
    from mixserver.config import Case


@click.command()
@click.argument("case", type=click.Path(path_type=Path))
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
    help="Total steps, instead of the number in input.xml or RESTART.",
)
@click.option(
    "--until",
    type=Until(),
    metavar="WHEN",
    help="End in order then, with a RESTART: 36h, 1d12h, 18:30, 2026-12-24T18:00 or slurm.",
)
@click.option(
    "--runs",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIR",
    help="Make this run's folder in DIR instead of CASE/runs.",
)
@click.option(
    "--resume",
    is_flag=True,
    help="Continue the newest run if it was interrupted, else begin a new one. Ends with that run, "
    "also if it crashes: for containers and batch jobs, which start the command again.",
)
@click.option(
    "--supervise",
    is_flag=True,
    help="Continue as --resume does, and again after each crash, with local workers that stay "
    "alive, until all steps are made. Started again after that, it ends at once (--resume begins a "
    "new run).",
)
@click.option("--supervised", is_flag=True, hidden=True)
@listener_options
@click.option(
    "--no-local", is_flag=True, help="Start no [[local]] workers; they come from elsewhere."
)
@click.option("--quiet", is_flag=True, help="No progress, only errors.")
@click.option(
    "--log-json",
    is_flag=True,
    help="Events on stderr as JSON lines, as in server.log, and progress as one of them.",
)
def run(
    case: Path,
    restart: bool,
    source: Path | None,
    steps: int | None,
    until: float | None,
    runs: Path | None,
    resume: bool,
    supervise: bool,
    supervised: bool,
    door: str | None,
    keys: Path | None,
    no_local: bool,
    quiet: bool,
    log_json: bool,
) -> None:
    """Run CASE, a folder or its mix.toml, from beginning to end.

    Starts i-PI, the server and the workers of [[local]], shows progress, and stops all of them on
    Ctrl-C, at the end and on any failure. Results are in CASE/runs/NNNN or DIR/NNNN. A restart
    reads RESTART in place of input.xml; models, atoms, [region] and [mixing] must be the same, and
    what else has changed is listed.

    --until sets a limit of time: i-PI finishes its step and writes its RESTART, and the exit status
    is 75. "slurm" is two minutes before the end of the Slurm job.

    \b
    Examples:
      mixserver run inputs/minimal
      mixserver run inputs/silicon_vacancy --restart --steps 2000
      mixserver run inputs/silicon_vacancy --resume --until slurm
      mixserver run inputs/silicon_vacancy --supervise
      mixserver run inputs/silicon_vacancy --no-local --door ipc:///run/mixserver/door
    """
    from mixserver.config import load_case
    from mixserver.core.errors import ConfigError, Unphysical

    if restart + resume + supervise + (source is not None) > 1:
        raise ConfigError(
            "--restart, --resume and --supervise find the file to continue from, --from names it: "
            "give one (--supervise does all that --resume does)"
        )
    loaded = load_case(case)
    _refuse_run_folder(loaded.folder)
    loaded = loaded.with_runs(runs).with_workers_at(door, keys)
    if no_local:
        loaded = loaded.without_local_workers()
    where = {"--runs": runs, "--door": door, "--keys": keys, "--no-local": no_local}
    if supervise:
        _supervise(loaded, steps, until, {**where, "--quiet": quiet, "--log-json": log_json})
        return

    def continued(before: Path | None = None) -> Path | None:
        from mixserver.server.restart import restart_file, unfinished_file

        if restart:
            return restart_file(loaded.runs, before)
        return unfinished_file(loaded.runs, steps, before) if resume else source

    again = shlex.join(["mixserver", "run", str(case), "--restart", *_options(where)])
    longer = again
    if source is not None:
        longer = shlex.join(
            ["mixserver", "run", str(case), "--from", str(source), *_options(where)]
        )
    if supervised:
        again = ""
    try:
        _refuse_same_addresses(loaded)
        _run(
            loaded, continued, steps, until, quiet=quiet, log_json=log_json, again=again,
            longer=longer,
        )  # fmt: skip
    except (ConfigError, Unphysical) as error:
        if not supervised:
            raise
        raise _Refused(str(error)) from error


def _refuse_run_folder(folder: Path) -> None:
    """A run's folder has a copy of mix.toml, but a run of it would not continue that run."""
    from mixserver.core.errors import ConfigError
    from mixserver.server.runs import RUN_INFO

    if not (folder / RUN_INFO).is_file():
        return
    above = folder.resolve().parent
    case = above.parent if above.name == "runs" else "CASE"
    raise ConfigError(
        f"{folder} is a run of {case}; to continue it: mixserver run {case} --restart"
    )


def _refuse_same_addresses(case: Case) -> None:
    """Tell of runs of this case that go on; refuse one that would use the same addresses.

    Raises:
        ConfigError: an address is not private to a run.
    """
    from mixserver.cli.echo import echo_line
    from mixserver.core.errors import ConfigError
    from mixserver.server.runs import is_running, run_folders

    going = [str(run) for run in run_folders(case.runs) if is_running(run)]
    if not going:
        return
    runs = f"{', '.join(going)} of this case {'is' if len(going) == 1 else 'are'} running"
    if shared := case.shared_addresses:
        raise ConfigError(
            f"{runs}, and a second run would use the same {' and '.join(shared)}: end it first, or "
            "copy the case and give the copy other addresses, here and in i-PI's input"
        )
    echo_line(f"{runs}, too: both share this machine; each has a folder and sockets of its own")


def _options(given: Mapping[str, object]) -> list[str]:
    """Options as they are typed; those that are not set are left out."""
    words: list[str] = []
    for name, value in given.items():
        if value:
            words += [name] if value is True else [name, str(value)]
    return words


class _Refused(click.ClickException):
    """Tells the supervisor that starting the run again would not help."""

    exit_code = 78


def _run(
    case: Case,
    continued: Callable[[Path | None], Path | None],
    steps: int | None,
    until: float | None,
    *,
    quiet: bool,
    log_json: bool,
    again: str,
    longer: str,
) -> None:
    """Run a case once; `continued` finds what it continues from, before the folder given.

    `again` is the command that continues it, `longer` the one that does what was asked if --steps
    is added.
    """
    import asyncio

    from mixserver.cli.echo import echo_line
    from mixserver.cli.logs import configure
    from mixserver.cli.progress import show
    from mixserver.core.errors import MixserverError
    from mixserver.server.launch import Run, check_steps_left, on_stop_signals, run_case, stop_at
    from mixserver.server.restart_changes import changes_since
    from mixserver.server.runs import new_run_folder, note_end, run_lock

    configure(None, as_json=log_json)
    # refused before a folder is made
    if (earlier := continued(None)) is not None:
        check_steps_left(earlier, steps, longer)
    folder = new_run_folder(case.runs)
    configure(folder / "server.log", as_json=log_json)

    timer: asyncio.Task[None] | None = None

    async def job() -> bool:
        nonlocal timer
        shown: asyncio.Queue[Run] = asyncio.Queue()
        stop = asyncio.Event()
        on_stop_signals(asyncio.get_running_loop(), stop.set)
        timer = asyncio.create_task(stop_at(until, stop))
        display = asyncio.create_task(show(shown, quiet=quiet, as_events=log_json))
        try:
            await run_case(case, folder, stop=stop, restart=source, steps=steps, shown=shown)
        finally:
            display.cancel()
            timer.cancel()
            await asyncio.gather(display, timer, return_exceptions=True)
        return stop.is_set()

    with run_lock(folder):
        source = continued(folder)  # again: another run may have begun in the meantime
        if source is not None and not quiet:
            echo_line(f"continuing from {source}")
            for change in changes_since(source.parent, case):
                echo_line(f"  changed since: {change}")
        try:
            stopped = asyncio.run(job())
        except MixserverError as error:
            note_end(folder, f"failed: {error}")
            for note in _steps_made(folder, again) if again else ():
                error.add_note(note)
            raise
        up = stopped and timer is not None and not timer.cancelled()
        note_end(folder, "the time is up" if up else "stopped" if stopped else "done")
    _tell_end(folder, stopped=stopped, up=up, quiet=quiet, again=again)


def _steps_made(folder: Path, again: str) -> list[str]:
    """How far a run came that failed, and how it goes on; nothing if it made no step."""
    from mixserver.ipi.input import read_step
    from mixserver.server.restart import latest_state

    state = latest_state(folder)
    if state is None:
        return []
    return [
        f"The run ended after step {read_step(state)}; i-PI's {state.name} is in {folder}. When "
        f"the cause is mended: {again}"
    ]


def _tell_end(folder: Path, *, stopped: bool, up: bool, quiet: bool, again: str) -> None:
    """Tell how a run ended that did not fail, and exit with a status if steps are missing."""
    from mixserver.cli.echo import echo_line
    from mixserver.server.restart import latest_state
    from mixserver.server.warnings.warning_log import read_warnings

    if not stopped:
        warnings = read_warnings(folder)
        warned = f" with {len(warnings)} warning{'s' * (len(warnings) > 1)}" if warnings else ""
        if not quiet:
            echo_line(f"done{warned}; results in {folder}: mixserver plot {folder}")
        return
    if latest_state(folder) is None:
        echo_line("stopped before i-PI had made a step, so there is nothing to continue")
    else:
        goes_on = "the supervised run continues from it"
        why = "the time is up" if up else "stopped"
        echo_line(f"{why}; i-PI's RESTART is in {folder}: {again or goes_on}")
    raise SystemExit(TIME_IS_UP if up else 130)


def _supervise(
    case: Case, steps: int | None, until: float | None, given: Mapping[str, object]
) -> None:
    """Run a case with --supervise, and the other options that were given."""
    import asyncio

    from mixserver.cli.echo import echo_line
    from mixserver.cli.logs import configure
    from mixserver.server.launch import on_stop_signals, stop_at
    from mixserver.server.runs import note_end, read_run_info, run_folders
    from mixserver.server.supervise import supervise

    configure(None, as_json=bool(given["--log-json"]))
    options = _options(given)
    up = False

    async def job() -> bool:
        nonlocal up
        stop = asyncio.Event()
        on_stop_signals(asyncio.get_running_loop(), stop.set)
        timer = asyncio.create_task(stop_at(until, stop))
        try:
            return await supervise(case, options, steps=steps, stop=stop)
        finally:
            up = timer.done()
            timer.cancel()
            await asyncio.gather(timer, return_exceptions=True)

    if not asyncio.run(job()):
        last = run_folders(case.runs)[-1:]
        if up and last and (about := read_run_info(last[0])) and about.ended == "stopped":
            note_end(last[0], "the time is up")  # the run itself was only told to stop
        echo_line(f"{'the time is up' if up else 'stopped'}; the same command continues")
        raise SystemExit(TIME_IS_UP if up else 130)
    if not given["--quiet"]:
        echo_line(f"all steps are made; results in {case.runs}")
