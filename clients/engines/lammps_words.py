"""LAMMPS's rules for the text of a commands file: lines, comments, quotes. Pure text.

They differ from a shell's: a backslash is an ordinary character, a quote counts at the beginning of
a word only, and a line goes on if its last visible character is &, also within a comment.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

_TRIPLE: Final = '"""'
_BARE: Final = re.compile(r"[^\s\"'#$&]+")
"""Words that LAMMPS reads back as they are."""


def logical_lines(text: str) -> Iterator[str]:
    """The lines of a commands file, continued ones joined."""
    joined, triples = "", 0
    for raw in text.split("\n"):  # of Unicode's other line ends LAMMPS knows nothing
        triples += raw.count(_TRIPLE)
        joined += raw.rstrip()
        before = uncommented(joined).rstrip()
        if joined.endswith("&"):
            joined = joined[:-1]
        elif before.endswith("&"):  # LAMMPS would take this & for a word, and refuse it
            joined = before[:-1]
        elif triples % 2:
            joined += "\n"
        else:
            yield joined
            joined, triples = "", 0
    if joined.strip():  # a continued line that is the last keeps its & in LAMMPS
        yield f"{joined}&"


def uncommented(line: str) -> str:
    """The line up to a # outside quotes."""
    quote, at = "", 0
    while at < len(line):
        mark = _TRIPLE if line.startswith(_TRIPLE, at) else line[at]
        if quote:
            ends = line.startswith(quote, at)
            at += len(quote) if ends else 1
            quote = "" if ends else quote
            continue
        if mark == "#":
            return line[:at]
        if mark in (_TRIPLE, '"', "'"):
            quote = mark
        at += len(mark)
    return line


def words_of(line: str) -> list[str]:
    """Command and arguments, quotes removed.

    Raises:
        ValueError: a quotation does not end, or something follows it without a blank.
    """
    words: list[str] = []
    rest = line.strip()
    while rest:
        quote = next((mark for mark in (_TRIPLE, '"', "'") if rest.startswith(mark)), "")
        if not quote:
            word, *tail = rest.split(maxsplit=1)
            words.append(word)
            rest = tail[0] if tail else ""
            continue
        word, end, rest = rest[len(quote) :].partition(quote)
        if not end:
            raise ValueError("No closing quotation")
        if rest and not rest[0].isspace():
            raise ValueError(f"no blank after the quotation {word!r}")
        words.append(word)
        rest = rest.strip()
    return words


def quoted(word: str) -> str:
    """A word as LAMMPS reads it back.

    Raises:
        ValueError: it has single and double quotes in it.
    """
    if _BARE.fullmatch(word):
        return word
    for mark in ('"', "'"):
        if mark not in word:
            return f"{mark}{word}{mark}"
    raise ValueError(f"LAMMPS cannot read {word!r}: it has both kinds of quotes")
