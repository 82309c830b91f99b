"""Going on from an earlier run: which file it left, and whether this is still the same potential.

A trajectory goes on under the potential it was made with, or not at all. What defines that is the
models, [region], [mixing] and the elements; the earlier run's folder has its mix.toml and run.json.
"""

from __future__ import annotations

import os
import time
import xml.etree.ElementTree as ET
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import msgspec
import structlog

from mixserver.config import Config, load_case
from mixserver.dispatch.dispatcher import Dispatcher
from mixserver.errors import ConfigError
from mixserver.record.runs import (
    CONTINUED,
    About,
    Model,
    Origin,
    is_occupied,
    read_about,
    run_folders,
    was_killed,
)
from mixserver.wire.worker import Role

log = structlog.get_logger(__name__)

_RESTART: Final = "RESTART"
_WAIT_S: Final = 3.0
_TRIES: Final = 30
_LONGEST: Final = 60
"""Characters of a setting that are shown."""


def restart_file(runs: Path, before: Path | None = None) -> Path:
    """The file to go on from: what the newest run left that made any step.

    That is its RESTART, or its last checkpoint where i-PI was killed and wrote no RESTART.

    Args:
        runs: the folder of a case's runs.
        before: only runs with a lower number than this one are looked at.

    Raises:
        ConfigError: no run left anything, or the newest that could is still going on.
    """
    without: list[str] = []
    for run in reversed(run_folders(runs)):
        if before is not None and int(run.name) >= int(before.name):
            continue
        if is_occupied(run):
            raise ConfigError(
                f"{run} is still going on; end it first (Ctrl-C, SIGTERM), so that it leaves its "
                "RESTART, or name what to continue from: --from FILE"
            )
        file = _left(run)
        if file is not None:
            return file
        without.append(run.name)
    if not without:
        raise ConfigError(f"there are no runs in {runs}, so there is nothing to continue")
    raise ConfigError(
        f"no run in {runs} made a step and left a RESTART or a checkpoint ({', '.join(without[:5])}"
        f"{', ...' if len(without) > 5 else ''}), so there is nothing to continue; start a fresh "
        "run without --restart"
    )


def origin(earlier: Path, folder: Path, file: str = "", step: int | None = None) -> Origin:
    """From where a run goes on.

    Args:
        earlier: the earlier run's folder.
        folder: the new run's.
        file: what i-PI starts from there; "" where it is started by hand.
        step: steps made already, by that file.
    """
    before, here = earlier.resolve(), folder.resolve()
    beside = before.parent == here.parent
    return Origin(os.path.relpath(before, here) if beside else str(before), file, step)


def refuse_other_settings(earlier: Path, config: Config) -> None:
    """Refuse to go on from a run that was made with other [region], [mixing] or [models].

    Args:
        earlier: the earlier run's folder.
        config: what is to be run now.

    Raises:
        ConfigError: they differ; every key is named with its value then and now.
    """
    if not (earlier / "mix.toml").is_file():
        log.warning("the settings of the earlier run are not known", missing=f"{earlier}/mix.toml")
        return
    different = setting_differences(load_case(earlier).config, config)
    if different:
        raise ConfigError(_other(earlier, different))


def setting_differences(then: Config, now: Config) -> list[str]:
    """What defines the potential and differs: "key: then -> now"."""
    old, new = (dict(_flat(_defining(config))) for config in (then, now))
    return [
        f"{key}: {_shown(old.get(key))} -> {_shown(new.get(key))}"
        for key in dict.fromkeys((*old, *new))
        if old.get(key) != new.get(key)
    ]


@dataclass(slots=True)
class Models:
    """The models of a run: written down, and held against those of the run it goes on from."""

    dispatcher: Dispatcher
    roles: Sequence[Role]
    """Those that are asked in this run."""
    folder: Path
    """The run's."""
    earlier: Path | None = None
    """The folder of the run that goes on, if there is one."""
    begun_with: Origin | None = None
    """From where this run goes on, for its run.json."""
    compared: bool = False

    async def known(self) -> None:
        """Wait for a worker of each role, compare and write down what they say they are.

        Raises:
            ConfigError: the earlier run had other models.
        """
        if self.compared:
            return
        found: dict[str, Model] = {}
        for role in self.roles:
            card = await self.dispatcher.card(role)
            found[role] = Model(card.name, card.fingerprint)
        before = None if self.earlier is None else read_about(self.earlier)
        if self.earlier is not None and before is None:
            log.warning("the models of the earlier run are not known", run=str(self.earlier))
        if self.earlier is not None and before is not None:
            different = model_differences(before.models, found)
            if different:
                raise ConfigError(_other(self.earlier, different))
        self.compared = True
        self.write(found)

    def write(self, models: dict[str, Model] | None = None) -> None:
        """Write run.json, at the beginning without models."""
        try:
            About(restarted_from=self.begun_with, models=models or {}).write(self.folder)
        except OSError as problem:
            log.warning("run.json was not written", folder=str(self.folder), error=str(problem))


def model_differences(then: Mapping[str, Model], now: Mapping[str, Model]) -> list[str]:
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


def _left(run: Path) -> Path | None:
    """What a run that made any step can be continued from: RESTART, or its newest checkpoint."""
    begun, restart = _begun(run), run / _RESTART
    _await_restart(run)
    checkpoints = [f for f in run.iterdir() if ".chk" in f.name and not f.name.startswith("#")]
    checkpoints.sort(key=lambda f: (f.lstat().st_mtime_ns, len(f.name), f.name), reverse=True)
    for file in (restart, *checkpoints):
        if file.is_symlink() or not file.is_file():
            continue  # a link to the case's own
        try:
            if _step(file) > begun:
                return file
        except ConfigError as error:
            log.warning("passed over: i-PI was killed while it wrote it", file=str(file), why=error)
    return None


def _await_restart(run: Path) -> None:
    """Give i-PI the time to write its RESTART, if what started it was just killed."""
    for _ in range(_TRIES):
        if (run / _RESTART).exists() or not was_killed(run):
            return
        time.sleep(_WAIT_S / _TRIES)
    log.warning("that run was killed, and i-PI wrote no RESTART", run=str(run))


def _begun(run: Path) -> int:
    """Steps that had been made when a run began."""
    file = run / CONTINUED
    if not file.is_file():
        return 0
    try:
        return _step(file)
    except ConfigError:
        return 0


def _step(file: Path) -> int:
    try:
        root = ET.parse(file).getroot()  # noqa: S314 - the user's own file
        return int(root.findtext("step") or "0")
    except (OSError, ET.ParseError, ValueError) as error:
        raise ConfigError(f"{file} is no RESTART of i-PI: {error}") from error


def _defining(config: Config) -> dict[str, Any]:
    """What defines the potential, besides models and structure, as plain values."""
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
