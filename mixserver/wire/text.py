"""Makes texts from peers safe for terminals, log files and error messages."""

from __future__ import annotations

import reprlib
from typing import Any, Final

QUOTED: Final = 200
"""Longest name or quoted value, in characters."""
SENTENCE: Final = 1000
"""Longest reason or message, in characters: an engine's own error message and its remedy."""


def clean(text: str, longest: int = QUOTED) -> str:
    r"""One line of printable characters.

    White space becomes single blanks, control characters become escapes such as \x1b, and a text
    that is too long is cut.

    Args:
        text: anything that a peer sent.
        longest: characters that are kept.
    """
    cut = text[: 4 * longest]  # the rest of a long text is not even read
    line = "".join(c if c.isprintable() else _escape(c) for c in " ".join(cut.split()))
    if len(line) <= longest and len(cut) == len(text):
        return line
    return f"{line[: longest - 3]}..."


def quoted(value: Any) -> str:
    """A short repr of any value; large values are not formatted as a whole."""
    return clean(_SHORT.repr(value))


def is_name(text: str) -> bool:
    """Whether a text can be a name: printable, not blank, not long."""
    return 0 < len(text) <= QUOTED and text.isprintable() and text == text.strip()


def _escape(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")


_SHORT: Final = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = 60
