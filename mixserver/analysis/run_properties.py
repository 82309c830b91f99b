"""The properties that i-PI recorded in a run and in the runs it continues, as one table.

A continued run's file has no header, so its columns come from the <properties> in its RESTART. What
a run did beyond the step from which the next one continues is left out.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from mixserver.config import load_case
from mixserver.core.arrays import Scalars
from mixserver.core.errors import ConfigError
from mixserver.ipi.input import read_property_files, read_step
from mixserver.ipi.output import (
    OUR_UNITS,
    header_columns,
    listed_columns,
    read_columns,
    to_our_unit,
)
from mixserver.server.records.recorder import COLUMN_FILE
from mixserver.server.runs import RESTART_INPUT

LOST: Final = 20.0
"""Evaluations whose records a killed run may have lost."""
_DEFAULT: Final = ("step", "time", "conserved")


@dataclass(frozen=True, slots=True)
class RunProperties:
    """Rows of i-PI's properties."""

    columns: dict[str, Scalars]
    """(n,) step, time (ps), conserved and potential (eV), temperature (K), as far as they were
    recorded."""
    run: NDArray[np.intp]
    """(n,) which of the runs recorded the row, counted from the oldest."""
    begun: tuple[int, ...]
    """Steps already made when each run began."""
    ended: tuple[int, ...]
    """The last step that each run recorded, including those left out."""

    @property
    def step(self) -> Scalars:
        """The steps (n,) of i-PI, ascending."""
        return self.columns["step"]


def read_properties(runs: Sequence[Path], wanted: Iterable[str] = _DEFAULT) -> RunProperties:
    """Join the properties that are wanted of runs that continue each other, oldest first.

    Raises:
        ConfigError: a run has no file with all that is wanted, or one that cannot be read.
    """
    wanted = tuple(wanted)
    begun = tuple(steps_before(run) for run in runs)
    tables = [_table(run, wanted) for run in runs]
    ended = tuple(int(max(table["step"], default=0)) for table in tables)
    for at in range(len(tables) - 1):  # beyond there, the next run made those steps again
        kept = tables[at]["step"] <= begun[at + 1]
        tables[at] = {name: column[kept] for name, column in tables[at].items()}
    names = [name for name in tables[-1] if all(name in table for table in tables)]
    columns = {name: np.concatenate([table[name] for table in tables]) for name in names}
    run = np.repeat(np.arange(len(runs)), [len(table["step"]) for table in tables])
    # i-PI started from a checkpoint in the same folder appends the same steps again
    later = np.minimum.accumulate(columns["step"][::-1])[::-1]
    again = np.append(columns["step"][:-1] < later[1:], True) if len(later) else later > 0
    return RunProperties(
        {name: column[again] for name, column in columns.items()}, run[again], begun, ended
    )


def steps_before(run: Path) -> int:
    """Steps already made when a run began.

    Raises:
        ConfigError: its RESTART.in cannot be read.
    """
    source = run / RESTART_INPUT
    return read_step(source) if source.exists() else 0


def _table(run: Path, wanted: tuple[str, ...]) -> dict[str, Scalars]:
    """The columns of the first file of a run that has all that is wanted, in our units."""
    seen: list[str] = []
    for file, listed in _files(run).items():
        with file.open(encoding="utf-8", errors="replace") as lines:
            columns = header_columns(lines) or listed_columns(listed)
        seen += [f"{file.name} ({', '.join(columns) or 'without names'})"]
        if set(wanted) <= columns.keys():
            kept = {name: columns[name] for name in columns if name in {*wanted, *OUR_UNITS}}
            table = read_columns(file, kept)
            return {name: table[name] * to_our_unit(name, kept[name]) for name in kept}
    what = f"there are {'; '.join(seen)}" if seen else "there is none"
    raise ConfigError(
        f"{run} has no properties file of i-PI with {', '.join(wanted)}: {what}. List them in "
        "<properties> of input.xml, as step, time{picosecond}, conserved{electronvolt}"
    )


def _files(run: Path) -> dict[Path, tuple[str, ...]]:
    """Files in which i-PI may have recorded properties, with what its input lists for each."""
    listed: dict[Path, tuple[str, ...]] = {}
    source = run / RESTART_INPUT
    if not source.exists() and (run / "mix.toml").exists():
        source = run / load_case(run).config.ipi.input
    if source.exists():
        listed = {run / name: names for name, names in read_property_files(source).items()}
    for file in sorted(run.glob("*.out")):
        listed.setdefault(file, ())
    return {f: names for f, names in listed.items() if f.is_file() and f.name != COLUMN_FILE}
