"""Tables and sentences as HTML. Everything that comes in is text, and is escaped here."""

from __future__ import annotations

import html
from collections.abc import Sequence
from typing import NamedTuple

from mixserver.distill.report.values import NONE


class Cell(NamedTuple):
    """One cell of a table."""

    text: str
    beside: str = ""
    """Told in smaller type after it: a deviation, an error bar."""
    marked: bool = False
    """Out of bounds."""


class Head(NamedTuple):
    """One heading, over some columns."""

    text: str
    columns: int = 1


def paragraph(text: str, kind: str = "") -> str:
    """A paragraph, perhaps of a class."""
    return f"<p{_kind(kind)}>{html.escape(text)}</p>"


def heading(text: str, level: int = 2) -> str:
    """A heading."""
    return f"<h{level}>{html.escape(text)}</h{level}>"


def listing(items: Sequence[str]) -> str:
    """A list of sentences."""
    return "<ul>\n" + "\n".join(f"<li>{html.escape(item)}</li>" for item in items) + "\n</ul>"


def folded(title: str, inside: str) -> str:
    """Something to be opened by who wants to see it.

    Args:
        title: text.
        inside: HTML.
    """
    return f"<details><summary>{html.escape(title)}</summary>\n{inside}\n</details>"


def pairs(rows: Sequence[tuple[str, Cell]]) -> str:
    """A table of names and what they are."""
    lines = [
        f'<tr><th scope="row">{html.escape(name)}</th>{_cell(cell)}</tr>' for name, cell in rows
    ]
    return (
        '<div class="wide"><table class="pairs"><tbody>\n'
        + "\n".join(lines)
        + ("\n</tbody></table></div>")
    )


def table(
    caption: str,
    heads: Sequence[Sequence[Head]],
    rows: Sequence[tuple[str, Sequence[Cell]]],
    *,
    strong: Sequence[str] = (),
) -> str:
    """A table with a caption.

    Args:
        caption: what it shows, with units.
        heads: one or more rows of headings; the first of each stands over the rows' names.
        rows: name and cells.
        strong: names of rows that stand out.
    """
    head = "\n".join(
        "<tr>"
        + "".join(
            f'<th scope="col{"group" if one.columns > 1 else ""}"'
            + (f' colspan="{one.columns}"' if one.columns > 1 else "")
            + f">{html.escape(one.text)}</th>"
            for one in line
        )
        + "</tr>"
        for line in heads
    )
    body = "\n".join(
        f'<tr{_kind("strong" if name in strong else "")}><th scope="row">{html.escape(name)}</th>'
        + "".join(_cell(cell) for cell in cells)
        + "</tr>"
        for name, cells in rows
    )
    return (
        f'<div class="wide"><table><caption>{html.escape(caption)}</caption>\n'
        f"<thead>{head}</thead>\n<tbody>{body}</tbody></table></div>"
    )


def picture(caption: str, data: str) -> str:
    """A picture within the page.

    Args:
        caption: what it shows.
        data: PNG in base64.
    """
    words = html.escape(caption)
    return (
        f'<figure><img alt="{words}" src="data:image/png;base64,{data}">'
        f"<figcaption>{words}</figcaption></figure>"
    )


def _cell(cell: Cell) -> str:
    beside = f" <small>{html.escape(cell.beside)}</small>" if cell.beside else ""
    return f"<td{_kind('off' if cell.marked else '')}>{html.escape(cell.text or NONE)}{beside}</td>"


def _kind(kind: str) -> str:
    return f' class="{html.escape(kind)}"' if kind else ""
