"""Text of an i-PI input as values: numbers and lists, by i-PI's rules."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from pathlib import Path

from mixserver.core.errors import ConfigError


def split_commas(text: str) -> list[str]:
    """The entries of a list as i-PI takes it apart: by commas, quotes left out."""
    words = [word.strip(" \n\t'") for word in text.strip().strip("[]").split(",")]
    return [] if words == [""] else words


def list_entries(text: str) -> tuple[str, ...]:
    """The entries of a list as i-PI writes it: [ Ar, Ar ]."""
    return tuple(entry for entry in text.strip().strip("[]").replace(",", " ").split())


def parse_int(text: str, what: str, file: Path) -> int:
    """A whole number.

    Raises:
        ConfigError: the text is not a number; names the element.
    """
    try:
        return int(text)
    except ValueError:
        raise ConfigError(
            f"{file}: {what} must be a whole number, written in digits as i-PI reads it, got "
            f"{text.strip()!r}"
        ) from None


def parse_float(text: str, what: str, file: Path) -> float:
    """A number.

    Raises:
        ConfigError: the text is not a number; names the element.
    """
    try:
        return float(text)
    except ValueError:
        raise ConfigError(f"{file}: {what} must be a number, got {text.strip()!r}") from None


def element_text(node: ET.Element, tag: str, default: str) -> str:
    """The text of an element inside a node, stripped."""
    found = node.find(tag)
    return (found.text or "").strip() if found is not None else default
