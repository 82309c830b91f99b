"""The documentation as tests see it: its pages, their code blocks and their anchors."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
PAGES = sorted(
    [
        *(
            ROOT / name
            for name in ("README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md")
        ),
        *(ROOT / "docs").rglob("*.md"),
        *(ROOT / "inputs").rglob("README.md"),
    ]
)


class Block(NamedTuple):
    """One fenced code block."""

    page: Path
    language: str
    text: str


def blocks(page: Path) -> Iterator[Block]:
    """The fenced code blocks of a page, those within lists too."""
    fence = re.compile(r"^( *)```(\w*)\n(.*?)^\1```", re.DOTALL | re.MULTILINE)
    for indent, language, text in fence.findall(page.read_text()):
        yield Block(page, language, re.sub(rf"^{indent}", "", text, flags=re.MULTILINE))


def prose(page: Path) -> str:
    """A page without its fenced code blocks."""
    return re.sub(r"^ *```.*?^ *```", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub and GitLab make them."""
    found: set[str] = set()
    for heading in re.findall(r"^#+ (.+)$", prose(page), re.MULTILINE):
        words = re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-")
        found.add(words)
    return found


def relative(page: Path) -> str:
    """A page's name for messages."""
    return str(page.relative_to(ROOT))
