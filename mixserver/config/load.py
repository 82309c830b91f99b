"""Reading mix.toml: unknown keys, wrong types and contradictions are errors that name the cure."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, TypeVar

import msgspec

from mixserver.config.contradictions import contradiction
from mixserver.config.explain import explained
from mixserver.config.tables import Config
from mixserver.errors import ConfigError

Channel = Literal["mixed", "cheap", "correction"]
"""What an address of i-PI is answered: the whole, or a part of it."""

_Root = TypeVar("_Root", bound=msgspec.Struct)


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
    def runs(self) -> Path:
        """The folder in which every run makes a new one."""
        return self.folder / self.config.record.folder

    def with_runs(self, folder: Path | None) -> Case:
        """The same case with its runs in another folder; None leaves it as it is."""
        if folder is None:
            return self
        record = msgspec.structs.replace(self.config.record, folder=str(folder.absolute()))
        return replace(self, config=msgspec.structs.replace(self.config, record=record))

    @property
    def channels(self) -> tuple[tuple[Channel, str], ...]:
        """Who is answered what: every address where upstream listens, with its channel."""
        upstream = self.config.upstream
        listed: dict[Channel, str | tuple[str, ...]] = {
            "mixed": upstream.address,
            "cheap": upstream.channels.cheap,
            "correction": upstream.channels.correction,
        }
        return tuple(
            (channel, address)
            for channel, some in listed.items()
            for address in ((some,) if isinstance(some, str) else some)
        )

    @property
    def addresses(self) -> tuple[str, ...]:
        """Where upstream listens, one or several."""
        return tuple(address for _, address in self.channels)


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
    config = typed(text, name, Config)
    problem = contradiction(config)
    if problem:
        raise ConfigError(f"{name}: {problem}")
    return config


def typed(text: str, name: str, root: type[_Root]) -> _Root:
    """Turn the text of a TOML file into the values of a root table.

    Args:
        text: the file's.
        name: of the file, for messages.
        root: a Struct of tables that forbid unknown fields.

    Raises:
        ConfigError: no TOML, an unknown key, a value of the wrong kind.
    """
    try:
        tables = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{name} is not valid TOML: {error}") from error
    try:
        return msgspec.convert(tables, root)
    except msgspec.ValidationError as error:
        raise ConfigError(f"{name}: {explained(str(error), root, tables)}") from error
