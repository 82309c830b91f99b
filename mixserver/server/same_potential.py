"""Whether a run that continues another has the same potential, and the same atoms.

A trajectory must continue with the potential it was made with. That is defined by the models,
[region], [mixing] and the elements; the earlier run's folder has its mix.toml and run.json.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np
import structlog

from mixserver.config import Config, load_case
from mixserver.core.errors import ConfigError
from mixserver.core.frame import Topology
from mixserver.dispatch.dispatcher import Dispatcher
from mixserver.server.runs import (
    RestartOrigin,
    RunInfo,
    RunModel,
    program_versions,
    read_run_info,
    run_chain,
)
from mixserver.wire.worker import Role

log = structlog.get_logger(__name__)

_LONGEST: Final = 60
"""Characters of a setting that are shown."""


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
    old, new = (dict(flat_settings(_defining(config))) for config in (then, now))
    return [
        f"{key}: {shown(old.get(key))} -> {shown(new.get(key))}"
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
    atoms: str = ""
    """Digest of the elements and periodic axes; see `atoms_digest`."""
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
        before = None if self.earlier is None else last_models(self.earlier)
        if self.earlier is not None and not before:
            log.warning("the models of the earlier run are unknown", run=str(self.earlier))
        if self.earlier is not None and before:
            different = model_differences(before, found)
            if different:
                raise ConfigError(_other(self.earlier, different))
        self.compared = True
        self.write(found)

    def write(self, models: dict[str, RunModel] | None = None) -> None:
        """Write run.json, at the beginning without models."""
        try:
            RunInfo(
                restarted_from=self.restarted_from,
                models=models or {},
                atoms=self.atoms,
                versions=program_versions(),
            ).write(self.folder)
        except OSError as problem:
            log.warning("run.json was not written", folder=str(self.folder), error=str(problem))


def last_models(earlier: Path) -> Mapping[str, RunModel]:
    """The models of a run, or of the last run before it whose models evaluated anything.

    A run that was refused, or that no worker joined, has none. Empty if they are unknown.

    Raises:
        ConfigError: a run.json cannot be read, or a run is missing.
    """
    for run in reversed(run_chain(earlier)):
        about = read_run_info(run)
        if about is not None and about.models:
            return about.models
    return {}


def atoms_digest(topology: Topology) -> str:
    """A digest of the elements, in their order, and of the periodic axes."""
    numbers = np.ascontiguousarray(topology.numbers, dtype="<i4").tobytes()
    return hashlib.sha256(numbers + bytes(topology.pbc)).hexdigest()[:16]


def check_same_atoms(earlier: Path, atoms: str) -> None:
    """Refuse to continue a run with other elements, another order or other periodic axes.

    Raises:
        ConfigError: they differ.
    """
    about = read_run_info(earlier)
    if about is not None and about.atoms and about.atoms != atoms:
        raise ConfigError(
            f"{earlier} was made with other atoms: their elements, their order or the periodic "
            "axes have changed in upstream.structure or in [upstream], so atoms would get forces "
            "of other elements. Set them back, or start a fresh run without --restart"
        )


def model_differences(then: Mapping[str, RunModel], now: Mapping[str, RunModel]) -> list[str]:
    """Roles that another model answered then; a role that is new or gone is a setting."""
    return [
        f"the {role} model: {shown(then[role].name)} ({shown(then[role].fingerprint)}) -> "
        f"{shown(model.name)} ({shown(model.fingerprint)})"
        for role, model in now.items()
        if role in then and then[role].fingerprint != model.fingerprint
    ]


def _other(earlier: Path, different: Sequence[str]) -> str:
    return (
        f"{earlier} was made with other settings or models, so the potential would change in the "
        f"middle of a run: {'; '.join(different)} (then -> now). Set them back, or start a fresh "
        "run without --restart"
    )


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


def flat_settings(plain: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Settings below tables by their whole keys: "region.core_radius"."""
    for key, value in plain.items():
        if isinstance(value, Mapping):
            yield from flat_settings(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value


def shown(value: object) -> str:
    """A setting's value for people, cut if it is long."""
    text = "none" if value is None else str([*value] if isinstance(value, tuple) else value)
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 3]}..."
