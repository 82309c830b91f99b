"""Variables in a file of LAMMPS commands, evaluated by LAMMPS itself while the file is read.

The value of a variable is part of the potential: it replaces the variable in commands and file
names. Variables without a value before the box exists are refused.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from mixserver.core.errors import ConfigError
from mixserver_worker.engines.lammps.library import LammpsError, LammpsLibrary
from mixserver_worker.engines.lammps.text import quoted

_TEXT: Final = frozenset({"index", "loop", "string", "getenv", "file", "format", "internal"})
"""Styles whose value is known when they are defined."""
_FIXED: Final = frozenset({"getenv", "file"})
"""Styles that depend on the environment or on a file; instances get the value read first."""
_REFUSED: Final = {
    "python": "it would run a program of its own",
    "atomfile": "it belongs to the atoms of one simulation",
    "universe": "it belongs to several partitions",
    "uloop": "it belongs to several partitions",
    "world": "it belongs to several partitions",
    "timer": "its value is different each time",
}


class Variables:
    """The variables of one commands file, in the order it defines them.

    Args:
        interpreter: a LAMMPS without a box, which evaluates them; None without LAMMPS.
    """

    def __init__(self, interpreter: LammpsLibrary | None) -> None:
        self._interpreter = interpreter
        self.values: dict[str, str] = {}
        """Values that are known when the variable is defined."""

    def expanded(self, line: str, source: Path) -> str:
        """The line with values in place of ``$x``, ``${x}`` and ``$(formula)``.

        Raises:
            ConfigError: LAMMPS has no value.
        """
        if "$" not in line:
            return line
        if self._interpreter is None:
            raise ConfigError(f"{source}: {line!r}: variables need LAMMPS to evaluate them")
        try:
            return _unicode(self._interpreter.expand(_ascii(line)))
        except LammpsError as error:
            raise ConfigError(
                f"{source}: {line!r} has no value yet, LAMMPS reports: {error}. The potential must "
                "be defined before the box and the atoms exist; write the value, or define the "
                "variable above this line"
            ) from error

    def define(self, words: Sequence[str], source: Path) -> Sequence[str]:
        """Define a variable and return the command that later instances of LAMMPS get.

        Args:
            words: of the command, with the values of other variables.
            source: for messages.

        Raises:
            ConfigError: the style cannot belong to a potential, or LAMMPS refuses.
        """
        name, style = (*words[1:3], "", "")[:2]
        if style in _REFUSED:
            raise ConfigError(
                f"{source}: variable {name} of style {style} cannot define a potential, because "
                f"{_REFUSED[style]}; use a string, or an equal-style formula of numbers"
            )
        if self._interpreter is None:
            return words
        words_for_lammps = [_ascii(word) for word in words]
        try:
            self._interpreter.command(" ".join(map(quoted, words_for_lammps)))
            self.values.pop(name, None)
            if style not in _TEXT:
                return words_for_lammps
            value = self._interpreter.expand(f"${{{name}}}")
        except (LammpsError, ValueError) as error:
            raise ConfigError(f"{source}: {' '.join(words)!r}: LAMMPS reports: {error}") from error
        self.values[name] = _unicode(value)
        return ["variable", name, "string", _ascii(value)] if style in _FIXED else words_for_lammps


def _ascii(text: str) -> str:
    """The text with characters that LAMMPS would drop written as numbers."""
    return re.sub(r"[^\x00-\x7f]", lambda found: f"_u{ord(found[0]):06x}_", text)


def _unicode(text: str) -> str:
    """The reverse of `_ascii`."""
    return re.sub(r"_u([0-9a-f]{6})_", lambda found: chr(int(found[1], 16)), text)
