"""Reads mix.toml; unknown keys, wrong types and inconsistent values are errors with their cure."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Literal, TypeVar

import msgspec

from mixserver.config.messages import explain_error
from mixserver.config.schema import Config
from mixserver.config.validation import validation_error
from mixserver.core.errors import ConfigError
from mixserver.core.near_files import did_you_mean, folders_with

Channel = Literal["mixed", "cheap", "correction"]
"""Which potential an address of i-PI receives: the mixed one, or a part of it."""

_CASE: Final = "mix.toml"
_RECIPE: Final = "distill.toml"

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

    def with_workers_at(self, door: str | None, keys: Path | None = None) -> Case:
        """The same case with another address for workers, or other keys; None leaves them.

        Raises:
            ConfigError: they and other settings contradict each other.
        """
        if door is None and keys is None:
            return self
        workers = self.config.workers
        if door is not None:
            workers = msgspec.structs.replace(workers, door=door)
        if keys is not None:
            workers = msgspec.structs.replace(workers, keys=str(keys.absolute()))
        config = msgspec.structs.replace(self.config, workers=workers)
        problem = validation_error(config)
        if problem:
            raise ConfigError(f"with workers at {workers.door}: {problem}")
        return replace(self, config=config)

    def without_local_workers(self) -> Case:
        """The same case, but a run starts no workers: they come from elsewhere."""
        return replace(self, config=msgspec.structs.replace(self.config, local=()))

    @property
    def channels(self) -> tuple[tuple[Channel, str], ...]:
        """Every address where i-PI listens, with the channel that it receives."""
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
        """The addresses where i-PI listens, one or several."""
        return tuple(address for _, address in self.channels)

    @property
    def shared_addresses(self) -> tuple[str, ...]:
        """Those that two runs cannot use at once; sockets with a name only are private to a run."""
        door = self.config.workers.door
        fixed = [address for address in self.addresses if not _is_private(address)]
        if door.startswith("ipc://") or (door.startswith("tcp://") and not door.endswith(":0")):
            fixed.append(door)
        return tuple(fixed)


def _is_private(address: str) -> bool:
    return address.startswith("unix:") and not address.startswith("unix:/")


def load_case(path: Path) -> Case:
    """Read a case: a folder that holds a mix.toml, or the file itself.

    Raises:
        ConfigError: no such file, not TOML, an unknown key, a value of the wrong kind, values that
            contradict each other.
    """
    file, text = read_settings(path, _CASE)
    return Case(file.parent, file, parse(text, file.name))


def read_settings(path: Path, name: str) -> tuple[Path, str]:
    """A file of settings, which is given or has this name in the given folder; and its text.

    Raises:
        ConfigError: it cannot be read.
    """
    file = path / name if path.is_dir() else path
    try:
        text = file.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise ConfigError(_not_there(path, name)) from error
    except OSError as error:
        raise ConfigError(
            f"{file} cannot be read ({error.strerror}); give a {name} or its folder"
        ) from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{file} is not UTF-8 text: {error}{_instead(file, name)}") from error
    if file.suffix != ".toml" and not _is_toml(text):
        raise ConfigError(f"{file} is no {name}{_instead(file, name)}")
    return file, text


def _not_there(path: Path, name: str) -> str:
    """What to tell where there is no such folder or file, or a folder has no file of this name."""
    more = "; `mixserver new` makes a case" if name == _CASE else ""
    give = f"give a folder with a {name}, or that file{more}"
    if not path.is_dir():
        near = did_you_mean(path, lambda place: place.is_file() or (place / name).is_file())
        return f"there is no file or folder {path}{near or f'; {give}'}"
    other = _RECIPE if name == _CASE else _CASE
    if (path / other).is_file():
        command = "distill" if other == _RECIPE else "run"
        return f"{path} has no {name}, but a {other} (mixserver {command} {path}); {give}"
    if below := folders_with(path, name):
        return f"{path} has no {name}; folders in it that have one: {', '.join(map(str, below))}"
    return f"{path} has no {name}; {give}"


def _instead(file: Path, name: str) -> str:
    beside = (file.parent / name).is_file()
    return f"; give {f'its folder, {file.parent}' if beside else f'a {name} or its folder'}"


def _is_toml(text: str) -> bool:
    try:
        tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        return False
    return True


def parse(text: str, name: str = "mix.toml") -> Config:
    """Turn the text of a mix.toml into typed values.

    Raises:
        ConfigError: as `load_case`.
    """
    config = convert_toml(text, name, Config)
    problem = validation_error(config)
    if problem:
        raise ConfigError(f"{name}: {problem}")
    return config


def convert_toml(text: str, name: str, root: type[_Root]) -> _Root:
    """Turn the text of a TOML file into the values of a root table.

    Args:
        text: the file's.
        name: of the file, for messages.
        root: a Struct of tables that forbid unknown fields.

    Raises:
        ConfigError: not TOML, an unknown key, a value of the wrong kind.
    """
    try:
        tables = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{name} is not valid TOML: {error}") from error
    try:
        return msgspec.convert(tables, root)
    except msgspec.ValidationError as error:
        raise ConfigError(f"{name}: {explain_error(str(error), root, tables)}") from error
