"""What the reports of a run give cause to warn of; a few comparisons of numbers per report."""

from __future__ import annotations

import statistics
from dataclasses import dataclass, field
from typing import Final

from mixserver.config import AtomSeeds, Config, CriterionSeeds, SpeciesSeeds, Warnings
from mixserver.server.records.report import Report
from mixserver.server.warnings.warning_log import WarningLog

_BLOCK: Final = 100
"""Reports whose median difference of the models is compared."""
_SETTLED: Final = 3
"""Blocks from which the difference is known: the first, in which a run may still heat up, is not
among them."""
_FEWEST: Final = 20
"""Measurements of a temperature that give a mean."""
_MANY_ATOMS: Final = 100
"""Fewer are averaged for longer, so that their fluctuations are not warned of."""


@dataclass(slots=True)
class ReportChecks:
    """Looks at each report of one run; called on the thread that writes the records."""

    config: Config
    atoms: int
    warnings: WarningLog
    target: float | None = None
    """K, of the thermostat; None if there is none."""
    timestep_fs: float | None = None
    """Of each evaluation; None if that is not known."""
    _seeded: bool = field(init=False)
    _had_seeds: bool = False
    _differences: list[float] = field(init=False, default_factory=list)
    _medians: list[float] = field(init=False, default_factory=list)
    _kelvin: list[float] = field(init=False, default_factory=list)
    _begun: float = 0.0
    """fs since the start at which the present mean of the core's temperature began."""
    _settled: bool = False

    def __post_init__(self) -> None:
        region = self.config.region
        kinds = AtomSeeds | SpeciesSeeds | CriterionSeeds
        self._seeded = region is not None and isinstance(region.seeds, kinds)

    def __call__(self, report: Report) -> None:
        """Warn of what a report shows."""
        if report.channel == "cheap":
            return
        bounds = self._bounds
        self._check_region(report, bounds)
        if abs(report.work) > bounds.work * self.atoms:
            self.warnings.warn(
                "work",
                f"updates of lambda have done {report.work:.4g} eV of work on {self.atoms} atoms, "
                f"more than {bounds.work:g} eV per atom (warnings.work): energy is put in where "
                "seeds come and go. Let lambda change more slowly (region.hysteresis), or look "
                "whether the models agree in the blend",
                evaluation=report.evaluation,
            )
        self._check_difference(report, bounds)
        if report.kelvin_core is not None:
            self._check_core(report, report.kelvin_core, bounds)

    @property
    def _bounds(self) -> Warnings:
        return self.config.warnings

    def _check_region(self, report: Report, bounds: Warnings) -> None:
        active = report.core + report.blend
        self._had_seeds |= report.seeds > 0
        begun = self._had_seeds or report.evaluation >= _BLOCK  # a criterion chooses them later
        if self._seeded and report.seeds == 0 and begun:
            self.warnings.warn(
                "seeds",
                "the region has lost its seeds, so no atom is expensive. With a criterion, look at "
                "its bounds: mixserver region shows which atoms fulfil it",
                evaluation=report.evaluation,
            )
        if active > bounds.region * self.atoms and self._seeded:
            self.warnings.warn(
                "region",
                f"the region has {active} of {self.atoms} atoms, more than {bounds.region:g} of "
                "them (warnings.region): mixing saves little. Does a criterion choose too many "
                "seeds? Else make core_radius and blend_width smaller or the cell larger",
                evaluation=report.evaluation,
            )

    def _check_difference(self, report: Report, bounds: Warnings) -> None:
        difference = report.gap_rms if report.mismatch_rms is None else report.mismatch_rms
        if difference is None:
            return
        self._differences.append(difference)
        if len(self._differences) < _BLOCK:
            return
        median = statistics.median(self._differences)
        self._differences.clear()
        self._medians.append(median)
        if len(self._medians) <= _SETTLED:
            return
        before = max(self._medians[1:_SETTLED])
        del self._medians[_SETTLED:]
        if median > bounds.mismatch_growth * before > 0.0:
            unit = "eV/Å in forces" if report.mismatch_rms is not None else "eV in site energies"
            self.warnings.warn(
                "mismatch",
                f"the models differ by {median:.3g} {unit} (rms in the blend), "
                f"{median / before:.1f} times as much as at first ({before:.3g}; "
                f"warnings.mismatch_growth = {bounds.mismatch_growth:g}): the blend may lie where "
                "the cheap model does not hold. Is the region still around what happens?",
                evaluation=report.evaluation,
            )

    def _check_core(self, report: Report, kelvin: float, bounds: Warnings) -> None:
        """Compare each mean but the first with the target."""
        if self.target is None or self.timestep_fs is None:
            return
        self._kelvin.append(kelvin)
        now = report.evaluation * self.timestep_fs
        picoseconds = 1e-3 * (now - self._begun)
        if picoseconds < mean_ps(bounds, report.core) or len(self._kelvin) < _FEWEST:
            return
        mean, settled = statistics.fmean(self._kelvin), self._settled
        self._kelvin.clear()
        self._begun, self._settled = now, True
        if settled and abs(mean - self.target) > bounds.temperature * self.target:
            self.warnings.warn(
                "core_temperature",
                f"the core has {mean:.0f} K, as a mean over {picoseconds:.3g} ps; the target is "
                f"{self.target:g} K (warnings.temperature = {bounds.temperature:g}). Do the models "
                "differ much in the blend, or is the thermostat too weak?",
                evaluation=report.evaluation,
            )


def mean_ps(bounds: Warnings, atoms: int) -> float:
    """How long a temperature of some atoms is averaged, ps: longer where fluctuations are large.

    A mean over 1 ps of one atom scatters by 30 % and more, of 100 atoms by a tenth of that.
    """
    return bounds.settle_ps * max(1.0, _MANY_ATOMS / max(1, atoms))
