"""Pictures of a run, from its records alone: no server is needed, none is asked."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from mixserver.errors import ConfigError
from mixserver.record.printed import begun_at, printed
from mixserver.record.recorder import REPORTS
from mixserver.record.report import Report

_BLUE, _ORANGE, _GREEN, _GREY = "#3b6fb6", "#d9822b", "#3c8d5a", "#808080"
_RED, _PURPLE, _TEAL = "#b5403a", "#7a5195", "#2a9d9d"
_LOST = 20.0
"""Evaluations whose reports a killed run may have lost."""
_MOST_POINTS = 300
"""Longer runs are drawn as running medians."""


def read_reports(folder: Path) -> list[Report]:
    """All reports of a run; a last line cut short by a crash is passed over.

    Raises:
        ConfigError: there are none.
    """
    file = folder / REPORTS
    try:
        lines = file.read_bytes().splitlines()
    except OSError as error:
        raise ConfigError(f"{file} cannot be read ({error.strerror}); is this a run?") from error
    decoder = msgspec.json.Decoder(Report)
    reports = []
    for number, line in enumerate(lines, 1):
        try:
            reports.append(decoder.decode(line))
        except msgspec.DecodeError as error:
            if number < len(lines):
                raise ConfigError(f"{file}:{number} is no report: {error}") from error
    if not reports:
        raise ConfigError(f"{file} holds no reports yet; nothing to draw")
    return reports


def joined_reports(runs: Sequence[Path]) -> list[Report]:
    """All reports of runs that go on from each other, their evaluations counted through.

    Where each step is one evaluation, what a run did beyond the step that the next one goes on from
    is left out.

    Args:
        runs: their folders, oldest first.

    Raises:
        ConfigError: the last has none, or one cannot be read.
    """
    found: list[Report] = []
    first = 0
    begun = [begun_at(run) for run in runs]
    for at, run in enumerate(runs):
        last = at + 1 == len(runs)
        reports = read_reports(run) if last or (run / REPORTS).exists() else []
        made = 1 + max((report.evaluation for report in reports), default=-1)
        if not last and _one_per_step(run, begun[at], made):
            made = begun[at + 1] - begun[at]  # the next run evaluates that step again
        found += [
            msgspec.structs.replace(report, evaluation=first + report.evaluation)
            for report in reports
            if report.evaluation < made
        ]
        first += made
    return found


def _one_per_step(run: Path, begun: int, evaluations: int) -> bool:
    """Whether each of a run's steps was one evaluation, as far as i-PI's output can say."""
    try:
        steps = printed([run], ("step",)).step - begun
    except ConfigError:
        return False
    if len(steps) < 2:
        return False
    unprinted = float(np.diff(steps).max()) + 1.0
    return abs(evaluations - 1 - float(steps[-1])) <= unprinted + _LOST


def read_temperature(
    runs: Path | Sequence[Path],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(n,) steps and (n,) temperatures (K) that i-PI printed; empty if none.

    Args:
        runs: the run's folder, or those of runs that go on from each other, oldest first.
    """
    try:
        table = printed([runs] if isinstance(runs, Path) else runs, ("step", "temperature"))
    except ConfigError:
        return np.zeros(0), np.zeros(0)
    return table.step, table.columns["temperature"]


def draw(runs: Path | Sequence[Path], output: Path) -> Path:
    """Draw times, region sizes, how far the models are apart, and temperature of a run into a PNG.

    Args:
        runs: the run's folder, or those of runs that go on from each other, oldest first.
        output: the PNG to write.

    Returns:
        `output`.

    Raises:
        ConfigError: no reports there.
    """
    runs = [runs] if isinstance(runs, Path) else runs
    folder = runs[-1].resolve()
    reports = joined_reports(runs)
    divided = [report for report in reports if report.channel != "cheap"]
    figure = Figure(figsize=(10.0, 7.5), layout="constrained")
    axes = figure.subplots(2, 2)
    joined = f"runs {runs[0].resolve().name} to" if len(runs) > 1 else "run"
    figure.suptitle(f"{folder.parent.parent.name}, {joined} {folder.name}")
    times(axes[0, 0], reports)
    sizes(axes[0, 1], divided)
    disagreement(axes[1, 0], divided)
    temperature(axes[1, 1], *read_temperature(runs))
    figure.savefig(output, dpi=120)
    return output


def times(axes: Axes, reports: Sequence[Report]) -> Axes:
    """Where the time of each evaluation went, ms."""
    for name, colour, label in (
        ("ms_total", _GREY, "total"),
        ("ms_cheap", _BLUE, "cheap"),
        ("ms_expensive", _ORANGE, "expensive"),
        ("ms_own", _GREEN, "own"),
    ):
        took = [report for report in reports if getattr(report, name)]  # of channels, some
        if took:
            values = np.maximum(_column(took, name), 1e-3)
            _line(axes, took, values, colour, f"{label} {np.median(values):.3g}")
    axes.set(title="Time per evaluation (medians)", ylabel="ms", yscale="log")
    _count(axes, "evaluation")
    low, high = axes.get_ylim()
    axes.set_ylim(10 ** np.floor(np.log10(low)), 10 * 10 ** np.ceil(np.log10(high)))
    axes.legend(frameon=False, fontsize=8, ncols=2, loc="upper center")
    return axes


