"""Tables of a study, as Markdown and as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from mixserver.core.errors import ConfigError
from mixserver.studies.statistics import Estimate

Cell = Estimate | float | int | str | None


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of values with errors."""

    title: str
    columns: Sequence[str]
    """Names with units: "D (Å²/ps)"."""
    rows: Sequence[Sequence[Cell]]
    """None is an empty cell."""

    def __post_init__(self) -> None:
        for row in self.rows:
            if len(row) != len(self.columns):
                raise ConfigError(
                    f"the table {self.title!r} has {len(self.columns)} columns, a row {len(row)} "
                    f"cells: {list(map(text, row))}"
                )

    def markdown(self) -> str:
        """The table as Markdown, without its title."""
        lines = [list(self.columns), ["---"] * len(self.columns)]
        lines += [[text(cell) for cell in row] for row in self.rows]
        return "\n".join(f"| {' | '.join(line)} |" for line in lines)

    def as_json(self) -> dict[str, Any]:
        """The same with all digits; an estimate is [value, error]."""
        rows = [
            {
                name: [cell.value, cell.error] if isinstance(cell, Estimate) else cell
                for name, cell in zip(self.columns, row, strict=True)
            }
            for row in self.rows
        ]
        return {"title": self.title, "rows": rows}


def text(cell: Cell) -> str:
    """A cell as text: numbers with five digits, estimates with two digits of their error."""
    match cell:
        case None:
            return ""
        case bool() | str() | int() | Estimate():
            return str(cell).replace("|", "\\|")
        case float():
            return f"{cell:.5g}"
