"""Changing an i-PI input or RESTART in one place and leaving every other byte as it was."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from xml.parsers import expat

from mixserver.core.errors import ConfigError

_ROOT: Final = "simulation"
_PREFIX: Final = re.compile(rb"""\bprefix\s*=\s*(["'])(.*?)\1""", re.DOTALL)


@dataclass(slots=True)
class _Element:
    """Where an element is in the bytes of a file."""

    path: tuple[str, ...]
    """Tags from the outermost to its own."""
    attributes: dict[str, str]
    begin: int
    text: int = -1
    """Where its text begins; -1 if it has none."""
    end: int = -1
    """Where its end tag is; of <tag/>, which has none, where what follows it begins."""
    plain: bool = True
    """Whether there is nothing but text inside: no elements, comments or CDATA."""


def with_total_steps(file: Path, steps: int) -> bytes:
    """An input's bytes with <total_steps> of its <simulation> set, or added where there was none.

    Comments, attributes, CDATA and elements of the same name further inside stay as they are.

    Raises:
        ConfigError: it cannot be read, is not XML, or has no <simulation>.
    """
    try:
        text = file.read_bytes()
    except OSError as error:
        raise ConfigError(f"i-PI's input {file} cannot be read: {error.strerror}") from error
    elements = _elements(text, file)
    element = f"<total_steps> {steps} </total_steps>".encode("ascii")
    changes = []
    for one in elements:
        if one.path == (_ROOT, "total_steps"):
            ending = text.startswith(b"</total_steps", one.end)
            end = text.index(b">", one.end) + 1 if ending else one.end
            changes.append((one.begin, end, element))
    if changes:
        return apply_edits(text, changes)
    root, *inside = elements
    if root.path != (_ROOT,) or not (inside or text.startswith(b"</", root.end)):
        raise ConfigError(
            f"i-PI's input {file} must have <simulation> outermost, with its end tag, so that "
            "<total_steps> can be set; write it as i-PI's examples do"
        )
    place = inside[0].begin if inside else root.end
    return apply_edits(text, [(place, place, element)])


def text_elements(text: bytes, file: Path) -> list[tuple[str, int, int]]:
    """(tag, begin, end) of the text of every element that holds nothing but text.

    Raises:
        ConfigError: it is not XML.
    """
    found = _elements(text, file)
    return [(one.path[-1], one.text, one.end) for one in found if one.plain and one.text >= 0]


def output_prefix(text: bytes, file: Path) -> tuple[str, tuple[int, int] | None]:
    """The prefix of i-PI's outputs, and where it is written; None where it is left to i-PI.

    Raises:
        ConfigError: it is not XML.
    """
    for one in reversed(_elements(text, file)):
        if one.path == (_ROOT, "output") and "prefix" in one.attributes:
            written = _PREFIX.search(text, one.begin)
            return one.attributes["prefix"].strip(), written.span(2) if written else None
    return "i-pi", None


def apply_edits(text: bytes, changes: list[tuple[int, int, bytes]]) -> bytes:
    """The bytes with (begin, end, new) put in; the places do not overlap."""
    for begin, end, new in sorted(changes, reverse=True):
        text = text[:begin] + new + text[end:]
    return text


def _elements(text: bytes, file: Path) -> list[_Element]:
    """All elements, in the order in which they begin.

    Raises:
        ConfigError: it is not XML.
    """
    parser = expat.ParserCreate()
    found: list[_Element] = []
    inside: list[_Element] = []

    def start(name: str, attributes: dict[str, str]) -> None:
        not_plain()
        path = (*(inside[-1].path if inside else ()), name)
        found.append(_Element(path, attributes, parser.CurrentByteIndex))
        inside.append(found[-1])

    def data(_: str) -> None:
        if inside[-1].text < 0:
            inside[-1].text = parser.CurrentByteIndex

    def not_plain(*_: object) -> None:
        if inside:
            inside[-1].plain = False

    def end(_: str) -> None:
        inside.pop().end = parser.CurrentByteIndex

    parser.StartElementHandler, parser.EndElementHandler = start, end
    parser.CharacterDataHandler = data
    parser.CommentHandler = parser.StartCdataSectionHandler = not_plain
    try:
        parser.Parse(text, True)
    except (expat.ExpatError, UnicodeError) as error:
        raise ConfigError(f"i-PI's input {file} is not valid XML: {error}") from error
    return found
