"""Curves of a run that goes on: records and i-PI's properties, read as their files grow.

A curve never has more than `MOST` points: of a longer run every second, every fourth, ... is kept.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import msgspec

from mixserver.analysis.records import joined_parts
from mixserver.analysis.run_properties import read_properties, steps_before
from mixserver.core.errors import ConfigError
from mixserver.ipi.input import read_property_files
from mixserver.ipi.output import PropertiesTail
from mixserver.server.records.recorder import REPORTS
from mixserver.server.runs import RESTART_INPUT, run_chain

MOST: Final = 2000
"""Points of a curve."""
_AT_ONCE: Final = 1 << 22
"""Bytes that are read of a file at once."""
_BLOCKS: Final = 8
"""Blocks in one update, so that the page of a long run answers while it is being read."""
_PROPERTIES: Final = ("step", "time", "temperature", "conserved", "potential")


class Evaluated(msgspec.Struct, frozen=True):
    """What the page shows of a line of mixserver.jsonl; see `Report`."""

    evaluation: int
    channel: str = "mixed"
    work: float = 0.0
    seeds: int = 0
    core: int = 0
    blend: int = 0
    ms_total: float | None = None
    ms_cheap: float | None = None
    ms_expensive: float | None = None
    ms_own: float | None = None
    mismatch_rms: float | None = None
    core_mismatch_rms: float | None = None
    kelvin_core: float | None = None
    kelvin_bulk: float | None = None


_COLUMNS: Final = tuple(name for name in Evaluated.__struct_fields__ if name != "channel")


@dataclass(slots=True)
class Thinned:
    """Rows in their order, of which every n-th is kept so that there are at most `MOST`."""

    names: tuple[str, ...]
    rows: list[tuple[float | None, ...]] = field(default_factory=list)
    seen: int = 0
    last: tuple[float | None, ...] = ()
    """The newest row, kept or not."""
    _stride: int = 1

    def add(self, row: tuple[float | None, ...]) -> None:
        """Add the next row."""
        self.last = row
        if self.seen % self._stride == 0:
            self.rows.append(row)
            if len(self.rows) > MOST:
                self.rows = self.rows[::2]
                self._stride *= 2
        self.seen += 1

    def columns(self) -> dict[str, list[float | None]]:
        """The values of each name; the newest row is always the last one."""
        rows = self.rows
        if rows and self.last is not rows[-1]:
            rows = [*rows, self.last]
        return {name: [row[at] for row in rows] for at, name in enumerate(self.names)}


class Curves:
    """The curves of one run, after those of the runs that it continues."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / REPORTS
        self._at = 0
        self.evaluations = Thinned(_COLUMNS)
        self.properties = Thinned(_PROPERTIES)
        self.unreadable = 0
        """Lines of the records that are none."""
        self._decoder = msgspec.json.Decoder(Evaluated)
        self._first = 0
        """Evaluations of the runs that this one continues."""
        with contextlib.suppress(ConfigError, OSError):  # they may be gone
            self._join(run_chain(folder))
        self._tail = _properties_tail(folder)

    @property
    def version(self) -> int:
        """Grows whenever there is something new."""
        return self.evaluations.seen + self.properties.seen

    def update(self) -> None:
        """Read what was added since the last time; a line still being written waits."""
        for _ in range(_BLOCKS):
            if not self._read_records():
                break
        if self._tail is not None:
            for _ in range(_BLOCKS):
                if not (new := self._tail.new()):
                    break
                for values in new:
                    self.properties.add(tuple(values.get(name) for name in _PROPERTIES))

    def latest(self) -> dict[str, float | None]:
        """i-PI's newest properties by name; empty before the first."""
        return dict(zip(_PROPERTIES, self.properties.last, strict=False))

    def as_json(self) -> dict[str, Any]:
        """Everything, as plain values."""
        return {
            "version": self.version,
            "evaluations": self.evaluations.columns(),
            "properties": self.properties.columns(),
        }

    def _join(self, chain: list[Path]) -> None:
        """Begin with the runs that the last one of a chain continues, as `mixserver plot` does.

        Raises:
            ConfigError: one of them cannot be read.
        """
        for part in joined_parts(chain, earlier=True):
            self._first = part.first + part.made
            for report in part.reports:
                if report.channel != "cheap":
                    self.evaluations.add(tuple(getattr(report, name) for name in _COLUMNS))
        if len(chain) > 1:
            columns = read_properties(chain[:-1], ("step",)).columns
            begun = steps_before(chain[-1])
            for row in zip(*columns.values(), strict=True):
                values = dict(zip(columns, map(float, row), strict=True))
                if values["step"] <= begun:
                    self.properties.add(tuple(values.get(name) for name in _PROPERTIES))

    def _read_records(self) -> bool:
        """Read a block; False at the end of what is complete."""
        try:
            with self._file.open("rb") as handle:
                handle.seek(self._at)
                block = handle.read(_AT_ONCE)
        except OSError:
            return False
        end = block.rfind(b"\n") + 1
        self._at += end
        for line in block[:end].splitlines():
            try:
                found = self._decoder.decode(line)
            except (msgspec.MsgspecError, ValueError):
                self.unreadable += 1
                continue
            if found.channel != "cheap":
                row = msgspec.structs.replace(found, evaluation=self._first + found.evaluation)
                self.evaluations.add(tuple(getattr(row, name) for name in _COLUMNS))
        return end > 0


def _properties_tail(folder: Path) -> PropertiesTail | None:
    """Of the first table in which i-PI prints its steps; None without i-PI's input."""
    for name in (RESTART_INPUT, "input.xml"):
        source = folder / name
        if not source.exists():
            continue
        try:
            files = read_property_files(source)
        except ConfigError:
            continue
        for file, listed in files.items():
            if "step" in listed:
                return PropertiesTail(folder / file, listed)
    return None
