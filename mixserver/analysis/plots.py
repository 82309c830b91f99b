"""Plots of a run, from its records alone."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from mixserver.analysis.records import column, joined_reports
from mixserver.analysis.run_properties import read_properties
from mixserver.core.errors import ConfigError
from mixserver.server.records.report import Report

_BLUE, _ORANGE, _GREEN, _GREY = "#3b6fb6", "#d9822b", "#3c8d5a", "#808080"
_RED, _PURPLE, _TEAL = "#b5403a", "#7a5195", "#2a9d9d"
_MOST_POINTS = 300
"""Longer runs are drawn as running medians."""


def read_temperature(
    runs: Path | Sequence[Path],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The steps (n,) and temperatures (n,) K that i-PI printed; empty if none."""
    try:
        table = read_properties([runs] if isinstance(runs, Path) else runs, ("step", "temperature"))
    except ConfigError:
        return np.zeros(0), np.zeros(0)
    return table.step, table.columns["temperature"]


def draw(runs: Path | Sequence[Path], output: Path) -> Path:
    """Draw times, region sizes, how far the models are apart, and temperature into a PNG.

    The run may be several that go on from each other, oldest first.

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
            values = np.maximum(column(took, name), 1e-3)
            _line(axes, took, values, colour, f"{label} {np.median(values):.3g}")
    axes.set(title="Time per evaluation (medians)", ylabel="ms", yscale="log")
    _count(axes, "evaluation")
    low, high = axes.get_ylim()
    axes.set_ylim(10 ** np.floor(np.log10(low)), 10 * 10 ** np.ceil(np.log10(high)))
    axes.legend(frameon=False, fontsize=8, ncols=2, loc="upper center")
    return axes


def sizes(axes: Axes, reports: Sequence[Report]) -> Axes:
    """How many atoms were core, blend, buffer and halo."""
    columns = [
        *(("core", _RED, "core"), ("blend", _PURPLE, "blend")),
        *(("buffer", _TEAL, "buffer"), ("halo", _GREY, "halo")),
    ]
    axes.set(title="Atoms in the regions", ylabel="atoms")
    _count(axes, "evaluation")
    _finish(axes, "" if _columns(axes, reports, columns) else "no region")
    return axes


def disagreement(axes: Axes, reports: Sequence[Report]) -> Axes:
    """How far the models are apart: in what was mixed, energies or forces."""
    energies = any(report.gap_max for report in reports)
    return gap(axes, reports) if energies else mismatch(axes, reports)


def mismatch(axes: Axes, reports: Sequence[Report]) -> Axes:
    """Under force mixing: how far forces differ where the models meet, and what is left, eV/Å."""
    columns = [
        ("core_mismatch_rms", _RED, "core, rms"),
        ("mismatch_rms", _PURPLE, "blend, rms"),
        ("mismatch_max", _TEAL, "blend, largest"),
        ("net_force", _GREY, "net force removed"),
    ]
    axes.set(title="|F expensive - F cheap|", ylabel="eV/Å")
    _count(axes, "evaluation")
    _finish(axes, "" if _columns(axes, reports, columns) else "nothing mixed")
    return axes


def gap(axes: Axes, reports: Sequence[Report]) -> Axes:
    """Under energy mixing: how far site energies differ in the blend (eV), and the pull (eV/Å).

    The pull, the force of a lambda that moves, has an axis of its own on the right; a frozen
    lambda has none.
    """
    _columns(axes, reports, [("gap_rms", _PURPLE, "gap, rms"), ("gap_max", _TEAL, "gap, largest")])
    axes.set(title="|e expensive - e cheap| in the blend", ylabel="eV")
    _count(axes, "evaluation")
    _finish(axes, "")
    right = axes.twinx()
    if _columns(right, reports, [("pull_max", _ORANGE, "grad-lambda force, largest (right)")]):
        right.set_ylabel("eV/Å", color=_ORANGE)
        right.set_ylim(0.0, 1.25 * right.get_ylim()[1])
        lines = [*axes.get_lines(), *right.get_lines()]
        named = [line for line in lines if not str(line.get_label()).startswith("_")]
        axes.legend(handles=named, frameon=False, fontsize=8, ncols=2, loc="upper center")
    else:
        right.remove()
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


def _columns(
    axes: Axes, reports: Sequence[Report], columns: Iterable[tuple[str, str, str]]
) -> bool:
    """Draw columns (name, colour, label) that have values other than 0; whether there are any."""
    drawn = False
    for name, colour, label in columns:
        measured = [report for report in reports if getattr(report, name) is not None]
        values = column(measured, name)
        if values.any():
            _line(axes, measured, values, colour, label)
            drawn = True
    return drawn


def _line(
    axes: Axes, reports: Sequence[Report], values: NDArray[np.float64], colour: str, label: str
) -> None:
    """Draw a column; of a long run the running median, with all values pale behind it."""
    at = column(reports, "evaluation")
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
