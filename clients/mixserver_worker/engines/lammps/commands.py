"""Read a potential from a file of LAMMPS commands.

Follows ``include``, has LAMMPS evaluate variables, finds the files that commands name, assigns
elements to atom types, refuses commands that belong to the engine, and takes the fingerprint.
"""

from __future__ import annotations

import hashlib
import itertools
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeAlias

from mixserver.core.errors import ConfigError
from mixserver_worker.engines.elements import NUMBERS
from mixserver_worker.engines.lammps.files import RecordedFile, find_file, find_folder
from mixserver_worker.engines.lammps.library import LammpsLibrary
from mixserver_worker.engines.lammps.text import (
    is_number,
    logical_lines,
    quoted,
    uncommented,
    words_of,
)
from mixserver_worker.engines.lammps.variables import Variables

_BEFORE_BOX = frozenset({"units", "atom_style", "newton", "package", "suffix", "plugin"})
_AFTER_BOX = frozenset(
    {"pair_style", "pair_coeff", "pair_modify", "kspace_style", "kspace_modify", "dielectric"}
    | {"special_bonds", "labelmap", "mass", "set", "variable", "neigh_modify", "comm_modify"}
    | {"comm_style", "include"}
)
_IGNORED = frozenset({"clear", "echo", "log", "print", "neighbor", "info", "boundary", "dimension"})
_FILELESS: Final = frozenset(
    {"units", "atom_style", "newton", "suffix", "labelmap", "mass", "set", "neigh_modify"}
    | {"comm_modify", "comm_style", "special_bonds", "dielectric"}
)
"""Commands that name no files."""
_KEYWORDS: Final = frozenset(
    {"NULL", "none", "model", "descriptor", "linear", "quadratic", "nn", "sna", "so3", "ace"}
    | {"mliappy", "unified", "spline", "lookup", "bitmap", "pppm", "ewald", "msm", "disp", "tip4p"}
)
"""Keywords of LAMMPS, never names of files."""
_MOST_INCLUDES = 20

Word: TypeAlias = str | Path
"""A word of a command; a Path where it names a file or a folder."""


@dataclass(frozen=True, slots=True)
class Commands:
    """The contents of a commands file."""

    source: Path
    before_box: tuple[str, ...]
    """Commands that LAMMPS needs before the box exists."""
    after_box: tuple[str, ...]
    """The potential itself, with variables evaluated and absolute paths."""
    elements: tuple[str, ...]
    """Element of atom type 1, 2, ..."""
    styles: tuple[str, ...]
    """Words of the pair_style line: the style and its arguments."""
    fingerprint: str
    """sha256 of the evaluated commands and of every file that they name."""
    files: tuple[RecordedFile, ...] = ()
    """The files that they name, as the fingerprint covers them."""
    reduced: tuple[str, ...] = ()
    """What LAMMPS computes in less than double precision."""

    @property
    def numbers(self) -> tuple[int, ...]:
        """Atomic number of atom type 1, 2, ..."""
        return tuple(NUMBERS[symbol] for symbol in self.elements)


