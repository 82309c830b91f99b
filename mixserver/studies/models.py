"""models.toml of a study: the models to use instead of those of its case."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import msgspec

from mixserver.config import Local
from mixserver.config.load import convert_toml
from mixserver.core.errors import ConfigError

MODELS: Final = "models.toml"
_OPTION: Final = "-"


class OwnModel(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One model, as in [[local]] of mix.toml."""

    command: tuple[str, ...]
    count: int = 1
    mpi: int = 1
    threads: int = 1
    environment: dict[str, str] = {}


class OwnModels(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The file."""

    cheap: OwnModel | None = None
    expensive: OwnModel | None = None


def study_workers(folder: Path, workers: Sequence[Local], home: Path) -> tuple[Local, ...]:
    """The workers of a case with the models of a study's models.toml, if there is one.

    Args:
        folder: of the study, where models.toml may be.
        workers: those of the case.
        home: the folder of the case.

    Returns:
        The workers, with absolute paths in their commands.

    Raises:
        ConfigError: the file is wrong, or a file that a command names does not exist.
    """
    file = folder / MODELS
    own = OwnModels()
    if file.exists():
        try:
            text = file.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"{file} cannot be read: {error}") from error
        own = convert_toml(text, str(file), OwnModels)
    found = []
    for one in workers:
        other: OwnModel | None = getattr(own, one.role)
        if other is None:
            local, place, source = one, home, home / "mix.toml"
        else:
            local = Local(role=one.role, **msgspec.structs.asdict(other))
            place, source = folder, file
        command = _absolute(local.command, place, f"{source}, the {one.role} model")
        found.append(msgspec.structs.replace(local, command=command))
    return tuple(found)


def _absolute(command: Sequence[str], folder: Path, where: str) -> tuple[str, ...]:
    """A command whose files are named absolutely; the word after the engine must be one.

    Raises:
        ConfigError: there is no such file.
    """
    words = []
    for at, word in enumerate(command):
        file = (folder / word).resolve()
        if not word.startswith(_OPTION) and file.is_file():
            words.append(str(file))
            continue
        if at == 1 and not word.startswith(_OPTION):
            raise ConfigError(
                f"{where}: there is no file {file}; name the model's file in {MODELS} as "
                f'[cheap] or [expensive] command = ["{command[0]}", "FILE", ...]'
            )
        words.append(word)
    return tuple(words)


def fingerprints(workers: Sequence[Local]) -> dict[str, str]:
    """Digest of each role's command and of the files that it names, for results to be compared."""
    found: dict[str, str] = {}
    for one in workers:
        digest = hashlib.sha256()
        for word in one.command:
            file = Path(word)
            named = file.is_absolute() and file.is_file()
            digest.update(file.read_bytes() if named else word.encode())
            digest.update(b"\0")
            if named:  # a LAMMPS input names its potential's files beside it
                for other in sorted(file.parent.glob(f"{file.stem}.*")):
                    if other.is_file() and other != file:
                        digest.update(other.read_bytes())
        found[one.role] = digest.hexdigest()[:16]
    return found
