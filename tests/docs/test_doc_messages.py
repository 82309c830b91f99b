"""Messages that the troubleshooting page quotes are those of the code."""

from __future__ import annotations

import ast
import re

import pytest
from docs_pages import ROOT

PAGE = ROOT / "docs" / "troubleshooting.md"
ROW = re.compile(r"^\| `(.+?)`(?: and nothing else)? \|", re.MULTILINE)
QUOTED = ROW.findall(PAGE.read_text())


def template(node: ast.AST) -> str:
    """A text of the code, with … for what is put in."""
    match node:
        case ast.Constant(value=str(text)):
            return text
        case ast.JoinedStr(values=parts):
            return "".join(
                template(part) if isinstance(part, ast.Constant) else "…" for part in parts
            )
        case ast.BinOp(left=left, right=right):
            return template(left) + template(right)
    return "…"


def texts() -> list[str]:
    """All texts of the packages."""
    files = [*(ROOT / "mixserver").rglob("*.py"), *(ROOT / "clients").rglob("*.py")]
    nodes = (node for file in files for node in ast.walk(ast.parse(file.read_text())))
    kinds = (ast.Constant, ast.JoinedStr, ast.BinOp)
    return [" ".join(template(node).split()) for node in nodes if isinstance(node, kinds)]


TEXTS = texts()


def test_there_are_enough() -> None:
    assert len(QUOTED) >= 25


@pytest.mark.parametrize("message", QUOTED)
def test_messages_are_those_of_the_code(message: str) -> None:
    pattern = re.compile(".*".join(re.escape(part) for part in message.split("…")))
    assert any(pattern.search(text) for text in TEXTS), f"{message!r} is nowhere in the code"
