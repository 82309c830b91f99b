"""Findings of a check on a terminal, one after the other as they come."""

from __future__ import annotations

import shutil
import sys
import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from mixserver.checks.findings import Finding

_SIGN: Final = {"ok": "ok     ", "warning": "WARNING", "error": "ERROR  "}
_NAMES: Final = 19
"""Columns for what was looked at; a few names are longer."""
_NARROW: Final = 99
"""Columns of a terminal with no room for a wide margin."""


def width() -> int | None:
    """Columns of the terminal that stdout is; None if it is none, so that lines stay whole."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def in_lines(finding: Finding, columns: int | None) -> str:
    """A finding for people, with what does not fit in a line indented below it.

    Args:
        finding: what was found.
        columns: lines are broken here; None keeps them whole.
    """
    head = f"{_SIGN[finding.level]}  {finding.what:<{_NAMES}}  "
    margin = " " * (
        len(_SIGN["ok"]) + 2 + (_NAMES + 2 if columns is None or columns > _NARROW else 0)
    )
    first, *rest = finding.message.splitlines() or [""]
    lines = [f"{head}{first}", *(f"{margin}{line}" for line in rest)]
    if columns is None:
        return "\n".join(lines)
    return "\n".join(
        textwrap.fill(
            line,
            columns,
            subsequent_indent=margin,
            drop_whitespace=True,
            replace_whitespace=False,
            break_long_words=False,
            break_on_hyphens=False,
        )
        for line in lines
    )


def counted(findings: Sequence[Finding]) -> str:
    """The last line."""
    errors = sum(finding.level == "error" for finding in findings)
    warnings = sum(finding.level == "warning" for finding in findings)
    return f"{len(findings)} things looked at: errors {errors}, warnings {warnings}"
