"""The figure of a report: one bar per row."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullLocator

from mixserver.analysis.bench.report import Report, Row, number

_BLUE, _ORANGE, _GREY, _DARK = "#3b6fb6", "#d9822b", "#808080", "#303030"
_BAR = 0.42
"""Inches per row."""


def draw(report: Report, output: Path) -> Path:
    """Draw the ratios of all rows, with quartiles, into a PNG."""
    rows = report.rows
    systems = list(dict.fromkeys(row.system for row in rows))
    height = 1.7 + _BAR * (len(rows) + 1.1 * len(systems))
    figure = Figure(figsize=(11.0, max(2.6, height)), layout="constrained")
    axes = figure.subplots()
    _bars(axes, rows, systems)
    machine = report.machine
    load = "unknown" if report.load_end is None else f"{report.load_end:.1f}"
    axes.set_title(f"mixserver bench {report.suite}", loc="left", fontsize=12, color=_DARK)
    models = list(dict.fromkeys(side.model for row in rows for side in (row.fast, row.slow)))
    below = [
        f"{machine.processor}, {machine.usable} of {machine.cores} cores, load {load}, "
        f"{report.date[:10]}",
        *machine.gpus,
        *models,
    ]
    axes.set_xlabel(
        "times faster (median of pairs; line: quartiles; diamond: processor times)\n"
        + "\n".join(below),
        fontsize=8.5,
        color=_DARK,
        linespacing=1.5,
    )
    figure.savefig(output, dpi=120)
    return output


def _bars(axes: Axes, rows: Sequence[Row], systems: Sequence[str]) -> None:
    places: list[float] = []
    labels: list[str] = []
    at = 0.0
    for system in systems:
        here = [row for row in rows if row.system == system]
        sites = (
            f"{here[0].sites} of {here[0].atoms} sites"
            if here[0].sites
            else f"{here[0].atoms} atoms"
        )
        axes.text(
            0.0,
            at,
            f"{system}: {sites}",
            transform=axes.get_yaxis_transform(),
            va="center",
            ha="left",
            fontsize=8.5,
            weight="bold",
            color=_DARK,
            bbox={"facecolor": "white", "edgecolor": "none", "pad": 1.5},
        )
        at += 1.0
        for row in here:
            low, high = row.ratio_quartiles
            start, end = sorted((1.0, row.ratio))
            colour = _BLUE if row.ratio >= 1.0 else _ORANGE
            axes.barh(at, end - start, left=start, height=0.62, color=colour)
            axes.plot([low, high], [at, at], color=_DARK, lw=1.6, solid_capstyle="butt")
            if row.ratio_of_processor_time is not None:
                place = ([row.ratio_of_processor_time], [at])
                axes.plot(*place, ls="none", marker="D", ms=4.5, mfc="white", mec=_DARK, zorder=3)
            axes.annotate(
                f"{number(row.ratio)}x   {number(row.fast.ms)} / {number(row.slow.ms)} ms",
                (max(row.ratio, high, 1.0), at),
                xytext=(6, 0),
                textcoords="offset points",
                va="center",
                fontsize=8,
                color=_DARK,
            )
            places.append(at)
            labels.append(f"{row.fast.name}\nbeside {row.slow.name}")
            at += 1.0
        at += 0.1
    axes.set_yticks(places, labels, fontsize=7.5)
    axes.set_ylim(at - 0.4, -0.6)
    axes.set_xscale("log")
    seen = [1.0]
    for row in rows:
        seen += [row.ratio, *row.ratio_quartiles, row.ratio_of_processor_time or row.ratio]
    axes.set_xlim(min(0.8, 0.8 * min(seen)), 2.6 * max(2.0, *seen))
    axes.axvline(1.0, color=_GREY, lw=1.0)
    axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.xaxis.set_minor_locator(NullLocator())
    axes.tick_params(axis="y", length=0)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
