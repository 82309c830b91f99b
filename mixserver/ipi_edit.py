"""Changing an i-PI input or RESTART in one place and leaving every other byte as it was."""

from __future__ import annotations

from pathlib import Path
from typing import Final
from xml.parsers import expat

from mixserver.errors import ConfigError

_ROOT: Final = "simulation"


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
