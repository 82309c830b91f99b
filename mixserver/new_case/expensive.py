"""The expensive model of a new case: a MACE file, or any command of a worker."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from mixserver.analysis.model_file import read_model_file
from mixserver.core.errors import ConfigError
from mixserver.core.labels import element_symbols
from mixserver.core.near_files import did_you_mean

_KINDS: Final = ("mace", "nequip", "metatomic", "ase", "toy", "lammps")
"""Workers, by the word that comes first in a command."""
_PUBLISHED: Final = ("mace_mp:", "mace_off:")


@dataclass(frozen=True)
class Expensive:
    """The worker of the expensive model."""

    command: tuple[str, ...]
    """Arguments of mixserver-worker; files relative to the case."""
    files: dict[str, Path] = field(default_factory=dict)
    """Name in the case's folder model/ -> the user's file."""
    receptive_field: float | None = None
    """Å; None if it is not known before a worker has loaded the model."""
    words: str = ""
    """What is known of it, for people."""


def read_expensive(text: str, symbols: Sequence[str], head: str | None) -> Expensive:
    """The option --expensive: a MACE file or name, or a worker's command.

    Args:
        text: "my.model", "mace_mp:small", or "nequip my.pth --device cuda".
        symbols: elements of the structure; a MACE file must know all of them.
        head: of a MACE with several.

    Raises:
        ConfigError: no such file, not a MACE model, or one that lacks an element or needs a head.
    """
    words = shlex.split(text)
    if not words:
        raise ConfigError("--expensive is empty; give a MACE file or a worker's command")
    if words[0] in _KINDS and not Path(words[0]).is_file():
        kind, *rest = words
    else:
        kind, rest = "mace", words
    if not rest:
        raise ConfigError(f"--expensive {text!r}: {kind} what? Give the file of the model, too")
    files: dict[str, Path] = {}
    command = [kind]
    for word in rest:
        path = Path(word).expanduser()
        if path.is_file():
            files[path.name] = path
            command.append(f"model/{path.name}")
        else:
            command.append(word)
    if kind != "mace":
        return Expensive(tuple(command), files, words=f"a {kind} worker; mixserver check loads it")
    name = rest[0]
    if head is not None:
        command += ["--head", head]
    if name.startswith(_PUBLISHED):
        return Expensive(tuple(command), files, words=f"{name}, which mace-torch downloads")
    if not files:
        near = did_you_mean(Path(name), Path.is_file)
        raise ConfigError(
            f"--expensive {name!r} is no file here{near or '.'} Give a MACE file, mace_mp:NAME, "
            f"or the command of another worker, which begins with {', '.join(_KINDS[1:])}"
        )
    return _mace(command, files, symbols)


def _mace(command: list[str], files: dict[str, Path], symbols: Sequence[str]) -> Expensive:
    file = next(iter(files.values()))
    facts = read_model_file(file)
    known = element_symbols(facts.species)
    missing = [symbol for symbol in symbols if symbol not in known]
    if missing:
        raise ConfigError(
            f"{file} knows {', '.join(known[:12])}{', ...' if len(known) > 12 else ''}, and the "
            f"structure has {', '.join(missing)} too; give a model of every element"
        )
    if len(facts.heads) > 1 and not {"--head"} & set(command):
        raise ConfigError(f"{file} has the heads {', '.join(facts.heads)}; choose one with --head")
    if "--dtype" not in command:
        command += ["--dtype", "float64"]
    field_ = facts.receptive_field
    words = (
        f"{facts.kind} for {', '.join(known[:12])}, receptive field {field_:g} Å "
        f"({facts.layers} x {facts.cutoff:g} Å)"
    )
    return Expensive(tuple(command), files, field_, words)
