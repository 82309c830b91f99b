"""Restarts: the file from which to continue, and whether the potential is still the same.

A trajectory must continue with the potential it was made with. That is defined by the models,
[region], [mixing] and the elements; the earlier run's folder has its mix.toml and run.json.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import msgspec
import structlog

from mixserver.config import Config, load_case
from mixserver.core.errors import ConfigError
from mixserver.dispatch.dispatcher import Dispatcher
from mixserver.ipi.input import read_input, read_step
from mixserver.server.runs import (
    RESTART_INPUT,
    RestartOrigin,
    RunInfo,
    RunModel,
    is_running,
    read_run_info,
    run_folders,
    was_killed,
)
from mixserver.wire.worker import Role

log = structlog.get_logger(__name__)

_RESTART: Final = "RESTART"
_WAIT_S: Final = 3.0
_POLL_S: Final = 0.05
_LONGEST: Final = 60
"""Characters of a setting that are shown."""


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


def check_same_settings(earlier: Path, config: Config) -> None:
    """Refuse to continue a run that was made with other [region], [mixing] or [models].

    Raises:
        ConfigError: they differ; every key is named with its value then and now.
    """
    if not (earlier / "mix.toml").is_file():
        log.warning("the settings of the earlier run are unknown", missing=f"{earlier}/mix.toml")
        return
    different = setting_differences(load_case(earlier).config, config)
    if different:
        raise ConfigError(_other(earlier, different))


def setting_differences(then: Config, now: Config) -> list[str]:
    """Settings that define the potential and differ: "key: then -> now"."""
    old, new = (dict(_flat(_defining(config))) for config in (then, now))
    return [
        f"{key}: {_shown(old.get(key))} -> {_shown(new.get(key))}"
        for key in dict.fromkeys((*old, *new))
        if old.get(key) != new.get(key)
    ]


@dataclass(slots=True)
class ModelRecord:
    """The models of a run: recorded, and compared with those of the run that it continues."""

    dispatcher: Dispatcher
    roles: Sequence[Role]
    """Those that are used in this run."""
    folder: Path
    """The run's."""
    earlier: Path | None = None
    """The folder of the run that this one continues, if any."""
    restarted_from: RestartOrigin | None = None
    """The origin of this run, for its run.json."""
    compared: bool = False

    async def compare(self) -> None:
        """Wait for a worker of each role; compare and record its model.

        Raises:
            ConfigError: the earlier run had other models.
        """
        if self.compared:
            return
        found: dict[str, RunModel] = {}
        for role in self.roles:
            card = await self.dispatcher.card(role)
            found[role] = RunModel(card.name, card.fingerprint)
        before = None if self.earlier is None else read_run_info(self.earlier)
        if self.earlier is not None and before is None:
            log.warning("the models of the earlier run are unknown", run=str(self.earlier))
        if self.earlier is not None and before is not None:
            different = model_differences(before.models, found)
            if different:
                raise ConfigError(_other(self.earlier, different))
        self.compared = True
        self.write(found)

    def write(self, models: dict[str, RunModel] | None = None) -> None:
        """Write run.json, at the beginning without models."""
        try:
            RunInfo(restarted_from=self.restarted_from, models=models or {}).write(self.folder)
        except OSError as problem:
            log.warning("run.json was not written", folder=str(self.folder), error=str(problem))


def model_differences(then: Mapping[str, RunModel], now: Mapping[str, RunModel]) -> list[str]:
    """Roles that another model answered then; a role that is new or gone is a setting."""
    return [
        f"the {role} model: {_shown(then[role].name)} ({_shown(then[role].fingerprint)}) -> "
        f"{_shown(model.name)} ({_shown(model.fingerprint)})"
        for role, model in now.items()
        if role in then and then[role].fingerprint != model.fingerprint
    ]


def _other(earlier: Path, different: Sequence[str]) -> str:
    return (
        f"{earlier} was made with other settings or models, so the potential would change in the "
        f"middle of a run: {'; '.join(different)} (then -> now). Set them back, or start a fresh "
        "run without --restart"
    )


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


def _defining(config: Config) -> dict[str, Any]:
    """The settings that define the potential, besides models and structure, as plain values."""
    mixing = msgspec.structs.replace(config.mixing, bulk=None)  # only `mixserver check` looks there
    models = {
        role: None if model is None else {"receptive_field": model.receptive_field}
        for role, model in (("cheap", config.models.cheap), ("expensive", config.models.expensive))
    }
    region = None if config.region is None else msgspec.to_builtins(config.region)
    plain = {"region": region, "models": models}
    return plain if region is None else {**plain, "mixing": msgspec.to_builtins(mixing)}


def _flat(plain: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in plain.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value


def _shown(value: object) -> str:
    text = "none" if value is None else str([*value] if isinstance(value, tuple) else value)
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 3]}..."
