"""Plain tables for terminals and for grep."""

from __future__ import annotations

from mixserver.cli.tables import text_table


def test_columns_are_aligned_and_lines_never_break() -> None:
    name = "runs/0001 [0.5 ps] " + "x" * 200
    table = text_table(("run", "ps", "note"), [(name, "1.0", "a"), ("", "10.25", "")], left=(0, 2))
    head, first, second = table.splitlines()
    assert head == "run".ljust(len(name)) + "     ps  note"
    assert first == name + "    1.0  a"  # no markup is read
    assert second == " " * len(name) + "  10.25"
