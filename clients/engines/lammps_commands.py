"""A potential as LAMMPS users write it: a file of commands. Knows text and files, not LAMMPS.

Reads the file, follows ``include``, finds the files it names, works out which element is which
atom type, refuses commands that are the engine's business, and takes the fingerprint.
"""

from __future__ import annotations

import hashlib
import os
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from clients.engines.elements import NUMBERS
from mixserver.errors import ConfigError

_BEFORE_BOX = frozenset({"units", "atom_style", "newton", "package", "suffix", "plugin"})
_AFTER_BOX = frozenset(
    {"pair_style", "pair_coeff", "pair_modify", "kspace_style", "kspace_modify", "dielectric"}
    | {"special_bonds", "labelmap", "mass", "set", "variable", "neigh_modify", "comm_modify"}
    | {"comm_style", "include"}
)
_IGNORED = frozenset({"clear", "echo", "log", "print", "neighbor", "info", "boundary", "dimension"})
_MOST_INCLUDES = 20


@dataclass(frozen=True, slots=True)
class Commands:
    """What a commands file says."""

    source: Path
    before_box: tuple[str, ...]
    """Commands LAMMPS wants before there is a box."""
    after_box: tuple[str, ...]
    """The potential itself, paths made absolute."""
    elements: tuple[str, ...]
    """Element of atom type 1, 2, ..."""
    styles: tuple[str, ...]
    """Words of the pair_style line: the style and, of a hybrid, its parts among other things."""
    fingerprint: str
    """sha256 of the commands as LAMMPS sees them and of every file they name."""

    @property
    def numbers(self) -> tuple[int, ...]:
        """Atomic number of atom type 1, 2, ..."""
        return tuple(NUMBERS[symbol] for symbol in self.elements)


def read_commands(
    source: Path, folders: Sequence[Path] = (), elements: Sequence[str] | None = None
) -> Commands:
    """Read a file of LAMMPS commands that defines a potential.

    Args:
        source: the file; ``pair_style``, ``pair_coeff`` and what belongs to them.
        folders: where potential files are looked for after the file's own folder.
        elements: element of atom type 1, 2, ...; None reads them from a ``labelmap atom``
            command or from the end of ``pair_coeff * *``.

    Raises:
        ConfigError: the file is missing, has a command that is not allowed here, another unit
            system, or does not tell its elements.
    """
    lines = list(_lines(source, (source.parent, *folders), 0))
    before = tuple(text for text, words in lines if words[0] in _BEFORE_BOX)
    for text, words in lines:
        if words[0] == "units" and words[1:] != ["metal"]:
            raise ConfigError(
                f"{source}: {text!r}, but mixserver works in Å and eV and needs units metal. "
                "Convert the potential, or use a file for metal units."
            )
    styles = [words[1:] for _, words in lines if words[0] == "pair_style"]
    if not styles or not styles[-1]:
        raise ConfigError(f"{source}: there is no pair_style in it")
    digest = hashlib.sha256()
    for _, words in lines:
        digest.update("\0".join(_normalised(words)).encode() + b"\n")
        for word in words:
            if Path(word).is_absolute() and Path(word).is_file():
                digest.update(hashlib.sha256(Path(word).read_bytes()).digest())
    named = _elements([words for _, words in lines], source, elements)
    digest.update(" ".join(named).encode())
    return Commands(
        source=source,
        before_box=before,
        after_box=tuple(text for text, words in lines if words[0] in _AFTER_BOX),
        elements=named,
        styles=tuple(styles[-1]),
        fingerprint=digest.hexdigest(),
    )


def _normalised(words: Sequence[str]) -> Iterator[str]:
    """Words of a command, files by their names only: where a file lies does not matter."""
    for word in words:
        path = Path(word)
        yield path.name if path.is_absolute() and path.is_file() else word


