"""LAMMPS's syntax: lines, comments and quotes of a commands file; command line switches.

In a commands file, unlike in a shell, a backslash is an ordinary character, quotes count at the
beginning of a word only, and a line continues if its last visible character is &, even within a
comment.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Final

_TRIPLE: Final = '"""'
_BARE: Final = re.compile(r"[^\s\"'#$&]+")
"""Words that need no quotes."""


def logical_lines(text: str) -> Iterator[str]:
    """The lines of a commands file, continued ones joined."""
    joined, triples = "", 0
    for raw in text.split("\n"):  # LAMMPS ignores Unicode's other line ends
        triples += raw.count(_TRIPLE)
        joined += raw.rstrip()
        before = uncommented(joined).rstrip()
        if joined.endswith("&"):
            joined = joined[:-1]
        elif before.endswith("&"):  # LAMMPS would refuse this & as a word
            joined = before[:-1]
        elif triples % 2:
            joined += "\n"
        else:
            yield joined
            joined, triples = "", 0
    if joined.strip():  # in LAMMPS the last line keeps its &
        yield f"{joined}&"


def uncommented(line: str) -> str:
    """The line up to the first # outside quotes."""
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
        ValueError: a closing quote is missing, or is not followed by a blank.
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
    """A word with quotes where LAMMPS needs them.

    Raises:
        ValueError: it contains both single and double quotes.
    """
    if _BARE.fullmatch(word):
        return word
    for mark in ('"', "'"):
        if mark not in word:
            return f"{mark}{word}{mark}"
    raise ValueError(f"LAMMPS cannot read {word!r}: it has both kinds of quotes")


def split_switches(arguments: Sequence[str]) -> list[list[str]]:
    """LAMMPS's command line switches, each with the words after it."""
    found: list[list[str]] = []
    for word in arguments:
        if not found or (word.startswith("-") and not word[1:2].isdigit()):
            found.append([])
        found[-1].append(word)
    return found


def is_number(word: str) -> bool:
    """Whether LAMMPS reads a word as a number."""
    return re.fullmatch(r"[+-]?(\d+\.?\d*|\.\d+)([eEdD][+-]?\d+)?", word) is not None