def read_commands(
    source: Path,
    folders: Sequence[Path] = (),
    elements: Sequence[str] | None = None,
    *,
    interpreter: LammpsLibrary | None = None,
    ascii_path: Callable[[Path], str] = str,
) -> Commands:
    """Read a file of LAMMPS commands that defines a potential.

    Args:
        source: the file, with ``pair_style``, ``pair_coeff`` and related commands.
        folders: searched for potential files after the file's own and the current folder.
        elements: element of atom type 1, 2, ...; None reads them from a ``labelmap atom``
            command or from the end of ``pair_coeff * *``.
        interpreter: a LAMMPS without a box, which evaluates variables; None refuses them.
        ascii_path: returns a path in a form that LAMMPS can read.

    Raises:
        ConfigError: the file is missing, or it has a forbidden command, another unit system, a
            variable without a value, or no elements.
    """
    digest = hashlib.sha256()
    variables = Variables(interpreter)
    reader = _Reader(folders, variables, interpreter, ascii_path)
    lines = list(reader.lines(source, (source.parent,), 0))
    texts: list[str] = []
    files: list[RecordedFile] = []
    digested = 0
    run_time = _run_time_variables(lines)
    for line in lines:
        if line[0] == "variable" and line[1:2] and line[1] not in run_time:
            texts.append(_text(line, ascii_path, source))
            continue  # its value replaces it where it is used
        digest.update("\0".join(_normalised(line)).encode("utf-8", "surrogateescape") + b"\n")
        files += [RecordedFile.record(word) for word in line if isinstance(word, Path)]
        digest.update(b"".join(file.digest for file in files[digested:]))
        digested = len(files)
        texts.append(_text(line, ascii_path, source))
    plain = [[str(word) for word in words] for words in lines]
    for words, text in zip(plain, texts, strict=True):
        if words[0] == "units" and words[1:] != ["metal"]:
            raise ConfigError(
                f"{source}: {text!r}, but mixserver works in Å and eV and needs units metal. "
                "Convert the potential, or use a file for metal units."
            )
    styles = [words[1:] for words in plain if words[0] == "pair_style"]
    if not styles or not styles[-1]:
        raise ConfigError(f"{source} has no pair_style")
    for name in sorted(run_time & variables.values.keys()):
        value = f"{name} = {variables.values[name]}\n"
        digest.update(value.encode("utf-8", "surrogateescape"))
    named = _element_names(plain, source, elements)
    digest.update(" ".join(named).encode())
    commands = list(zip(plain, texts, strict=True))
    return Commands(
        source=source,
        before_box=tuple(text for words, text in commands if words[0] in _BEFORE_BOX),
        after_box=tuple(text for words, text in commands if words[0] in _AFTER_BOX),
        elements=named,
        styles=tuple(styles[-1]),
        fingerprint=digest.hexdigest(),
        files=tuple(files),
    )


def _run_time_variables(lines: Sequence[Sequence[Word]]) -> set[str]:
    """Names of the variables that LAMMPS evaluates during a run: v_name."""
    words = (word for line in lines for word in line if isinstance(word, str))
    return {name for word in words for name in re.findall(r"v_(\w+)", word)}


def _normalised(words: Sequence[Word]) -> Iterator[str]:
    """Words of a command with file names in place of paths, which do not matter."""
    for word in words:
        yield word.name if isinstance(word, Path) else word


def _text(words: Sequence[Word], ascii_path: Callable[[Path], str], source: Path) -> str:
    """The command as text for LAMMPS."""
    texts = [ascii_path(word) if isinstance(word, Path) else word for word in words]
    odd = next((word for word in texts if not word.isascii()), "")
    if odd:
        raise ConfigError(
            f"{source}: {' '.join(map(str, words))!r}: LAMMPS reads ASCII only, but {odd!r} is not "
            "ASCII, and no file of this name was found beside the commands file, in the current "
            "folder, in LAMMPS_POTENTIALS or among LAMMPS's own potentials"
        )
    try:
        return " ".join(quoted(word) for word in texts)
    except ValueError as error:
        raise ConfigError(f"{source}: {error}") from error


