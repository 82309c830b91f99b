"""What the report of a run says: rows of names and values, collected from the run's records."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal

import numpy as np

from mixserver.analysis.drift import energy_drift
from mixserver.analysis.plots.draw import title
from mixserver.analysis.region_snapshots import newest_snapshot
from mixserver.analysis.report.words import (
    dynamics_in_words,
    mixing_in_words,
    region_in_words,
    surroundings_in_words,
)
from mixserver.analysis.run_properties import steps_before
from mixserver.analysis.run_series import RunSeries
from mixserver.config import Local
from mixserver.core.arrays import Scalars
from mixserver.core.errors import ConfigError
from mixserver.ipi.final_state import final_step
from mixserver.ipi.input import read_input
from mixserver.server.runs import RESTART_INPUT, is_running, read_run_info, was_killed
from mixserver.server.warnings.warning_log import read_warnings

Row = tuple[str, ...]
_DONE: Final = "done"
_UNKNOWN: Final = "ended"


@dataclass(slots=True)
class ReportContent:
    """The words and numbers of a report."""

    title: str
    grade: Literal["pass", "warn", "fail"]
    verdict: str
    settings: list[Row] = field(default_factory=list)
    models: list[Row] = field(default_factory=list)
    """Role, name, fingerprint, command."""
    cost: list[Row] = field(default_factory=list)
    conservation: list[Row] = field(default_factory=list)
    region: list[Row] = field(default_factory=list)
    """What, median, least, most."""
    runs: list[Row] = field(default_factory=list)
    """Run, steps, evaluations, programs, how it ended."""
    warnings: list[Row] = field(default_factory=list)
    """Run, step or evaluation, message."""


def report_content(series: RunSeries) -> ReportContent:
    """Collect what a report says about a run and those that it continues.

    Raises:
        ConfigError: a record cannot be read.
    """
    warnings = _warnings(series.runs)
    last, total = _last_step(series), _total_steps(series)
    steps = f"{last} of {total or 'an unknown number of'} steps"
    ended = how_ended(series.folder)
    if ended == _UNKNOWN and total is not None and last >= total:
        ended = _DONE
    failed = ended.startswith(("failed", "killed"))
    if ended == _DONE:
        verdict = f"All steps are made: {steps}"
    else:
        verdict = f"{ended[:1].upper()}{ended[1:].rstrip('.')}. {steps} are made"
    count = len(warnings)
    verdict += f", with {count} warning{'s' * (count > 1)}." if count else ", without warnings."
    return ReportContent(
        title=title(series),
        grade="fail" if failed else "warn" if warnings or ended != _DONE else "pass",
        verdict=verdict,
        settings=_settings(series),
        models=_models(series),
        cost=_cost(series),
        conservation=_conservation(series),
        region=_region(series),
        runs=[_run(run) for run in series.runs],
        warnings=warnings,
    )


def how_ended(run: Path) -> str:
    """How a run ended: "done", "stopped", "failed: WHY", "killed", "running", or "ended"."""
    if is_running(run):
        return "running"
    about = read_run_info(run)
    if about is not None and about.ended:
        return about.ended
    if (run / "failed.xyz").exists():
        return "failed: an evaluation ended it, see server.log"
    return "killed" if was_killed(run) else _UNKNOWN


def _settings(series: RunSeries) -> list[Row]:
    rows: list[Row] = []
    found = newest_snapshot(series.runs)
    if found is not None:
        from ase import Atoms  # noqa: PLC0415 - heavy

        atoms = Atoms(numbers=found.frame.topology.numbers)
        lengths = np.linalg.norm(found.frame.cell, axis=1)
        rows += [
            ("atoms", f"{len(atoms)} ({atoms.get_chemical_formula('hill')})"),
            ("cell", " × ".join(f"{length:.2f}" for length in lengths) + " Å"),
        ]
    elif series.atoms:
        rows.append(("atoms", str(series.atoms)))
    if series.dynamics is not None:
        rows.append(("dynamics", dynamics_in_words(series.dynamics)))
    if series.timed and len(series.time):
        rows.append(("simulated", f"{series.time[-1] - series.time[0]:.4g} ps"))
    config = series.config
    if config is None:
        return rows
    rows.append(("mixing", mixing_in_words(config)))
    if config.region is not None:
        rows += [
            ("region", region_in_words(config.region)),
            ("surroundings", surroundings_in_words(config)),
        ]
    if config.ipi.thermostat == "cheap":
        rows.append(("thermostat", "acts outside the core only, with friction (1 − λ)/τ"))
    return rows


def _models(series: RunSeries) -> list[Row]:
    about = next(
        (info for run in reversed(series.runs) if (info := read_run_info(run)) and info.models),
        None,
    )
    if about is None:
        return []
    config = series.config
    started: dict[str, Local] = {one.role: one for one in config.local} if config else {}
    return [
        (
            role,
            model.name,
            model.fingerprint,
            " ".join(local.command) if (local := started.get(role)) else "elsewhere",
        )
        for role, model in about.models.items()
    ]


def _cost(series: RunSeries) -> list[Row]:
    """Times per evaluation. What mixing saves cannot be known from the mixed run alone."""
    rows: list[Row] = []
    for name, label in (
        ("ms_total", "an evaluation takes"),
        ("ms_cheap", "the cheap model"),
        ("ms_expensive", "the expensive model"),
        ("ms_own", "mixserver itself"),
    ):
        values = series.column(name)
        values = values[np.isfinite(values) & (values > 0.0)]
        if len(values):
            rows.append((label, f"{float(np.median(values)):.3g} ms", "median"))
    sent = sum(series.column(name) for name in ("core", "blend", "buffer", "halo"))
    mixed = series.config is not None and series.config.region is not None
    if mixed and isinstance(sent, np.ndarray) and series.atoms:
        part = float(np.median(sent[sent > 0.0])) if (sent > 0.0).any() else 0.0
        if part:
            rows += [
                (
                    "atoms sent to the expensive model",
                    f"{part:.0f} of {series.atoms}",
                    "median, with buffer and halo, which cost less than sites",
                ),
                ("speed-up", "mixserver check CASE measures it", "on the machine that runs"),
            ]
    rows.append(("evaluations", str(len(series.reports)), "recorded"))
    return rows


def _conservation(series: RunSeries) -> list[Row]:
    config = series.config
    if config is not None and config.region is not None and config.mixing.kind == "force":
        return [("conserved energy", "none: forces are mixed", "")]
    try:
        found = energy_drift(series.runs, max(1, series.atoms))
    except ConfigError as error:
        return [("conserved energy", "not measured", str(error))]
    return [
        ("drift", f"{found.drift:.3g} ± {found.error:.2g} µeV/atom/ps", "slope of a line"),
        ("fluctuation", f"{found.fluctuation:.3g} µeV/atom", "root mean square about the line"),
        ("lambda work", f"{found.work:.3g} µeV/atom", "subtracted"),
        ("mean temperature", f"{found.temperature:.1f} K", "of all atoms, as i-PI prints it"),
    ]


def _region(series: RunSeries) -> list[Row]:
    one = series.of_region()
    rows: list[Row] = []
    for name, label, form in (
        ("seeds", "seeds", ".0f"),
        ("core", "core atoms", ".0f"),
        ("blend", "blend atoms", ".0f"),
        ("buffer", "buffer atoms", ".0f"),
        ("halo", "halo atoms", ".0f"),
        ("kelvin_core", "temperature of the core, K", ".0f"),
        ("kelvin_bulk", "temperature of the bulk, K", ".0f"),
        ("mismatch_rms", "|F expensive − F cheap| in the blend, rms, eV/Å", ".3g"),
        ("core_mismatch_rms", "the same in the core, eV/Å", ".3g"),
        ("gap_rms", "|e expensive − e cheap| in the blend, rms, eV", ".3g"),
        ("pull_max", "largest grad-lambda force, eV/Å", ".3g"),
    ):
        values: Scalars = one.column(name)
        values = values[np.isfinite(values)]
        if len(values) and values.any():
            low, middle, high = (format(f(values), form) for f in (np.min, np.median, np.max))
            rows.append((label, middle, low, high))
    return rows


def _run(run: Path) -> Row:
    about = read_run_info(run)
    programs = "" if about is None else ", ".join(f"{n} {v}" for n, v in about.versions.items())
    return (run.resolve().name, f"from step {steps_before(run)}", programs, how_ended(run))


def _warnings(runs: Sequence[Path]) -> list[Row]:
    found: list[Row] = []
    for run in runs:
        for warning in read_warnings(run):
            where = f"step {warning.step}" if warning.step is not None else ""
            if warning.evaluation is not None:
                where = f"evaluation {warning.evaluation}"
            found.append((run.resolve().name, where, warning.message))
    return found


def _last_step(series: RunSeries) -> int:
    """The last step that i-PI printed, or that its RESTART has: it may print few."""
    begun = steps_before(series.folder)
    printed = begun if series.properties is None else int(series.properties.step[-1])
    return max(printed, final_step(series.folder) or 0)


def _total_steps(series: RunSeries) -> int | None:
    source = series.folder / RESTART_INPUT
    if not source.exists() and series.config is not None:
        source = series.folder / series.config.ipi.input
    try:
        return read_input(source).total_steps
    except ConfigError:
        return None
