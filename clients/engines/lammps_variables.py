"""Variables in a file of LAMMPS commands: LAMMPS itself evaluates them, before anything is read.

What a variable stands for is part of the potential: commands have its value in its place, and a
name built from it is looked for like any other. What has no value before there is a box is refused.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Final, Protocol

from clients.engines.lammps_library import LammpsError
from clients.engines.lammps_words import quoted
from mixserver.errors import ConfigError

_TEXT: Final = frozenset({"index", "loop", "string", "getenv", "file", "format", "internal"})
"""Styles with a value that is known at once."""
_FIXED: Final = frozenset({"getenv", "file"})
"""Styles that look at something outside; later LAMMPS instances are given what was seen."""
_REFUSED: Final = {
    "python": "it would run a program of its own",
    "atomfile": "it belongs to the atoms of one simulation",
    "universe": "it belongs to several partitions",
    "uloop": "it belongs to several partitions",
    "world": "it belongs to several partitions",
    "timer": "its value is another each time",
}


class Shell(Protocol):
    """A LAMMPS without a box."""

    def command(self, text: str) -> None:
        """Carry out one command."""

    def expand(self, text: str) -> str:
        """Put in the values of variables, as in a command."""

    def has_style(self, category: str, name: str) -> bool:
        """Whether this build has a style."""


class Variables:
    """The variables of one commands file, in the order it defines them.

    Args:
        shell: evaluates them; None where there is no LAMMPS.
    """

    def __init__(self, shell: Shell | None) -> None:
        self._shell = shell
        self.values: dict[str, str] = {}
        """What each stands for, where that is known at once."""

    def expanded(self, line: str, source: Path) -> str:
        """The line with values in place of ``$x``, ``${x}`` and ``$(formula)``.

        Raises:
            ConfigError: LAMMPS has no value.
        """
        if "$" not in line:
            return line
        if self._shell is None:
            raise ConfigError(f"{source}: {line!r}: only LAMMPS knows the values of variables")
        try:
            return _unicode(self._shell.expand(_ascii(line)))
        except LammpsError as error:
            raise ConfigError(
                f"{source}: {line!r} has no value yet, LAMMPS says: {error}. What defines the "
                "potential must be known before there are a box and atoms; write the value, or "
                "define the variable above it"
            ) from error

    def define(self, words: Sequence[str], source: Path) -> Sequence[str]:
        """Define a variable, and give the command for later instances of LAMMPS.

        Args:
            words: of the command, values of other variables put in.
            source: for messages.

        Raises:
            ConfigError: it is of a kind that cannot belong to a potential, or LAMMPS refuses.
        """
        name, style = (*words[1:3], "", "")[:2]
        if style in _REFUSED:
            raise ConfigError(
                f"{source}: variable {name} of style {style} cannot define a potential, because "
                f"{_REFUSED[style]}; use a string, or an equal-style formula of numbers"
            )
        if self._shell is None:
            return words
        told = [_ascii(word) for word in words]
        try:
            self._shell.command(" ".join(map(quoted, told)))
            self.values.pop(name, None)
            if style not in _TEXT:
                return told
            value = self._shell.expand(f"${{{name}}}")
        except (LammpsError, ValueError) as error:
            raise ConfigError(f"{source}: {' '.join(words)!r}: LAMMPS says: {error}") from error
        self.values[name] = _unicode(value)
        return ["variable", name, "string", _ascii(value)] if style in _FIXED else told


def _ascii(text: str) -> str:
    """The text with letters that LAMMPS would drop as numbers; it only passes them on."""
    return re.sub(r"[^\x00-\x7f]", lambda found: f"_u{ord(found[0]):06x}_", text)


def _unicode(text: str) -> str:
    """The reverse of `_ascii`."""
    return re.sub(r"_u([0-9a-f]{6})_", lambda found: chr(int(found[1], 16)), text)
