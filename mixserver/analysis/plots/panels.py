"""The panels of a plot: each draws one quantity of a run's series on given axes."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeAlias

import numpy as np
from matplotlib.axes import Axes

from mixserver.analysis.plots.lines import (
    BLACK,
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    PURPLE,
    RED,
    TEAL,
    counts_from_one,
    draw_line,
    from_zero,
    legend,
    mark_restarts,
    say,
    whole_numbers,
)
from mixserver.analysis.run_series import RunSeries
from mixserver.core.arrays import Scalars

Panel: TypeAlias = Callable[[Axes, RunSeries], Axes]


def temperature(axes: Axes, series: RunSeries) -> Axes:
    """The temperature of all atoms as i-PI printed it, by region, and the target, K."""
    drawn = _property(axes, series, "temperature", GREY, "all atoms (i-PI)")
    for name, colour, label in (
        ("kelvin_bulk", BLUE, "bulk"),
        ("kelvin_blend", PURPLE, "blend"),
        ("kelvin_core", RED, "core"),
    ):
        values = series.column(name)
        drawn |= draw_line(axes, series.time, values, colour, label, seldom=True)
    target = None if series.dynamics is None else series.dynamics.temperature
    if target is not None:
        axes.axhline(target, color=BLACK, lw=0.9, ls="--", label=f"target {target:.4g}")
    axes.set(title="Temperature", ylabel="K")
    if drawn:
        from_zero(axes)
    return _finished(axes, series, "" if drawn else "no temperature is recorded")


def potential(axes: Axes, series: RunSeries) -> Axes:
    """The potential energy that i-PI printed, from its first value, eV."""
    drawn = _property(axes, series, "potential", BLUE, "", relative=True)
    whose = {report.energy_is for report in series.reports}
    of = " of the cheap model" if whose == {"cheap"} and _mixes(series) == "force" else ""
    axes.set(title=f"Potential energy{of}, from the first", ylabel="eV")
    return _finished(axes, series, "" if drawn else "i-PI printed no potential energy")


def conserved(axes: Axes, series: RunSeries) -> Axes:
    """i-PI's conserved energy less the lambda work, from its first value, meV per atom."""
    table = series.properties
    scale = 1e3 / max(1, series.atoms)
    axes.set(title="Conserved energy", ylabel="meV per atom" if series.atoms else "meV")
    if table is None or "conserved" not in table.columns:
        return _finished(axes, series, "i-PI printed no conserved energy")
    time, values, work = table.columns["time"], table.columns["conserved"], series.work
    if work is not None and np.nanmax(np.abs(work), initial=0.0) > 0.0:
        draw_line(axes, time, scale * (values - values[0]), GREY, "as i-PI prints it")
        less = values - (work - _first(work))
        draw_line(axes, time, scale * (less - _first(less)), GREEN, "less lambda work")
    else:
        draw_line(axes, time, scale * (values - values[0]), GREEN)
    if _mixes(series) == "force":
        axes.set_title("Conserved energy (forces are mixed: none is conserved)")
    axes.axhline(0.0, color=GREY, lw=0.6, zorder=0)
    return _finished(axes, series)


def work(axes: Axes, series: RunSeries) -> Axes:
    """The work that updates of lambda did on the atoms so far, eV."""
    drawn = draw_line(axes, series.time, series.column("work"), ORANGE)
    axes.axhline(0.0, color=GREY, lw=0.6, zorder=0)
    axes.set(title="Lambda work", ylabel="eV")
    return _finished(axes, series, "" if drawn else "not measured")


def sizes(axes: Axes, series: RunSeries) -> Axes:
    """How many atoms were seeds, core, blend, buffer and halo."""
    one = series.of_region()
    found = [
        (one.column(name), colour, name)
        for name, colour in (
            *(("seeds", BLACK), ("core", RED), ("blend", PURPLE)),
            *(("buffer", TEAL), ("halo", GREY)),
        )
    ]
    found = [one for one in found if np.nanmax(one[0], initial=0.0) > 0.0]
    for values, colour, label in found:
        draw_line(axes, one.time, values, colour, label)
    axes.set(title="Atoms in the regions", ylabel="atoms")
    if found:
        medians = [float(np.nanmedian(values)) for values, _, _ in found]
        counts_from_one(axes, max(medians), min((m for m in medians if m > 0.0), default=0.0))
    return _finished(axes, series, "" if found else "no region", columns=5)


def mismatch(axes: Axes, series: RunSeries) -> Axes:
    """Under force mixing: how far the models' forces differ, in core and blend, eV/Å."""
    columns = [
        ("core_mismatch_rms", RED, "core, rms"),
        ("mismatch_rms", PURPLE, "blend, rms"),
        ("mismatch_max", TEAL, "blend, largest"),
    ]
    drawn = _columns(axes, series, columns)
    axes.set(title="|F expensive − F cheap|", ylabel="eV/Å")
    if drawn:
        from_zero(axes)
    return _finished(axes, series, "" if drawn else "no forces are mixed")


