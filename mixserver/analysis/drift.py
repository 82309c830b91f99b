"""Energy conservation of runs: drift and fluctuation of i-PI's conserved quantity.

A run that continues others is measured together with them. If updates of lambda do work on the
atoms, the conserved quantity is i-PI's minus that work, which is in mixserver's column file.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from mixserver.analysis.run_properties import LOST, RunProperties, read_properties
from mixserver.core.arrays import Scalars
from mixserver.core.errors import ConfigError
from mixserver.ipi.output import read_columns
from mixserver.server.records.recorder import COLUMN_FILE

_BLOCKS: Final = 10
"""Blocks whose means give the error of the slope, because neighbouring steps are correlated."""


@dataclass(frozen=True, slots=True)
class Drift:
    """How well a run conserved its energy."""

    picoseconds: float
    """Length of the run, without the skipped part."""
    drift: float
    """µeV/atom/ps, slope of the line through the conserved quantity."""
    error: float
    """Standard error of the drift."""
    fluctuation: float
    """µeV/atom, root mean square about that line."""
    temperature: float
    """K, mean; NaN if it was not printed."""
    work: float
    """µeV/atom, work of lambda updates, which is subtracted; 0 if there is none."""
    runs: tuple[str, ...] = ()
    """Names of the folders that were joined, oldest first."""


def energy_drift(runs: Path | Sequence[Path], atoms: int, *, skip: float = 0.0) -> Drift:
    """The drift of a run, or of runs that continue each other, oldest first.

    The first `skip` picoseconds are left out.

    Raises:
        ConfigError: i-PI printed no step, time and conserved quantity there, or too few.
    """
    runs = [runs] if isinstance(runs, Path) else runs
    folder, table = runs[-1], read_properties(runs)
    time, conserved = table.columns["time"], table.columns["conserved"]
    if len(time) == 0 or np.ptp(time) <= 0.0:
        raise ConfigError(f"{folder}: i-PI printed properties of a single time; print more steps")
    work = work_until(runs, table)
    kept = (time >= time[0] + skip) & np.isfinite(work)
    if np.count_nonzero(kept) < 2 * _BLOCKS:
        raise ConfigError(
            f"{folder} has {np.count_nonzero(kept)} lines of properties, {2 * _BLOCKS} "
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
    from scipy.stats import linregress  # noqa: PLC0415 - heavy

    blocks = np.array_split(np.arange(len(time)), _BLOCKS)
    t = np.array([time[block].mean() for block in blocks])
    e = np.array([energy[block].mean() for block in blocks])
    fit = linregress(t, e)
    return float(fit.slope), float(fit.stderr)


def work_until(runs: Sequence[Path], table: RunProperties) -> Scalars:
    """The lambda work (n,) eV up to each row of some properties; NaN where it is not recorded.

    Raises:
        ConfigError: a run's evaluations cannot be assigned to steps.
    """
    work = np.zeros(len(table.step))
    for number, run in enumerate(runs):
        rows = table.run == number
        if rows.any():
            begun, ended = table.begun[number], table.ended[number]
            work[rows] = _work_of(run, table.step[rows] - begun, ended - begun)
    return work


def _work_of(run: Path, steps: Scalars, last: int) -> Scalars:
    """The work (n,) eV up to each step of a run, from where it began to its `last` step."""
    file = run / COLUMN_FILE
    none = np.zeros(len(steps))
    if not file.exists():
        return none
    table = read_columns(file)
    if "work" not in table or not len(table["work"]):
        return none
    evaluations, work = table["evaluation"], table["work"]
    made = float(evaluations[-1])
    if not work.any():
        return none if last > made + LOST else np.where(steps > made, np.nan, none)
    slack = _gap(evaluations) + _gap(steps) + 1.0  # the last may not have been printed
    if made > last + slack or made < 0.5 * last - slack:
        raise ConfigError(
            f"{run} has {made:.0f} evaluations in {last} steps, so the work of updates cannot "
            "be assigned to steps; that needs one bead and one force component"
        )
    return np.interp(steps, evaluations, work, right=np.nan)


def _gap(numbers: Scalars) -> float:
    """The widest between two of some ascending numbers."""
    return float(np.diff(numbers).max(initial=1.0))
