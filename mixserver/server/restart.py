"""Restarts: the file from which a run continues another, and what it says of its origin.

Whether the potential is still the same is compared in `same_potential`.
"""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path
from typing import Final

import structlog

from mixserver.core.errors import ConfigError
from mixserver.ipi.input import read_input, read_step
from mixserver.server.runs import (
    RESTART_INPUT,
    RestartOrigin,
    is_running,
    run_folders,
    was_killed,
)

log = structlog.get_logger(__name__)

_RESTART: Final = "RESTART"
_WAIT_S: Final = 3.0
_POLL_S: Final = 0.05


def restart_file(runs: Path, before: Path | None = None) -> Path:
    """The file to continue from, of the newest run that made any step.

    That is its RESTART, or its last checkpoint where i-PI was killed and wrote no RESTART.

    Args:
        runs: the folder of a case's runs.
        before: only runs with a lower number than this one are looked at.

    Raises:
        ConfigError: no run left such a file, or the newest that could is still running.
    """
    file, without = newest_state(runs, before)
    if file is not None:
        return file
    if not without:
        raise ConfigError(f"there are no runs in {runs}, so there is nothing to continue")
    raise ConfigError(
        f"no run in {runs} made a step and left a RESTART or a checkpoint ({', '.join(without[:5])}"
        f"{', ...' if len(without) > 5 else ''}), so there is nothing to continue; start a fresh "
        "run without --restart"
    )


def unfinished_file(
    runs: Path, steps: int | None = None, before: Path | None = None
) -> Path | None:
    """The file to continue from if the newest run that made any step was interrupted.

    Args:
        runs: the folder of a case's runs.
        steps: total steps, instead of the number in that file.
        before: as in `restart_file`.

    Returns:
        None if that run has made all its steps, or no run made any.

    Raises:
        ConfigError: the newest run is still running, or its file cannot be read.
    """
    file, _ = newest_state(runs, before)
    if file is None:
        return None
    left = read_input(file)
    return file if left.step < (left.total_steps if steps is None else steps) else None


def newest_state(runs: Path, before: Path | None = None) -> tuple[Path | None, list[str]]:
    """The file to continue from, and the newer runs that left none.

    Raises:
        ConfigError: the newest run that could have left one is still running.
    """
    without: list[str] = []
    for run in reversed(run_folders(runs)):
        if before is not None and int(run.name) >= int(before.name):
            continue
        if is_running(run):
            raise ConfigError(
                f"{run} is still running; end it first (Ctrl-C, SIGTERM), so that it leaves its "
                "RESTART, or name what to continue from: --from FILE"
            )
        file = latest_state(run)
        if file is not None:
            return file, without
        without.append(run.name)
    return None, without


def restart_origin(
    earlier: Path, folder: Path, file: str = "", step: int | None = None
) -> RestartOrigin:
    """The origin of a restarted run: the folder of the earlier one; see `RestartOrigin`."""
    before, here = earlier.resolve(), folder.resolve()
    beside = before.parent == here.parent
    return RestartOrigin(os.path.relpath(before, here) if beside else str(before), file, step)


def latest_state(run: Path) -> Path | None:
    """RESTART of a run, or else its newest checkpoint; None if it made no step."""
    begun, restart = _begun(run), run / _RESTART
    _await_restart(run)
    checkpoints = [f for f in run.iterdir() if ".chk" in f.name and not f.name.startswith("#")]
    checkpoints.sort(key=lambda f: (f.lstat().st_mtime_ns, len(f.name), f.name), reverse=True)
    for file in (restart, *checkpoints):
        if file.is_symlink() or not file.is_file():
            continue  # a link to the case's own
        try:
            if read_step(file) > begun:
                return file
        except ConfigError as error:
            log.warning(
                "skipped: i-PI was killed while it wrote this file", file=str(file), why=error
            )
    return None


def _await_restart(run: Path) -> None:
    """Give i-PI time to write its RESTART, all of it, if its parent was just killed."""
    if not was_killed(run):
        return
    file = run / _RESTART
    size, until = -1, time.monotonic() + _WAIT_S
    while time.monotonic() < until:
        if _complete(file):
            return
        with contextlib.suppress(OSError):
            if size != (size := file.stat().st_size):  # it grows
                until = time.monotonic() + _WAIT_S
        time.sleep(_POLL_S)
    log.warning("that run was killed, and i-PI wrote no RESTART", run=str(run))


def _complete(file: Path) -> bool:
    """Whether i-PI has written a file to its end."""
    try:
        with file.open("rb") as handle:
            handle.seek(max(0, file.stat().st_size - 64))
            return b"</simulation>" in handle.read()
    except OSError:
        return False


def _begun(run: Path) -> int:
    """Steps that had been made when a run began."""
    file = run / RESTART_INPUT
    if not file.is_file():
        return 0
    try:
        return read_step(file)
    except ConfigError:
        return 0