def _lines(source: Path, folders: Sequence[Path], depth: int) -> Iterator[tuple[str, list[str]]]:
    """Each command as LAMMPS should get it, and its words; includes followed."""
    try:
        text = source.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read the LAMMPS commands in {source}: {error}") from error
    if depth > _MOST_INCLUDES:
        raise ConfigError(f"{source}: includes itself")
    joined = ""
    for raw in text.splitlines():
        joined += _uncommented(raw).strip()
        if joined.endswith("&"):
            joined = joined[:-1] + " "
            continue
        line, joined = joined, ""
        if not line:
            continue
        try:
            words = shlex.split(line)
        except ValueError as error:
            raise ConfigError(f"{source}: {line!r}: {error}") from error
        command = words[0]
        if command in _IGNORED:
            continue
        if command not in _BEFORE_BOX | _AFTER_BOX:
            raise ConfigError(
                f"{source}: {command!r} is not allowed here. The file holds the potential only "
                f"({', '.join(sorted(_AFTER_BOX))}); box, atoms and runs are the engine's."
            )
        words = [command, *(_found(word, folders) for word in words[1:])]
        if command == "include":
            yield from _lines(Path(words[-1]), (Path(words[-1]).parent, *folders), depth + 1)
            continue
        yield " ".join(quoted(word) for word in words), words


def _uncommented(line: str) -> str:
    quote = ""
    for at, character in enumerate(line):
        if quote:
            quote = "" if character == quote else quote
        elif character in "\"'":
            quote = character
        elif character == "#":
            return line[:at]
    return line


def quoted(word: str) -> str:
    """A word as LAMMPS reads it back."""
    return f'"{word}"' if not word or any(c.isspace() for c in word) else word


def _found(word: str, folders: Sequence[Path]) -> str:
    """The absolute path of a word that names a file in one of the folders, or the word."""
    if not word or word in NUMBERS or "*" in word or "$" in word:
        return word
    for folder in folders:
        path = folder / word
        if path.is_file():
            return os.path.abspath(path)
    return word


def _elements(
    lines: Sequence[Sequence[str]], source: Path, given: Sequence[str] | None
) -> tuple[str, ...]:
    cure = (
        'say which atom type is which element, as in "labelmap atom 1 Si 2 C", in the commands '
        "file, or start the worker with --elements Si,C"
    )
    named = list(given or _labelled(lines) or _mapped(lines))
    if not named:
        raise ConfigError(f"{source}: pair_coeff * * does not end in element names; {cure}")
    unknown = [symbol for symbol in named if symbol not in NUMBERS]
    if unknown:
        raise ConfigError(f"{source}: {unknown[0]!r} is no element; {cure}")
    twice = {symbol for symbol in named if named.count(symbol) > 1}
    if twice:
        raise ConfigError(
            f"{source}: {sorted(twice)[0]} is named twice ({' '.join(named)}); {cure}"
        )
    return tuple(named)


def _labelled(lines: Sequence[Sequence[str]]) -> list[str]:
    """Elements by ``labelmap atom 1 Si 2 C``."""
    labels: dict[int, str] = {}
    for words in lines:
        if words[:2] == ["labelmap", "atom"]:
            pairs = zip(words[2::2], words[3::2], strict=False)
            labels |= {int(kind): label for kind, label in pairs if kind.isdigit()}
    return [labels.get(kind, "?") for kind in range(1, max(labels, default=0) + 1)]


def _mapped(lines: Sequence[Sequence[str]]) -> list[str]:
    """Elements by the names at the end of ``pair_coeff * * ... Si C``; NULL leaves a gap."""
    merged: list[str] = []
    for words in lines:
        if words[:3] != ["pair_coeff", "*", "*"]:
            continue
        names: list[str] = []
        for word in reversed(words[3:]):
            if word not in NUMBERS and word != "NULL":
                break
            names.insert(0, word)
        if len(names) > len(merged):
            merged += ["NULL"] * (len(names) - len(merged))
        for kind, name in enumerate(names):
            if name != "NULL":
                merged[kind] = name
    return merged
