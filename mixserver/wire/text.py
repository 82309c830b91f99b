"""Texts of peers, made fit for terminals, log files and error messages."""

from __future__ import annotations

import reprlib
from typing import Any, Final

QUOTED: Final = 200
"""Characters of a name or of a value that is quoted."""
SENTENCE: Final = 1000
"""Characters of a reason or a message: an engine's own words, with what to do about them."""


def clean(text: str, longest: int = QUOTED) -> str:
    r"""One line of printable characters.

    Blanks and line ends of any length become one blank, what a terminal would obey becomes an
    escape such as \x1b, and what is too long loses its end.

    Args:
        text: anything a peer sent.
        longest: characters that are kept.
    """
    cut = text[: 4 * longest]  # a long text is not looked through: its end is not read
    line = "".join(c if c.isprintable() else _escape(c) for c in " ".join(cut.split()))
    if len(line) <= longest and len(cut) == len(text):
        return line
    return f"{line[: longest - 3]}..."


def quoted(value: Any) -> str:
    """A short repr of any value; large ones are not even formatted."""
    return clean(_SHORT.repr(value))


def is_name(text: str) -> bool:
    """Whether a text can name something in a line: printable, not blank, not long."""
    return 0 < len(text) <= QUOTED and text.isprintable() and text == text.strip()


def _escape(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")


_SHORT: Final = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = 60
