"""Tables of results as plain text, one row a line, for terminals and for grep."""

from __future__ import annotations

import io
from collections.abc import Collection, Iterable, Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text


def text_table(
    head: Sequence[str], rows: Iterable[Sequence[str]], *, left: Collection[int] = (0,)
) -> str:
    """Columns two spaces apart, without colours or line breaks, those in `left` aligned there."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="")
    for column, name in enumerate(head):
        table.add_column(Text(name), justify="left" if column in left else "right", no_wrap=True)
    for row in rows:
        table.add_row(*map(Text, row))
    text = io.StringIO()
    Console(file=text, width=10_000, color_system=None).print(table)
    return "\n".join(line.rstrip() for line in text.getvalue().splitlines())
