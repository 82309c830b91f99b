"""A potential as LAMMPS users write it: a file of commands. Knows text and files, not LAMMPS.

Reads the file, follows ``include``, has LAMMPS put in the values of variables, finds the files that
are named then, works out which element is which atom type, refuses commands that are the engine's
business, and takes the fingerprint.
"""

from __future__ import annotations

import hashlib
import itertools
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeAlias

from clients.engines.elements import NUMBERS
from clients.engines.lammps_files import Seen, found, found_folder
from clients.engines.lammps_variables import Shell, Variables
from clients.engines.lammps_words import logical_lines, quoted, uncommented, words_of
from mixserver.errors import ConfigError

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
"""Words of LAMMPS's own, never the names of files."""
_MOST_INCLUDES = 20

Word: TypeAlias = str | Path
"""A word of a command; a Path where it names a file or a folder."""


@dataclass(frozen=True, slots=True)
class Commands:
    """What a commands file says."""

    source: Path
    before_box: tuple[str, ...]
    """Commands LAMMPS wants before there is a box."""
    after_box: tuple[str, ...]
    """The potential itself: variables filled in, paths made absolute."""
    elements: tuple[str, ...]
    """Element of atom type 1, 2, ..."""
    styles: tuple[str, ...]
    """Words of the pair_style line: the style and, of a hybrid, its parts among other things."""
    fingerprint: str
    """sha256 of the commands as LAMMPS sees them and of every file they name."""
    files: tuple[Seen, ...] = ()
    """The files they name, as the fingerprint has them."""

    @property
    def numbers(self) -> tuple[int, ...]:
        """Atomic number of atom type 1, 2, ..."""
        return tuple(NUMBERS[symbol] for symbol in self.elements)


def read_commands(
    source: Path,
    folders: Sequence[Path] = (),
    elements: Sequence[str] | None = None,
    *,
    shell: Shell | None = None,
    spoken: Callable[[Path], str] = str,
) -> Commands:
    """Read a file of LAMMPS commands that defines a potential.

    Args:
        source: the file; ``pair_style``, ``pair_coeff`` and what belongs to them.
        folders: where potential files are looked for after the file's own folder and the
            current one.
        elements: element of atom type 1, 2, ...; None reads them from a ``labelmap atom``
            command or from the end of ``pair_coeff * *``.
        shell: a LAMMPS without a box, which evaluates variables; None refuses them.
        spoken: a path in a form that LAMMPS can read.

    Raises:
        ConfigError: the file is missing, has a command that is not allowed here, another unit
            system, a variable without a value, or does not tell its elements.
    """
    digest = hashlib.sha256()
    variables = Variables(shell)
    reader = _Reader(folders, variables, shell, spoken)
    lines = list(reader.lines(source, (source.parent,), 0))
    texts: list[str] = []
    files: list[Seen] = []
    known = 0
    later = _looked_up_later(lines)
    for line in lines:
        if line[0] == "variable" and line[1:2] and line[1] not in later:
            texts.append(_text(line, spoken, source))
            continue  # its value stands where it is used
        digest.update("\0".join(_normalised(line)).encode("utf-8", "surrogateescape") + b"\n")
        files += [Seen.now(word) for word in line if isinstance(word, Path)]
        digest.update(b"".join(file.content for file in files[known:]))
        known = len(files)
        texts.append(_text(line, spoken, source))
    plain = [[str(word) for word in words] for words in lines]
    for words, text in zip(plain, texts, strict=True):
        if words[0] == "units" and words[1:] != ["metal"]:
            raise ConfigError(
                f"{source}: {text!r}, but mixserver works in Å and eV and needs units metal. "
                "Convert the potential, or use a file for metal units."
            )
    styles = [words[1:] for words in plain if words[0] == "pair_style"]
    if not styles or not styles[-1]:
        raise ConfigError(f"{source}: there is no pair_style in it")
    for name in sorted(later & variables.values.keys()):
        value = f"{name} = {variables.values[name]}\n"
        digest.update(value.encode("utf-8", "surrogateescape"))
    named = _elements(plain, source, elements)
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


def _looked_up_later(lines: Sequence[Sequence[Word]]) -> set[str]:
    """Names of the variables that LAMMPS itself looks up while it evaluates: v_name."""
    words = (word for line in lines for word in line if isinstance(word, str))
    return {name for word in words for name in re.findall(r"v_(\w+)", word)}


def _normalised(words: Sequence[Word]) -> Iterator[str]:
    """Words of a command, files by their names only: where a file lies does not matter."""
    for word in words:
        yield word.name if isinstance(word, Path) else word


def _text(words: Sequence[Word], spoken: Callable[[Path], str], source: Path) -> str:
    """The command as LAMMPS is given it."""
    told = [spoken(word) if isinstance(word, Path) else word for word in words]
    odd = next((word for word in told if not word.isascii()), "")
    if odd:
        raise ConfigError(
            f"{source}: {' '.join(map(str, words))!r}: LAMMPS reads ASCII only, {odd!r} is neither "
            "that nor the name of a file that was found (beside the commands file, in the current "
            "folder, in those of LAMMPS_POTENTIALS, among LAMMPS's own potentials)"
        )
    try:
        return " ".join(quoted(word) for word in told)
    except ValueError as error:
        raise ConfigError(f"{source}: {error}") from error


class _Reader:
    """Goes through a commands file and what it includes, in the order LAMMPS does."""

    def __init__(
        self,
        shared: Sequence[Path],
        variables: Variables,
        shell: Shell | None,
        spoken: Callable[[Path], str],
    ) -> None:
        self._shared, self._variables = shared, variables
        self._shell, self._spoken = shell, spoken

    def lines(self, source: Path, here: tuple[Path, ...], depth: int) -> Iterator[list[Word]]:
        """Each command: its name and words, files found."""
        try:
            text = source.read_text(encoding="utf-8-sig")
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"cannot read the LAMMPS commands in {source}: {error}") from error
        if depth > _MOST_INCLUDES:
            raise ConfigError(f"{source}: includes itself")
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
                    words[3] = self._spoken(path)
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
                f"{source}: {line!r}: LAMMPS puts no values of variables into quotations, so "
                f"{left!r} would stay as it is; leave the quotes out"
            )
        return words

    def _resolved(self, words: Sequence[str], here: tuple[Path, ...]) -> Iterator[Word]:
        for before, word in itertools.pairwise(words):
            plain = not word or word in NUMBERS or word in _KEYWORDS or "*" in word
            if plain or _number(word) or (words[0] == "pair_style" and self._style(word)):
                yield word
                continue
            path = self._file(word, here)
            if path is None and ("/" in word or before == "dir") and not self._style(word):
                path = found_folder(word, (*here, Path.cwd()))
            yield word if path is None else path

    def _file(self, word: str, here: tuple[Path, ...]) -> Path | None:
        return found(word, (*here, Path.cwd()), self._shared)

    def _style(self, word: str) -> bool:
        return self._shell is not None and self._shell.has_style("pair", word)


def _number(word: str) -> bool:
    return re.fullmatch(r"[+-]?(\d+\.?\d*|\.\d+)([eEdD][+-]?\d+)?", word) is not None


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