def sizes(axes: Axes, reports: Sequence[Report]) -> Axes:
    """How many atoms were seeds, core, blend, buffer and halo."""
    drawn = False
    for name, colour in (("core", _RED), ("blend", _PURPLE), ("buffer", _TEAL), ("halo", _GREY)):
        values = _column(reports, name)
        if values.any():
            _line(axes, reports, values, colour, name)
            drawn = True
    axes.set(title="Atoms in the regions", ylabel="atoms")
    _count(axes, "evaluation")
    _finish(axes, "" if drawn else "no region")
    return axes


def disagreement(axes: Axes, reports: Sequence[Report]) -> Axes:
    """How far the models are apart: in what was mixed, energies or forces."""
    energies = any(report.gap_max for report in reports)
    return gap(axes, reports) if energies else mismatch(axes, reports)


def mismatch(axes: Axes, reports: Sequence[Report]) -> Axes:
    """Under force mixing: how far forces differ where the models meet, and what is left, eV/Å."""
    drawn = False
    for name, colour, label in (
        ("core_mismatch_rms", _RED, "core, rms"),
        ("mismatch_rms", _PURPLE, "blend, rms"),
        ("mismatch_max", _TEAL, "blend, largest"),
        ("net_force", _GREY, "net force taken away"),
    ):
        measured = [report for report in reports if getattr(report, name) is not None]
        values = _column(measured, name)
        if values.any():
            _line(axes, measured, values, colour, label)
            drawn = True
    axes.set(title="|F expensive - F cheap|", ylabel="eV/Å")
    _count(axes, "evaluation")
    _finish(axes, "" if drawn else "nothing mixed")
    return axes


def gap(axes: Axes, reports: Sequence[Report]) -> Axes:
    """Under energy mixing: how far site energies differ in the blend (eV), and the pull (eV/Å).

    The pull, the force of a lambda that moves, has an axis of its own on the right; a frozen
    lambda has none.
    """
    for name, colour, label in (
        ("gap_rms", _PURPLE, "gap, rms"),
        ("gap_max", _TEAL, "gap, largest"),
    ):
        measured = [report for report in reports if getattr(report, name) is not None]
        if measured:
            _line(axes, measured, _column(measured, name), colour, label)
    axes.set(title="|e expensive - e cheap| in the blend", ylabel="eV")
    _count(axes, "evaluation")
    _finish(axes, "")
    pulled = [report for report in reports if report.pull_max is not None]
    pulls = _column(pulled, "pull_max")
    if pulls.any():
        right = axes.twinx()
        _line(right, pulled, pulls, _ORANGE, "grad-lambda force, largest (right)")
        right.set_ylabel("eV/Å", color=_ORANGE)
        right.set_ylim(0.0, 1.25 * right.get_ylim()[1])
        lines = [*axes.get_lines(), *right.get_lines()]
        named = [line for line in lines if not str(line.get_label()).startswith("_")]
        axes.legend(handles=named, frameon=False, fontsize=8, ncols=2, loc="upper center")
    return axes


def temperature(axes: Axes, steps: NDArray[np.float64], kelvin: NDArray[np.float64]) -> Axes:
    """The temperature i-PI printed, K."""
    if len(steps):
        axes.plot(steps, kelvin, color=_ORANGE, lw=1.0)
    else:
        _nothing(axes, "i-PI printed no temperature here")
    axes.set(title="Temperature", ylabel="K")
    _count(axes, "i-PI step")
    return axes


def _column(reports: Sequence[Report], name: str) -> NDArray[np.float64]:
    return np.array([getattr(report, name) for report in reports], dtype=np.float64)


def _line(
    axes: Axes, reports: Sequence[Report], values: NDArray[np.float64], colour: str, label: str
) -> None:
    """Draw a column; of a long run the running median, with all values pale behind it."""
    at = _column(reports, "evaluation")
    width = len(values) // _MOST_POINTS
    if width > 1:
        axes.plot(at, values, color=colour, lw=0.3, alpha=0.25)
        count = len(values) // width
        values = np.median(values[: count * width].reshape(count, width), axis=1)
        at = at[: count * width].reshape(count, width).mean(axis=1)
    axes.plot(at, values, color=colour, lw=1.1, label=label)


def _count(axes: Axes, what: str) -> None:
    """Count along x: there are no halves of evaluations and steps."""
    axes.set_xlabel(what)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))


def _finish(axes: Axes, nothing: str) -> None:
    """Start at zero, and leave room above for the legend."""
    if nothing:
        _nothing(axes, nothing)
        return
    axes.set_ylim(0.0, 1.25 * axes.get_ylim()[1])
    axes.legend(frameon=False, fontsize=8, ncols=2, loc="upper center")


def _nothing(axes: Axes, why: str) -> None:
    axes.text(0.5, 0.5, why, transform=axes.transAxes, ha="center", va="center", color=_GREY)
