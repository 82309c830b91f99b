"""What i-PI's properties and the times of workers give cause to warn of: values in, words out."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from mixserver.config import Config
from mixserver.dispatch.views import WorkerView
from mixserver.server.records.report import Report
from mixserver.server.warnings.report_checks import mean_ps
from mixserver.server.warnings.warning_log import WarningLog

_FEWEST: Final = 5
"""Readings of a temperature that give a mean, and jobs of a worker that give a usual time."""
_INTERVALS: Final = 3
"""Intervals from which a worker's usual time of a job is taken."""
_NOTICEABLE_S: Final = 0.05
"""Seconds by which a job must have become longer."""


@dataclass(slots=True)
class PropertyChecks:
    """Looks at lines of i-PI's properties, some of them, in order."""

    config: Config
    atoms: int
    warnings: WarningLog
    target: float | None = None
    """K, of the thermostat; None if there is none."""
    picoseconds: float = 0.0
    """ps of a step."""
    _step: float = -1.0
    _first: float | None = None
    """eV, the first conserved energy."""
    _begun: float | None = None
    """ps at which the present mean of temperatures began."""
    _settled: bool = False
    _kelvin: list[float] = field(default_factory=list)

    def look(self, properties: Mapping[str, float], report: Report | None) -> str:
        """Warn of what a line shows; the error that ends the run, or "".

        Args:
            properties: of i-PI's newest line; energies in eV.
            report: the newest.
        """
        kelvin = properties.get("temperature")
        hottest = self.config.limits.temperature
        for name, value in properties.items():
            if not math.isfinite(value):
                return f"i-PI printed {name} = {value}"
        if kelvin is not None and kelvin > hottest:
            return (
                f"the temperature is {kelvin:.3g} K; the limit is {hottest:g} (limits.temperature)"
            )
        step = properties.get("step")
        if step is None or step == self._step:
            return ""
        self._step = step
        if kelvin is not None and self.target is not None and self.picoseconds:
            self._check_temperature(kelvin, self.target, int(step))
        if (energy := properties.get("conserved")) is not None:
            self._check_conserved(energy - (0.0 if report is None else report.work), int(step))
        return ""

    def _check_temperature(self, kelvin: float, target: float, step: int) -> None:
        bounds = self.config.warnings
        now = step * self.picoseconds
        if self._begun is None:
            self._begun = now
        self._kelvin.append(kelvin)
        picoseconds = now - self._begun
        if picoseconds < mean_ps(bounds, self.atoms) or len(self._kelvin) < _FEWEST:
            return
        mean, settled = statistics.fmean(self._kelvin), self._settled
        self._kelvin.clear()
        self._begun, self._settled = now, True
        if settled and abs(mean - target) > bounds.temperature * target:
            self.warnings.warn(
                "temperature",
                f"the temperature is {mean:.0f} K, as a mean over {picoseconds:.3g} ps; the "
                f"target is {target:g} K (warnings.temperature = {bounds.temperature:g}). Is the "
                "time step too long, or the thermostat too weak?",
                step=step,
            )

    def _check_conserved(self, energy: float, step: int) -> None:
        config = self.config
        if config.region is not None and config.mixing.kind == "force":
            return
        if self._first is None:
            self._first = energy
        change = (energy - self._first) / max(1, self.atoms)
        if abs(change) > config.warnings.conserved:
            self.warnings.warn(
                "conserved",
                f"the conserved energy has changed by {1e3 * change:+.3g} meV per atom since this "
                f"run began, more than {1e3 * config.warnings.conserved:g} (warnings.conserved, in "
                "eV). Is the time step too long? mixserver drift shows whether it drifts on",
                step=step,
            )


@dataclass(slots=True)
class _Pace:
    """How long a worker's jobs take, interval by interval."""

    jobs: int = 0
    seconds: float = 0.0
    means: list[float] = field(default_factory=list)
    slow: bool = False
    """Whether it was in the interval before."""


@dataclass(slots=True)
class WorkerChecks:
    """Compares the times of each worker's jobs with its own earlier ones, at intervals."""

    config: Config
    warnings: WarningLog
    _paces: dict[str, _Pace] = field(default_factory=dict)

    def look(self, workers: Iterable[WorkerView]) -> None:
        """Warn of workers whose jobs took longer in two intervals in a row."""
        factor = self.config.warnings.slow_worker
        for worker in workers:
            pace = self._paces.setdefault(worker.name, _Pace())
            jobs, seconds = worker.tally.jobs - pace.jobs, worker.tally.seconds - pace.seconds
            if jobs < 0:  # it joined again
                self._paces[worker.name] = _Pace(worker.tally.jobs, worker.tally.seconds)
                continue
            if jobs < _FEWEST:
                continue  # goes into the next interval
            pace.jobs, pace.seconds = worker.tally.jobs, worker.tally.seconds
            mean = seconds / jobs
            if len(pace.means) < _INTERVALS:
                pace.means.append(mean)
                continue
            usual = statistics.median(pace.means)
            slow = mean > factor * usual and mean - usual > _NOTICEABLE_S
            if slow and pace.slow:
                self.warnings.warn(
                    f"slow worker {worker.name}",
                    f"the worker {worker.name}{f' on {worker.host}' * bool(worker.host)} takes "
                    f"{mean:.3g} s for a job, {mean / usual:.1f} times as long as at first "
                    f"({usual:.3g} s; warnings.slow_worker = {factor:g}). Does another program use "
                    "its machine, or has the region grown?",
                )
            pace.slow = slow
