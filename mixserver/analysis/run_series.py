"""All that a run recorded, over time: reports, i-PI's properties, and what it aimed at.

Runs that continue each other are one series. Evaluations have a time in ps where i-PI printed its
own; else they are counted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from operator import attrgetter
from pathlib import Path

import numpy as np

from mixserver.analysis.drift import work_until
from mixserver.analysis.find_run import run_label
from mixserver.analysis.records import column, joined_parts
from mixserver.analysis.run_properties import RunProperties, read_properties
from mixserver.config import Config, load_case
from mixserver.core.arrays import Scalars
from mixserver.core.errors import ConfigError
from mixserver.ipi.dynamics import Dynamics, read_dynamics
from mixserver.server.records.report import Report
from mixserver.server.runs import RESTART_INPUT, RUN_INFO


@dataclass(frozen=True)
class RunSeries:
    """The series of one run and of the runs it continues."""

    name: str
    runs: tuple[Path, ...]
    """Oldest first."""
    reports: tuple[Report, ...] = field(repr=False)
    time: Scalars = field(repr=False)
    """(n,) of each report: ps, or the number of the evaluation if not `timed`."""
    timed: bool
    restarts: tuple[float, ...]
    """Where the second and later runs begin, in the same unit."""
    properties: RunProperties | None = field(repr=False)
    """What i-PI printed, with step and time; None if it printed no such table."""
    work: Scalars | None = field(repr=False)
    """(m,) eV, lambda work at each row of `properties`; None if it cannot be assigned to steps."""
    dynamics: Dynamics | None
    """How i-PI moved the atoms; None if its input is not there."""
    config: Config | None
    """The run's mix.toml; None if it is not there."""
    atoms: int
    """Atoms of the system; 0 if that is not known."""

    @property
    def folder(self) -> Path:
        """The newest run's."""
        return self.runs[-1]

    def of_region(self) -> RunSeries:
        """The same with the evaluations that have a region: not those of the cheap channel."""
        kept = [at for at, report in enumerate(self.reports) if report.channel != "cheap"]
        reports = tuple(self.reports[at] for at in kept)
        return replace(self, reports=reports, time=self.time[kept])

    def column(self, name: str) -> Scalars:
        """The values (n,) of a field of the reports, NaN where it was not measured."""
        return column(self.reports, name)


def read_series(runs: Sequence[Path], name: str = "") -> RunSeries:
    """Read a run and those that it continues, oldest first.

    Raises:
        ConfigError: the newest has no records, or a file cannot be read.
    """
    parts = joined_parts(runs)
    # those of several beads are recorded in the order in which they were answered
    parts = [
        replace(part, reports=tuple(sorted(part.reports, key=attrgetter("evaluation"))))
        for part in parts
    ]
    reports = tuple(report for part in parts for report in part.reports)
    config = _config(runs[-1])
    dynamics = _dynamics(runs[-1], config)
    properties = _properties(runs)
    evaluation = column(reports, "evaluation")
    time, restarts, timed = evaluation, [float(part.first) for part in parts[1:]], False
    if properties is not None and (line := _times(properties)) is not None:
        pieces, restarts, timed = [], [], True
        for at, part in enumerate(parts):
            begun, ended = properties.begun[at], max(properties.ended[at], properties.begun[at])
            own = column(part.reports, "evaluation") - part.first
            # of several evaluations a step, which beads or levels of time steps make
            many = max(1.0, (part.made - 1) / max(1, ended - begun))
            per_step = 1.0 if part.one_per_step else many
            pieces.append(np.polyval(line, begun + own / per_step))
            restarts.append(float(np.polyval(line, begun)))
        time, restarts = np.concatenate(pieces), restarts[1:]
    return RunSeries(
        name=name or run_label(runs[-1]),
        runs=tuple(runs),
        reports=reports,
        time=time,
        timed=timed,
        restarts=tuple(restarts),
        properties=properties if timed else None,
        work=_work(runs, properties) if timed and properties is not None else None,
        dynamics=dynamics,
        config=config,
        atoms=_count_atoms(runs[-1], config),
    )


def _times(properties: RunProperties) -> Scalars | None:
    """Time (ps) as a line through steps: slope and offset; None if there are too few."""
    step, time = properties.step, properties.columns["time"]
    if len(step) < 2 or step[-1] <= step[0]:
        return None
    slope = (time[-1] - time[0]) / (step[-1] - step[0])
    return np.array([slope, time[0] - slope * step[0]]) if slope > 0.0 else None


def _properties(runs: Sequence[Path]) -> RunProperties | None:
    try:
        return read_properties(runs, ("step", "time"))
    except ConfigError:
        return None


def _work(runs: Sequence[Path], properties: RunProperties) -> Scalars | None:
    try:
        return work_until(runs, properties)
    except ConfigError:
        return None


def _config(run: Path) -> Config | None:
    try:
        return load_case(run).config
    except ConfigError:
        return None


def _dynamics(run: Path, config: Config | None) -> Dynamics | None:
    source = run / RESTART_INPUT
    if not source.exists():
        source = run / ("input.xml" if config is None else config.ipi.input)
    try:
        return read_dynamics(source)
    except ConfigError:
        return None


def _count_atoms(run: Path, config: Config | None) -> int:
    from mixserver.server.reference.structure import read_reference  # noqa: PLC0415 - heavy

    if config is None or not (run / RUN_INFO).exists():
        return 0
    try:
        return len(read_reference(load_case(run))[0])
    except ConfigError:
        return 0
