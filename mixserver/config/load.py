"""Reading mix.toml: unknown keys, wrong types and contradictions are errors that name the cure."""

from __future__ import annotations

import difflib
import re
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args, get_origin

import msgspec

from mixserver.config.tables import (
    AtomSeeds,
    Config,
    CriterionSeeds,
    CylinderSeeds,
    Region,
    SpeciesSeeds,
    SphereSeeds,
)
from mixserver.errors import ConfigError

_UNKNOWN = re.compile(r"Object contains unknown field `(?P<key>[^`]*)`(?: - at `\$\.?(?P<at>.*)`)?")
_AT = re.compile(r"^(?P<what>.*?)(?: - at `\$\.?(?P<at>.*)`)?$", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Case:
    """One job: a folder with a mix.toml."""

    folder: Path
    """Paths in mix.toml are relative to it."""
    file: Path
    """The mix.toml itself."""
    config: Config

    @property
    def structure(self) -> Path:
        """The file that names the atoms."""
        return self.folder / self.config.upstream.structure

    @property
    def addresses(self) -> tuple[str, ...]:
        """Where upstream listens, one or several."""
        address = self.config.upstream.address
        return (address,) if isinstance(address, str) else address


def load_case(path: Path) -> Case:
    """Read a case: a folder that holds a mix.toml, or the file itself.

    Raises:
        ConfigError: no such file, no TOML, an unknown key, a value of the wrong kind, values that
            contradict each other.
    """
    file = path / "mix.toml" if path.is_dir() else path
    try:
        text = file.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(
            f"{file} cannot be read ({error.strerror}); give a case's folder or its mix.toml"
        ) from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{file} is not UTF-8 text: {error}") from error
    return Case(file.parent, file, parse(text, file.name))


def parse(text: str, name: str = "mix.toml") -> Config:
    """Turn the text of a mix.toml into typed values.

    Raises:
        ConfigError: as `load_case`.
    """
    try:
        tables = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{name} is not valid TOML: {error}") from error
    try:
        config = msgspec.convert(tables, Config)
    except msgspec.ValidationError as error:
        raise ConfigError(f"{name}: {_explain(str(error))}") from error
    problem = _contradiction(config)
    if problem:
        raise ConfigError(f"{name}: {problem}")
    return config


def _explain(message: str) -> str:
    unknown = _UNKNOWN.search(message)
    if unknown:
        key, at = unknown["key"], unknown["at"] or ""
        table = at.replace("[...]", "")
        full = f"{table}.{key}" if table else key
        near = difflib.get_close_matches(key, _keys(table), n=1, cutoff=0.5)
        hint = f"; did you mean {f'{table}.{near[0]}' if table else near[0]}?" if near else ""
        return f"{full} is not a setting{hint}"
    parts = _AT.match(message)
    if parts and parts["at"]:
        at = parts["at"].replace("[...]", "")
        allowed = _allowed(at) if parts["what"].startswith("Invalid") else []
        among = f"; it is one of {', '.join(map(repr, allowed))}" if allowed else ""
        return f"{at}: {parts['what']}{among}"
    return message


def _allowed(key: str) -> list[str]:
    """The values a key can have, where they can be counted: of a Literal, or kinds of a table."""
    table, _, name = key.rpartition(".")
    kinds = _tables(table)
    literals = [
        value
        for kind in kinds
        for entry in msgspec.structs.fields(kind)
        if entry.encode_name == name and get_origin(entry.type) is Literal
        for value in get_args(entry.type)
    ]
    tags = [
        str(config.tag) for kind in kinds if (config := kind.__struct_config__).tag_field == name
    ]
    return literals or tags


def _keys(table: str) -> list[str]:
    """Keys of the table at a dotted path, over all kinds a table can have."""
    return [entry.encode_name for kind in _tables(table) for entry in msgspec.structs.fields(kind)]


def _tables(path: str) -> list[type[msgspec.Struct]]:
    """The kinds that the table at a dotted path can have."""
    kinds: list[type[msgspec.Struct]] = [Config]
    for part in filter(None, path.split(".")):
        inner: list[type[msgspec.Struct]] = []
        for kind in kinds:
            for entry in msgspec.structs.fields(kind):
                if entry.encode_name == part:
                    inner += _structs(entry.type)
        kinds = inner
    return kinds


def _structs(kind: object) -> list[type[msgspec.Struct]]:
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        return [kind]
    return [found for inner in getattr(kind, "__args__", ()) for found in _structs(inner)]


def _contradiction(config: Config) -> str:
    """What is typed correctly but cannot be meant, or ""."""
    models, workers, upstream = config.models, config.workers, config.upstream
    positive = {
        "upstream.connections": upstream.connections,
        "upstream.force_timeout_s": upstream.force_timeout_s,
        "workers.patience_s": workers.patience_s,
        "workers.heartbeat_s": workers.heartbeat_s,
        "workers.first_worker_s": workers.first_worker_s,
        "workers.failures": workers.failures,
        "workers.job_timeout_s": workers.job_timeout_s,
        "record.every": config.record.every,
    }
    for key, value in positive.items():
        if not value > 0:
            return f"{key} must be positive, got {value}"
    if workers.heartbeat_s * 2 > workers.patience_s:
        return (
            f"workers.patience_s = {workers.patience_s} must be at least twice workers.heartbeat_s "
            f"= {workers.heartbeat_s}, or one late heartbeat counts as a death"
        )
    if models.cheap is None and models.expensive is None:
        return "[models] names no model; add [models.cheap], [models.expensive] or both"
    both = models.cheap is not None and models.expensive is not None
    if config.region is None and both:
        return (
            "two models but no [region]: say which atoms are expensive, or name one model only "
            "(mixserver then passes everything through to it)"
        )
    if config.region is not None and not both:
        return "[region] needs both [models.cheap] and [models.expensive]"
    for local in config.local:
        if (models.cheap if local.role == "cheap" else models.expensive) is None:
            return f"[[local]] starts a worker for {local.role}, but [models] has no {local.role}"
        if not local.command or local.count < 1 or local.mpi < 1 or local.threads < 1:
            return "[[local]] needs a command, and count, mpi and threads of at least 1"
    return _region_contradiction(config.region) if config.region is not None else ""


def _region_contradiction(region: Region) -> str:
    for key in ("core_radius", "blend_width", "buffer_width", "halo_width"):
        value = getattr(region, key)
        if not isinstance(value, str) and value < 0:
            return f"region.{key} must not be negative, got {value} Å"
    memory = region.hysteresis
    if memory is not None and not (memory.time_in > 0 and memory.time_out > 0):
        return "region.hysteresis times must be positive (evaluations)"
    match region.seeds:
        case AtomSeeds(indices=()):
            return "region.seeds.indices is empty: name at least one atom, counted from 0"
        case SpeciesSeeds(elements=()):
            return "region.seeds.elements is empty: name at least one element"
        case SphereSeeds(radius=radius) | CylinderSeeds(radius=radius) if radius < 0:
            return f"region.seeds.radius must not be negative, got {radius} Å"
        case CriterionSeeds() as seeds:
            if min(seeds.every, seeds.sample_every, seeds.samples) < 1:
                return "region.seeds: every, sample_every and samples count from 1"
            if seeds.samples * seeds.sample_every > seeds.every:
                return (
                    f"region.seeds: {seeds.samples} samples every {seeds.sample_every} evaluations "
                    f"do not fit between choices every {seeds.every}; raise region.seeds.every"
                )
            if seeds.low > seeds.high:
                return f"region.seeds: low = {seeds.low} is above high = {seeds.high}"
        case _:
            pass
    return ""
