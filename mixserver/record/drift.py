"""Is energy conserved? The drift and the fluctuation of i-PI's conserved quantity, from its output.

Where updates of lambda do work on the atoms, what is conserved is i-PI's quantity less that work,
which mixserver's own column file has.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from mixserver.arrays import Scalars
from mixserver.errors import ConfigError
from mixserver.record.recorder import COLUMN_FILE
from mixserver.record.report import columns

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


def drift_of(folder: Path, atoms: int, *, skip: float = 0.0) -> Drift:
    """The drift of one run.

    Args:
        folder: the run's folder.
        atoms: how many there are.
        skip: picoseconds at the beginning that do not count.

    Raises:
        ConfigError: i-PI printed no step, time and conserved quantity there, or too few.
    """
    table = _table(folder)
    time, conserved = table["time"], table["conserved"]
    if np.ptp(time) <= 0.0:
        raise ConfigError(f"{folder}: i-PI's properties need different times; print more steps")
    work = _work(folder, table["step"])
    kept = time >= time[0] + skip
    if np.count_nonzero(kept) < 2 * _BLOCKS:
        raise ConfigError(
            f"{folder} has {np.count_nonzero(kept)} lines of properties to go by, {2 * _BLOCKS} "
            "are the least: run longer, print more often or skip less"
        )
    time, energy = time[kept], (conserved - work)[kept] * 1e6 / atoms
    slope, error = _line(time, energy)
    line = slope * (time - time.mean()) + energy.mean()
    temperature = table.get("temperature")
    return Drift(
        picoseconds=float(np.ptp(time)),
        drift=slope,
        error=error,
        fluctuation=float(np.sqrt(np.mean((energy - line) ** 2))),
        temperature=float("nan") if temperature is None else float(temperature[kept].mean()),
        work=float((work[-1] - work[0]) * 1e6 / atoms),
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


def _table(folder: Path) -> Mapping[str, Scalars]:
    """Columns of i-PI's properties, by name."""
    wanted = {"step", "time", "conserved"}
    for file in sorted(folder.glob("*.out")):
        if file.name == COLUMN_FILE:
            continue
        with file.open(encoding="utf-8") as lines:
            names = columns([line for line in lines if line.startswith("#")])
        if wanted <= names.keys():
            values = np.loadtxt(file, ndmin=2)
            return {name: values[:, at] for name, at in names.items() if at < values.shape[1]}
    raise ConfigError(
        f"{folder} has no properties file of i-PI with step, time and conserved: list them in "
        "<properties>"
    )


def _work(folder: Path, steps: Scalars) -> Scalars:
    """(n,) eV, the work up to each step."""
    file = folder / COLUMN_FILE
    none = np.zeros(len(steps))
    if not file.exists():
        return none
    with file.open(encoding="utf-8") as lines:
        names = columns([line for line in lines if line.startswith("#")])
    if "work" not in names:
        return none
    values = np.loadtxt(file, ndmin=2, usecols=(names["evaluation"], names["work"]))
    if not values[:, 1].any():
        return none
    last = steps[-1] - steps[0]
    if abs(values[-1, 0] - last) > 1:
        raise ConfigError(
            f"{folder} has {values[-1, 0]:.0f} evaluations in {last:.0f} steps, so the work of "
            "updates cannot be told step by step; that takes one bead and one force component"
        )
    found: Scalars = np.interp(steps - steps[0], values[:, 0], values[:, 1])
    return found
