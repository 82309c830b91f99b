"""Findings on a terminal: nothing is lost, nothing is wider than the terminal."""

from __future__ import annotations

import pytest

from mixserver.analysis.checks.findings import Finding
from mixserver.cli.check import counted, in_lines

LONG = Finding(
    "warning",
    "bulk elastic",
    "expensive and cheap, GPa: C11 161.5 and 150.3, C12 81.6 and 83.0; at most +16 % apart. "
    "Strain fields bend at the interface",
)
QUOTE = Finding(
    "error", "workers", "it ended; its last words:\n  File a.py, line 3\nValueError: no"
)


@pytest.mark.parametrize("columns", [50, 80, 120])
@pytest.mark.parametrize("finding", [LONG, QUOTE])
def test_lines_fit_and_hang_below_the_message(finding: Finding, columns: int) -> None:
    first, *rest = in_lines(finding, columns).splitlines()
    assert first.startswith(
        {"warning": "WARNING  bulk elastic", "error": "ERROR    workers"}[finding.level]
    )
    assert max(len(line) for line in (first, *rest)) <= columns
    margin = " " * (9 if columns < 100 else 30)
    assert all(line.startswith(margin) for line in rest)
    assert " ".join(" ".join([first, *rest]).split()).endswith(" ".join(finding.message.split()))


def test_what_is_no_terminal_gets_whole_lines() -> None:
    assert in_lines(LONG, None).endswith(LONG.message)
    assert len(in_lines(QUOTE, None).splitlines()) == 3
    assert counted([LONG, QUOTE, QUOTE]) == "3 things looked at: errors 2, warnings 1"
