"""The run that an argument of a command means: a run's folder, or a case's newest run."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from mixserver.config import load_case
from mixserver.core.errors import ConfigError
from mixserver.core.near_files import did_you_mean, folders_with
from mixserver.server.records.recorder import REPORTS
from mixserver.server.runs import RUN_INFO, is_run_folder, run_folders

_GIVE: Final = "; give a run, such as CASE/runs/0001, or a case with a mix.toml"


def find_run(path: Path) -> Path:
    """The folder of a run with records: the given one, or the newest run with records of a case.

    Args:
        path: a run's folder, a case's folder or its mix.toml, or a folder of runs.

    Raises:
        ConfigError: it is none of these, or has no run with records.
    """
    if not path.exists():
        near = did_you_mean(path)
        raise ConfigError(f"there is no run and no case {path}{near or _GIVE}")
    if _has_records(path):
        return path
    if is_run_folder(path) or any((path / name).is_file() for name in (REPORTS, RUN_INFO)):
        raise ConfigError(_without_records(path.resolve()))
    case = path.is_file() or (path / "mix.toml").is_file()
    parent = load_case(path).runs if case else path
    runs = run_folders(parent)
    newest = _newest_with_records(parent)
    if newest is not None:
        return newest
    if runs:
        raise ConfigError(f"no run in {parent} has any records yet; is one running?")
    if case or path.name == "runs":
        raise ConfigError(f"{path} has no runs in {parent}; start one with mixserver run")
    cases = folders_with(path, "mix.toml")
    more = f": {', '.join(map(str, cases))}" if cases else ""
    raise ConfigError(
        f"{path} is neither a run, such as CASE/runs/0001, nor a case with a mix.toml; give one of "
        f"these{more}"
    )


def _newest_with_records(parent: Path) -> Path | None:
    for run in reversed(run_folders(parent)):
        if _has_records(run):
            return run
    return None


def _has_records(run: Path) -> bool:
    file = run / REPORTS
    return file.is_file() and file.stat().st_size > 0


def _without_records(run: Path) -> str:
    newest = _newest_with_records(run.parent)
    more = "" if newest is None else f". The newest run with records is {newest}"
    return (
        f"run {run.name} has no records yet; it is starting, or it ended before its first "
        f"evaluation{more}"
    )


def run_label(run: Path) -> str:
    """A run's name for people: "CASE 0001", or "FOLDER/0001" where its runs are elsewhere."""
    folder = run.resolve()
    above = folder.parent
    return (
        f"{above.parent.name} {folder.name}"
        if above.name == "runs"
        else (f"{above.name}/{folder.name}")
    )