class _Reader:
    """Reads a commands file and its includes in the order of LAMMPS."""

    def __init__(
        self,
        shared: Sequence[Path],
        variables: Variables,
        interpreter: LammpsLibrary | None,
        ascii_path: Callable[[Path], str],
    ) -> None:
        self._shared, self._variables = shared, variables
        self._interpreter, self._ascii_path = interpreter, ascii_path

    def lines(self, source: Path, here: tuple[Path, ...], depth: int) -> Iterator[list[Word]]:
        """The words of each command, with Paths for files."""
        try:
            text = source.read_text(encoding="utf-8-sig")
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"cannot read the LAMMPS commands in {source}: {error}") from error
        if depth > _MOST_INCLUDES:
            raise ConfigError(f"{source} includes itself")
        for raw in logical_lines(text):
            line = uncommented(raw).strip()
            if not line or line.split()[0] in _IGNORED:
                continue
            words = self._words(line, source)
            command = words[0] if words else ""
            if not command or command in _IGNORED:
                continue
            if command not in _BEFORE_BOX | _AFTER_BOX:
                raise ConfigError(
                    f"{source}: {command!r} is not allowed here. The file holds the potential only "
                    f"({', '.join(sorted(_AFTER_BOX))}); box, atoms and runs are the engine's."
                )
            if command == "include":
                named = self._file(words[-1], here) or Path(words[-1])
                yield from self.lines(named, (named.parent, *here), depth + 1)
            elif command == "variable":
                if words[2:3] == ["file"] and (path := self._file("".join(words[3:4]), here)):
                    words[3] = self._ascii_path(path)
                yield list(self._variables.define(words, source))
            elif command in _FILELESS:
                yield list(words)
            else:
                yield [command, *self._resolved(words, here)]

    def _words(self, line: str, source: Path) -> list[str]:
        expanded = self._variables.expanded(line, source)
        try:
            words = words_of(expanded)
        except ValueError as error:
            raise ConfigError(f"{source}: {line!r}: {error}") from error
        left = next((word for word in words if "$" in word), "")
        if left:
            raise ConfigError(
                f"{source}: {line!r}: LAMMPS does not replace variables inside quotes, so "
                f"{left!r} would stay as it is; remove the quotes"
            )
        return words

    def _resolved(self, words: Sequence[str], here: tuple[Path, ...]) -> Iterator[Word]:
        for before, word in itertools.pairwise(words):
            plain = not word or word in NUMBERS or word in _KEYWORDS or "*" in word
            if plain or is_number(word) or (words[0] == "pair_style" and self._style(word)):
                yield word
                continue
            path = self._file(word, here)
            if path is None and ("/" in word or before == "dir") and not self._style(word):
                path = find_folder(word, (*here, Path.cwd()))
            yield word if path is None else path

    def _file(self, word: str, here: tuple[Path, ...]) -> Path | None:
        return find_file(word, (*here, Path.cwd()), self._shared)

    def _style(self, word: str) -> bool:
        return self._interpreter is not None and self._interpreter.has_style("pair", word)


def _element_names(
    lines: Sequence[Sequence[str]], source: Path, given: Sequence[str] | None
) -> tuple[str, ...]:
    cure = (
        'assign elements to atom types with a line like "labelmap atom 1 Si 2 C" in the commands '
        "file, or start the worker with --elements Si,C"
    )
    named = list(given or _from_labelmap(lines) or _from_pair_coeff(lines))
    if not named:
        raise ConfigError(f"{source}: pair_coeff * * does not end in element names; {cure}")
    unknown = [symbol for symbol in named if symbol not in NUMBERS]
    if unknown:
        raise ConfigError(f"{source}: {unknown[0]!r} is not an element; {cure}")
    twice = {symbol for symbol in named if named.count(symbol) > 1}
    if twice:
        raise ConfigError(
            f"{source}: {sorted(twice)[0]} is named twice ({' '.join(named)}); {cure}"
        )
    return tuple(named)


def _from_labelmap(lines: Sequence[Sequence[str]]) -> list[str]:
    """Elements from ``labelmap atom 1 Si 2 C``."""
    labels: dict[int, str] = {}
    for words in lines:
        if words[:2] == ["labelmap", "atom"]:
            pairs = zip(words[2::2], words[3::2], strict=False)
            labels |= {int(type_): label for type_, label in pairs if type_.isdigit()}
    return [labels.get(type_, "?") for type_ in range(1, max(labels, default=0) + 1)]


def _from_pair_coeff(lines: Sequence[Sequence[str]]) -> list[str]:
    """Elements at the end of ``pair_coeff * * ... Si C``; NULL leaves a gap."""
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
        for at, name in enumerate(names):
            if name != "NULL":
                merged[at] = name
    return merged
