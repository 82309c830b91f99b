"""Changing an i-PI input or RESTART in one place and leaving every other byte as it was."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final
from xml.parsers import expat

from mixserver.errors import ConfigError

_ROOT: Final = "simulation"
_PREFIX: Final = re.compile(rb"""\bprefix\s*=\s*(["'])(.*?)\1""", re.DOTALL)


def with_total_steps(file: Path, steps: int) -> bytes:
    """An input's bytes with <total_steps> of its <simulation> set, or added where there was none.

    Comments, attributes, CDATA and elements of the same name further inside stay as they are.

    Args:
        file: the input or RESTART.
        steps: how many steps in total.

    Returns:
        The changed bytes of the file.

    Raises:
        ConfigError: it cannot be read, is no XML, or has no <simulation>.
    """
    try:
        text = file.read_bytes()
    except OSError as error:
        raise ConfigError(f"i-PI's input {file} cannot be read: {error.strerror}") from error
    try:
        spans, inside = _places(text)
    except (expat.ExpatError, UnicodeError) as error:
        raise ConfigError(f"i-PI's input {file} is not valid XML: {error}") from error
    if inside is None:
        raise ConfigError(
            f"i-PI's input {file} must have <simulation> outermost, with its end tag, so that "
            "<total_steps> can be set; write it as i-PI's examples do"
        )
    element = f"<total_steps> {steps} </total_steps>".encode("ascii")
    if not spans:
        return text[:inside] + element + text[inside:]
    for begin, end in reversed(spans):
        text = text[:begin] + element + text[end:]
    return text


def leaves(text: bytes, file: Path) -> list[tuple[str, int, int]]:
    """(tag, begin, end) of the text of every element that holds nothing but text.

    Raises:
        ConfigError: it is no XML.
    """
    parser = expat.ParserCreate()
    found: list[tuple[str, int, int]] = []
    begin = -1
    leaf = False

    def start(_name: str, _: dict[str, str]) -> None:
        nonlocal begin, leaf
        begin, leaf = -1, True

    def data(_: str) -> None:
        nonlocal begin
        begin = parser.CurrentByteIndex if begin < 0 else begin

    def other(*_: object) -> None:
        nonlocal leaf
        leaf = False  # comments and CDATA inside: not plain text

    def end(name: str) -> None:
        nonlocal leaf
        if leaf and begin >= 0:
            found.append((name, begin, parser.CurrentByteIndex))
        leaf = False

    parser.StartElementHandler, parser.EndElementHandler = start, end
    parser.CharacterDataHandler = data
    parser.CommentHandler = parser.StartCdataSectionHandler = other
    _parse(parser, text, file)
    return found


def output_prefix(text: bytes, file: Path) -> tuple[str, tuple[int, int] | None]:
    """The prefix of i-PI's outputs, and where it is written; None where it is left to i-PI.

    Raises:
        ConfigError: it is no XML.
    """
    parser = expat.ParserCreate()
    found: tuple[str, tuple[int, int] | None] = ("i-pi", None)
    path: list[str] = []

    def start(name: str, attributes: dict[str, str]) -> None:
        nonlocal found
        if path == [_ROOT] and name == "output" and "prefix" in attributes:
            written = _PREFIX.search(text, parser.CurrentByteIndex)
            found = (attributes["prefix"].strip(), written.span(2) if written else None)
        path.append(name)

    def end(_: str) -> None:
        path.pop()

    parser.StartElementHandler, parser.EndElementHandler = start, end
    _parse(parser, text, file)
    return found


def replaced(text: bytes, changes: list[tuple[int, int, bytes]]) -> bytes:
    """The bytes with (begin, end, new) put in; the places do not overlap."""
    for begin, end, new in sorted(changes, reverse=True):
        text = text[:begin] + new + text[end:]
    return text


def _parse(parser: expat.XMLParserType, text: bytes, file: Path) -> None:
    try:
        parser.Parse(text, True)
    except (expat.ExpatError, UnicodeError) as error:
        raise ConfigError(f"i-PI's input {file} is not valid XML: {error}") from error


def _places(text: bytes) -> tuple[list[tuple[int, int]], int | None]:
    """Where <total_steps> is written just below <simulation>, and where its first child may go.

    The place is just before whatever comes first inside; None where nothing can.
    """
    parser = expat.ParserCreate()
    path: list[str] = []
    spans: list[tuple[int, int]] = []
    begin = 0
    inside: int | None = None

    def start(name: str, _: dict[str, str]) -> None:
        nonlocal begin, inside
        if path == [_ROOT]:
            inside = parser.CurrentByteIndex if inside is None else inside
            if name == "total_steps":
                begin = parser.CurrentByteIndex
        path.append(name)

    def end(name: str) -> None:
        nonlocal inside
        path.pop()
        at = parser.CurrentByteIndex
        if path == [_ROOT] and name == "total_steps":
            # of <total_steps/>, which has no end tag, the index is that of what follows it
            ending = text.startswith(b"</total_steps", at)
            spans.append((begin, text.index(b">", at) + 1 if ending else at))
        elif not path and name == _ROOT and inside is None and text[at : at + 2] == b"</":
            inside = at

    parser.StartElementHandler = start
    parser.EndElementHandler = end
    parser.Parse(text, True)
    return spans, inside
