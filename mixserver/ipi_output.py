"""What i-PI prints while it runs: the columns and the last line of its properties."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from mixserver.record.report import columns

_SINGLE: Final = frozenset(
    {"step", "time", "conserved", "temperature", "potential", "kinetic_md", "kinetic_cv", "volume"}
    | {"density", "pressure_md", "pressure_cv", "ensemble_temperature", "ensemble_pressure"}
)
"""Properties of i-PI that are one number each."""


def single_columns(names: tuple[str, ...]) -> dict[str, int]:
    """Name -> column (from 0) of properties, up to the first that may take several columns."""
    found: dict[str, int] = {}
    for name in names:
        if name not in _SINGLE:
            break
        found[name] = len(found)
    return found


class PropertiesTail:
    """The last complete line of i-PI's properties file, read again and again while it grows."""

    def __init__(self, file: Path, names: tuple[str, ...] = ()) -> None:
        self._file = file
        self._columns: dict[str, int] = {}
        self._otherwise = single_columns(names)

    def last(self) -> dict[str, float]:
        """Name -> value of the newest line; empty while there is none."""
        try:
            if not self._columns:
                with self._file.open(encoding="utf-8") as lines:
                    header = [line for line in lines if line.startswith("#")]
                self._columns = columns(header) or self._otherwise
            with self._file.open("rb") as handle:
                handle.seek(0, 2)
                handle.seek(max(0, handle.tell() - 8192))
                block = handle.read().decode("utf-8", "replace")
        except OSError:
            return {}
        complete = block[: block.rfind("\n") + 1].splitlines()
        for line in reversed(complete):
            if line.startswith("#") or not line.strip():
                continue
            fields = line.split()
            try:
                return {
                    name: float(fields[at])
                    for name, at in self._columns.items()
                    if at < len(fields)
                }
            except ValueError:
                return {}
        return {}