def net_force(axes: Axes, series: RunSeries) -> Axes:
    """Under force mixing: the sum of all forces before it was removed, eV/Å."""
    # under energy mixing it is rounding
    by_force = any(report.mismatch_max is not None for report in series.reports)
    drawn = by_force and _columns(axes, series, [("net_force", BLUE, "")])
    axes.set(title="|Net force|, before it is removed", ylabel="eV/Å")
    if drawn:
        from_zero(axes)
    return _finished(axes, series, "" if drawn else "no forces are mixed")


def gap(axes: Axes, series: RunSeries) -> Axes:
    """Under energy mixing: how far site energies differ in the blend, eV."""
    drawn = _columns(axes, series, [("gap_rms", PURPLE, "rms"), ("gap_max", TEAL, "largest")])
    axes.set(title="|e expensive − e cheap| in the blend", ylabel="eV")
    if drawn:
        from_zero(axes)
    return _finished(axes, series, "" if drawn else "no energies are mixed")


def pull(axes: Axes, series: RunSeries) -> Axes:
    """Under energy mixing: the largest force because lambda follows its seeds, eV/Å."""
    drawn = _columns(axes, series, [("pull_max", ORANGE, "")])
    axes.set(title="Largest grad-lambda force", ylabel="eV/Å")
    if drawn:
        from_zero(axes)
    return _finished(axes, series, "" if drawn else "lambda does not follow atoms")


def times(axes: Axes, series: RunSeries) -> Axes:
    """Where the time of each evaluation went, ms."""
    lowest, highest = np.inf, 0.0
    for name, colour, label in (
        ("ms_total", GREY, "total"),
        ("ms_cheap", BLUE, "cheap"),
        ("ms_expensive", ORANGE, "expensive"),
        ("ms_own", GREEN, "own"),
    ):
        values = series.column(name)
        values = np.where(values > 0.0, values, np.nan)  # no time at all was not measured
        if (there := values[np.isfinite(values)]).size:
            draw_line(axes, series.time, values, colour, f"{label} {np.median(there):.3g}")
            lowest = min(lowest, float(np.percentile(there, 1.0)))
            highest = max(highest, float(np.percentile(there, 99.5)))
    axes.set(title="Time per evaluation (medians)", ylabel="ms", yscale="log")
    if highest > 0.0:
        axes.set_ylim(0.7 * lowest, 1.5 * highest)
    return _finished(axes, series, "" if highest > 0.0 else "no times", columns=4)


def panels_for(series: Iterable[RunSeries]) -> list[Panel]:
    """The panels that some runs have anything to show in."""
    runs = list(series)

    def any_of(*names: str) -> bool:
        return any(
            bool(getattr(report, name)) for one in runs for report in one.reports for name in names
        )

    def printed(name: str) -> bool:
        return any(one.properties and name in one.properties.columns for one in runs)

    chosen: list[tuple[Panel, bool]] = [
        (temperature, printed("temperature") or any_of("kelvin_bulk", "kelvin_core")),
        (potential, printed("potential")),
        (conserved, printed("conserved")),
        (work, any_of("work")),
        (sizes, any_of("core", "blend", "seeds")),
        (mismatch, any_of("mismatch_max", "core_mismatch_max")),
        (net_force, any_of("net_force") and any_of("mismatch_max", "core_mismatch_max")),
        (gap, any_of("gap_max")),
        (pull, any_of("pull_max")),
        (times, True),
    ]
    return [panel for panel, there in chosen if there]


def _property(
    axes: Axes, series: RunSeries, name: str, colour: str, label: str, *, relative: bool = False
) -> bool:
    """Draw one of i-PI's properties; False if it printed none."""
    table = series.properties
    if table is None or name not in table.columns or not len(table.columns[name]):
        return False
    values = table.columns[name]
    shown = values - values[0] if relative else values
    return draw_line(axes, table.columns["time"], shown, colour, label)


def _columns(axes: Axes, series: RunSeries, columns: Iterable[tuple[str, str, str]]) -> bool:
    """Draw columns of the reports; whether any was measured."""
    one = series.of_region()
    drawn = [draw_line(axes, one.time, one.column(name), c, label) for name, c, label in columns]
    return any(drawn)


def _mixes(series: RunSeries) -> str:
    """What is mixed: "energy" or "force"; "" without a region."""
    config = series.config
    return "" if config is None or config.region is None else config.mixing.kind


def _first(values: Scalars) -> float:
    """The first value that is a number."""
    there = values[np.isfinite(values)]
    return float(there[0]) if len(there) else 0.0


def _finished(axes: Axes, series: RunSeries, nothing: str = "", *, columns: int = 3) -> Axes:
    """Label the time, mark restarts, and make room for the legend."""
    axes.set_xlabel("time (ps)" if series.timed else "evaluation")
    if not series.timed:
        whole_numbers(axes)
    mark_restarts(axes, series.restarts)
    axes.title.set_fontsize(10)
    if nothing:
        say(axes, nothing)
    else:
        legend(axes, columns)
    return axes
