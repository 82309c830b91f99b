"""Is energy conserved? The drift and the fluctuation of i-PI's conserved quantity, from its output.

A run that goes on from others is measured together with them.

Where updates of lambda do work on the atoms, what is conserved is i-PI's quantity less that work,
which mixserver's own column file has.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from mixserver.arrays import Scalars
from mixserver.errors import ConfigError
from mixserver.record.printed import Printed, printed
from mixserver.record.recorder import COLUMN_FILE
from mixserver.record.report import columns

_LOST: Final = 20.0
"""Evaluations whose records a killed run may have lost."""
_BLOCKS: Final = 10
"""Means of so many blocks are taken for the error of the slope: neighbouring steps are alike."""


@dataclass(frozen=True, slots=True)
class Drift:
    """How well a run conserved its energy."""

    picoseconds: float
    """How long the run is, without what was skipped."""
    drift: float
    """µeV/atom/ps, slope of the line through the conserved quantity."""
    error: float
    """Standard error of the same."""
    fluctuation: float
    """µeV/atom, root mean square about that line."""
    temperature: float
    """K, mean; NaN if it was not printed."""
    work: float
    """µeV/atom that updates of lambda did, taken off; 0 where lambda has none."""
    runs: tuple[str, ...] = ()
    """Names of the folders that were joined, oldest first."""


def drift_of(runs: Path | Sequence[Path], atoms: int, *, skip: float = 0.0) -> Drift:
    """The drift of a run, or of runs that go on from each other.

    Args:
        runs: the run's folder, or all their folders, oldest first.
        atoms: how many there are.
        skip: picoseconds at the beginning that do not count.

    Raises:
        ConfigError: i-PI printed no step, time and conserved quantity there, or too few.
    """
    runs = [runs] if isinstance(runs, Path) else runs
    folder, table = runs[-1], printed(runs)
    time, conserved = table.columns["time"], table.columns["conserved"]
    if len(time) == 0 or np.ptp(time) <= 0.0:
        raise ConfigError(f"{folder}: i-PI's properties need different times; print more steps")
    work = _work(runs, table)
    kept = (time >= time[0] + skip) & np.isfinite(work)
    if np.count_nonzero(kept) < 2 * _BLOCKS:
        raise ConfigError(
            f"{folder} has {np.count_nonzero(kept)} lines of properties to go by, {2 * _BLOCKS} "
            "are the least: run longer, print more often or skip less"
        )
    time, energy = time[kept], (conserved - work)[kept] * 1e6 / atoms
    slope, error = _line(time, energy)
    line = slope * (time - time.mean()) + energy.mean()
    temperature = table.columns.get("temperature")
    done = work[np.isfinite(work)]
    return Drift(
        picoseconds=float(np.ptp(time)),
        drift=slope,
        error=error,
        fluctuation=float(np.sqrt(np.mean((energy - line) ** 2))),
        temperature=float("nan") if temperature is None else float(temperature[kept].mean()),
        work=float((done[-1] - done[0]) * 1e6 / atoms),
        runs=tuple(run.resolve().name for run in runs),
    )


def _line(time: Scalars, energy: Scalars) -> tuple[float, float]:
    """Slope and its standard error, from the means of blocks."""
    blocks = np.array_split(np.arange(len(time)), _BLOCKS)
    t = np.array([time[block].mean() for block in blocks])
    e = np.array([energy[block].mean() for block in blocks])
    t = t - t.mean()
    slope = float(t @ e / (t @ t))
    rest = e - e.mean() - slope * t
    return slope, float(np.sqrt(rest @ rest / (len(t) - 2) / (t @ t)))


def _work(runs: Sequence[Path], table: Printed) -> Scalars:
    """(n,) eV, the work up to each step."""
    work = np.zeros(len(table.step))
    for number, run in enumerate(runs):
        rows = table.run == number
        if rows.any():
            begun, ended = table.begun[number], table.ended[number]
            work[rows] = _work_of(run, table.step[rows] - begun, ended - begun)
    return work


def _work_of(run: Path, steps: Scalars, last: int) -> Scalars:
    """(n,) eV, the work up to each step of a run, counted from where it began.

    Args:
        run: its folder.
        steps: (n,) those that are wanted.
        last: the last one that was printed.
    """
    file = run / COLUMN_FILE
    none = np.zeros(len(steps))
    if not file.exists():
        return none
    with file.open(encoding="utf-8") as lines:
        names = columns([line for line in lines if line.startswith("#")])
    if "work" not in names:
        return none
    values = np.loadtxt(file, ndmin=2, usecols=(names["evaluation"], names["work"]))
    if not len(values):
        return none
    made = float(values[-1, 0])
    if not values[:, 1].any():
        return none if last > made + _LOST else np.where(steps > made, np.nan, none)
    slack = _gap(values[:, 0]) + _gap(steps) + 1.0  # the last may not have been printed
    if made > last + slack or made < 0.5 * last - slack:
        raise ConfigError(
            f"{run} has {made:.0f} evaluations in {last} steps, so the work of updates cannot "
            "be assigned to steps; that needs one bead and one force component"
        )
    found: Scalars = np.interp(steps, values[:, 0], values[:, 1], right=np.nan)
    return found  # unknown where a run was killed before it recorded an evaluation


def _gap(numbers: Scalars) -> float:
    """The widest between two of some ascending numbers."""
    return float(np.diff(numbers).max(initial=1.0))
