"""Picture of a scan: force error and time against the radii, and against each other."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mixserver.analysis.plots.lines import BLACK, GREY
from mixserver.analysis.region_figure import save
from mixserver.analysis.region_scan.results import Errors, Scan, ScanPoint
from mixserver.core.errors import ConfigError

_FLOOR: Final = 1e-6
"""eV/Å; smaller errors are rounding, and are not drawn on a log scale."""
_NAMES: Final = {"inner": "of core atoms", "outer": "of core and blend atoms"}


def draw_scan(scan: Scan, output: Path, name: str) -> Path:
    """Draw a scan into a PNG; `name` is the case's, for the title.

    Raises:
        ConfigError: nothing was measured, or it cannot be written.
    """
    if not scan.measured:
        raise ConfigError("no point of the scan could be measured, so nothing is drawn")
    figure = Figure(figsize=(12.0, 8.6), layout="constrained")
    (inner, outer), (times, both) = figure.subplots(2, 2)
    _against_radius(inner, scan, "inner", "Force error of the atoms that are core in every point")
    _against_radius(outer, scan, "outer", "Force error of all that are core or blend in any point")
    _times(times, scan)
    _error_and_time(both, scan)
    handles, labels = inner.get_legend_handles_labels()
    if not handles:
        handles, labels = outer.get_legend_handles_labels()
    figure.legend(handles, labels, frameon=False, fontsize=9, ncols=8, loc="outside lower center")
    figure.suptitle(
        f"{name}: {scan.atoms} atoms, displaced by {scan.displacement:g} Å, against all atoms "
        "with the expensive model"
    )
    return save(figure, output)


def _lines(scan: Scan) -> list[tuple[float, str, list[tuple[ScanPoint, float, Errors]]]]:
    """The measured points by blend width, each with a colour, by ascending core."""
    widths = sorted({point.blend_width for point in scan.points})
    colours = matplotlib.colormaps["viridis"](np.linspace(0.0, 0.88, len(widths)))
    return [
        (
            width,
            matplotlib.colors.to_hex(colour),
            sorted(
                (one for one in scan.measured if one[0].blend_width == width),
                key=lambda one: one[0].core_radius,
            ),
        )
        for width, colour in zip(widths, colours, strict=True)
    ]


def _against_radius(axes: Axes, scan: Scan, which: str, title: str) -> None:
    drawn = False
    for width, colour, points in _lines(scan):
        pairs = [(p.core_radius, getattr(errors, which)) for p, _, errors in points]
        kept = [(core, error) for core, error in pairs if error is not None and error > _FLOOR]
        if kept:
            axes.plot(
                *zip(*kept, strict=True), "o-", ms=4, color=colour, label=f"blend {width:g} Å"
            )
            drawn = True
    alone = getattr(scan.cheap_errors, which)
    if alone is not None:
        axes.axhline(alone, color=GREY, ls=":", lw=1.2, label="cheap model alone")
    axes.set(xlabel="core radius (Å)", ylabel="rms |ΔF| (eV/Å)")
    axes.set_title(title, fontsize=10)
    if drawn or alone is not None:
        axes.set_yscale("log")
    if not drawn:
        why = (
            "no atom is core in every point"
            if alone is None
            else f"zero to rounding (below {_FLOOR:g} eV/Å)"
        )
        axes.text(0.5, 0.4, why, transform=axes.transAxes, ha="center", color=GREY)
    _case(axes, scan)


def _times(axes: Axes, scan: Scan) -> None:
    for _width, colour, points in _lines(scan):
        if points:
            cores = [point.core_radius for point, _, _ in points]
            axes.plot(cores, [ms for _, ms, _ in points], "o-", ms=4, color=colour)
            axes.plot(
                cores, [point.ms_cheap or np.nan for point, _, _ in points], lw=0.8, color=colour,
                ls="--",
            )  # fmt: skip
    axes.axhline(scan.expensive_ms, color=BLACK, ls=":", lw=1.2)
    axes.annotate(
        "all atoms expensive", (0.02, scan.expensive_ms), xycoords=("axes fraction", "data"),
        xytext=(0, 3), textcoords="offset points", fontsize=8,
    )  # fmt: skip
    axes.set(xlabel="core radius (Å)", ylabel="ms per evaluation")
    axes.set_title("Time of an evaluation (dashed: of the cheap model in it)", fontsize=10)
    axes.set_ylim(0.0, 1.08 * max(scan.expensive_ms, *(ms for _, ms, _ in scan.measured)))
    _case(axes, scan)


def _error_and_time(axes: Axes, scan: Scan) -> None:
    best = scan.best()
    for _, colour, points in _lines(scan):
        for point, ms, errors in points:
            error = scan.error(errors)
            if error is None or error <= _FLOOR:
                continue
            chosen = point in best
            axes.plot(ms, error, "o", ms=6 if chosen else 3.5, color=colour)
            if (point.core_radius, point.blend_width) == scan.case:
                axes.plot(ms, error, "o", ms=12, mfc="none", mec=BLACK, label="the case")
            if chosen:
                axes.annotate(
                    f"{point.core_radius:g} + {point.blend_width:g}", (ms, error), xytext=(5, 4),
                    textcoords="offset points", fontsize=8,
                )  # fmt: skip
    front = [(ms, scan.error(errors)) for p, ms, errors in scan.measured if p in best]
    line = sorted((ms, error) for ms, error in front if error is not None and error > _FLOOR)
    if line:
        axes.plot(*zip(*line, strict=True), color=BLACK, lw=0.8, zorder=0)
        axes.set_yscale("log")
    axes.axvline(scan.expensive_ms, color=BLACK, ls=":", lw=1.2)
    axes.set(xlabel="ms per evaluation (dotted: all atoms expensive)", ylabel="rms |ΔF| (eV/Å)")
    axes.set_title(
        f"Error {_NAMES[scan.judged_by]} against time; named: the best",
        fontsize=10,
    )
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_formatter("{x:g}")
    axes.tick_params(axis="x", which="minor", labelsize=7)
    if axes.get_legend_handles_labels()[0]:
        axes.legend(frameon=False, fontsize=8)


def _case(axes: Axes, scan: Scan) -> None:
    """Mark the core radius of the case, if it was scanned."""
    if any(point.core_radius == scan.case[0] for point in scan.points):
        axes.axvline(scan.case[0], color=GREY, lw=0.8, zorder=0)
