"""Rows of a benchmark and the report that they make: values, JSON, and a table as text."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import msgspec

from mixserver.analysis.bench.machine import Machine
from mixserver.core.atomic_write import write_atomically

HEAD: Final = (
    *("system", "atoms", "sites", "model", "fast", "slow"),
    *("ms", "ms", "ratio", "quartiles", "cpu", "n"),
)
LEFT: Final = (0, 3, 4, 5)
"""Columns of text."""


class Side(msgspec.Struct, frozen=True, kw_only=True):
    """One of the two ways of a row, milliseconds per evaluation."""

    name: str
    """Which engine or program, and how."""
    model: str
    """Which model."""
    ms: float
    """Median."""
    ms_quartiles: tuple[float, float]
    ms_fastest: float
    ms_processor: float | None = None
    """Median processor time, of all threads and processes; None if unknown or without meaning."""


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """How many times faster one way is than another."""

    suite: str
    system: str
    """Atoms, precision and device in words."""
    atoms: int
    sites: int
    """Whose energies are wanted: with a weight other than 0."""
    fast: Side
    """Measured beside `slow`; its name does not promise that it is faster."""
    slow: Side
    pairs: int
    """Evaluations of each side that count."""
    ratio: float
    """Median of slow/fast, pair by pair."""
    ratio_quartiles: tuple[float, float]
    ratio_of_fastest: float
    """Of the fastest evaluation of each side: least disturbed by other work."""
    ratio_of_processor_time: float | None = None
    """Median, pair by pair: on one core, and without other work, that of the times."""
    load: float | None
    """Of the machine (mean of a minute) at the end of the row."""
    command: str
    """Repeats this row."""
    details: dict[str, float] = {}
    """Further medians, such as `ms_cheap` of a mixed evaluation."""


class LeftOut(msgspec.Struct, frozen=True):
    """Something that could not be measured here, and why."""

    name: str
    reason: str


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """Everything of one benchmark."""

    suite: str
    command: str
    date: str
    """ISO 8601, UTC."""
    seconds: float
    machine: Machine
    load_start: float | None
    load_end: float | None
    rows: tuple[Row, ...]
    left_out: tuple[LeftOut, ...]


def cells(row: Row) -> tuple[str, ...]:
    """A row as text, in the order of `HEAD`."""
    low, high = row.ratio_quartiles
    return (
        row.system,
        str(row.atoms),
        str(row.sites),
        models(row),
        row.fast.name,
        row.slow.name,
        number(row.fast.ms),
        number(row.slow.ms),
        f"{number(row.ratio)}x",
        f"{number(low)} to {number(high)}",
        "" if row.ratio_of_processor_time is None else f"{number(row.ratio_of_processor_time)}x",
        str(row.pairs),
    )


def models(row: Row) -> str:
    """The model of a row, or both in the order of the sides."""
    both = (row.fast.model, row.slow.model)
    return both[0] if both[0] == both[1] else " / ".join(both)


def detail_line(row: Row) -> str:
    """The further medians of a row; empty if there are none."""
    return ", ".join(f"{name} {number(value)}" for name, value in row.details.items())


def closing_lines(report: Report) -> list[str]:
    """What stands below the rows: what was left out, the machine, and its load."""
    lines = [f"left out: {one.name}: {one.reason}" for one in report.left_out]
    lines += report.machine.lines()
    loads = " to ".join("?" if one is None else f"{one:.1f}" for one in _loads(report))
    return [*lines, f"load {loads}, {report.seconds:.0f} s, {report.date}"]


def write_report(report: Report, folder: Path) -> tuple[Path, Path]:
    """Write bench-SUITE.json and bench-SUITE.png into a folder, which is made if needed.

    Returns:
        The two files.
    """
    from mixserver.analysis.bench.plot import draw  # noqa: PLC0415 - matplotlib takes a second

    folder.mkdir(parents=True, exist_ok=True)
    data = folder / f"bench-{report.suite}.json"
    write_atomically(data, msgspec.json.format(msgspec.json.encode(report)))
    return data, draw(report, data.with_suffix(".png"))


def read_report(file: Path) -> Report:
    """Read a report that `write_report` wrote.

    Raises:
        msgspec.DecodeError: it is not one.
    """
    return msgspec.json.decode(file.read_bytes(), type=Report)


def number(value: float) -> str:
    """Three significant digits, without an exponent."""
    if value >= 99.95:
        return f"{value:.0f}"
    return f"{value:.1f}" if value >= 9.995 else f"{value:.2f}"


def _loads(report: Report) -> Sequence[float | None]:
    return report.load_start, report.load_end
