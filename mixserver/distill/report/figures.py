"""Figures of candidates, from values alone. Missing values are left out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from mixserver.analysis.bulk.properties import BulkProperties
from mixserver.core.arrays import Scalars
from mixserver.distill.report.fronts import front, sweep, wall_time
from mixserver.distill.report.style import (
    BLACK,
    COLOURS,
    GREY,
    MARKERS,
    Drawn,
    drawn,
    legend_above,
    logarithmic,
    panels,
    plain,
)
from mixserver.distill.report.values import by_temperature
from mixserver.distill.results import Errors, Parity, Result

_UNITS: Final = {"energy": "eV per atom", "forces": "eV/Å", "virial": "eV per atom"}
_MANY: Final = 100
"""Number of points above which markers are small."""


def figures(result: Result) -> dict[str, Figure]:
    """All figures that have data, by name, in the order of the page."""
    makers: dict[str, Callable[[Result], Figure | None]] = {
        "training": training,
        "parity": parity,
        "errors": errors,
        "curve": curve,
        "phonons": phonons,
        "front": front,
        "sweep": sweep,
        "time": wall_time,
    }
    made = {name: make(result) for name, make in makers.items()}
    return {name: figure for name, figure in made.items() if figure is not None}


def training(result: Result) -> Figure | None:
    """Errors of both experts and their differences over the epochs of a co-training."""
    if not result.trained:
        return None
    figure, found = panels(2, 11.0, 4.3)
    epochs = [one.epoch for one in result.trained]
    second = next((one.epoch for one in result.trained if one.stage > 1), None)
    series: tuple[tuple[Axes, str, str, list[float | None]], ...] = (
        (found[0], "large expert, forces", COLOURS[0], [one.large for one in result.trained]),
        (found[0], "small expert, forces", COLOURS[1], [one.small for one in result.trained]),
        (found[1], "site energies, eV", COLOURS[2], [one.energies for one in result.trained]),
        (found[1], "forces, eV/Å", COLOURS[3], [one.forces for one in result.trained]),
    )
    for axes, name, colour, values in series:
        numbers = np.array([np.nan if value is None else value for value in values])
        if np.isfinite(numbers).any():
            axes.plot(epochs, numbers, color=colour, lw=1.4, label=name)
    for axes, title in zip(found, ("errors of held-out labels, eV/Å", "differences"), strict=True):
        if second is not None:
            axes.axvline(second, color=GREY, lw=0.8, ls=":", label="stage two")
        logarithmic(axes, "y")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set(title=title, xlabel="epoch")
        axes.legend(frameon=False, fontsize=9)
    found[0].set_ylabel("root mean square")
    return figure


def parity(result: Result) -> Figure | None:
    """Expensive against cheap: energies, forces, virials of the test set."""
    listed = sorted(result.parity, key=lambda one: by_temperature(one.of))
    if not any(len(_pair(one, what)[0]) for one in listed for what in _UNITS):
        return None
    figure, found = panels(3, 11.0, 4.3)
    styles = _by_kind([one.of for one in listed])
    for axes, (what, unit) in zip(found, _UNITS.items(), strict=True):
        _parity_panel(axes, [(one.of, *_pair(one, what)) for one in listed], styles)
        axes.set(title=f"{what}, {unit}", xlabel="expensive model")
    found[0].set_ylabel("cheap potential")
    handles = [
        Line2D([], [], ls="", marker=marker, color=colour, label=plain(of))
        for of, (colour, marker) in styles.items()
    ]
    legend_above(figure, found[0], handles)
    return figure


def _parity_panel(
    axes: Axes,
    series: Sequence[tuple[str, Scalars, Scalars]],
    styles: dict[str, tuple[str, str]],
) -> None:
    series = [(of, x, y) for of, x, y in series if len(x)]
    if not series:
        axes.text(0.5, 0.5, "none", transform=axes.transAxes, ha="center", color=GREY)
        axes.set(xticks=[], yticks=[])
        return
    both = np.concatenate([np.concatenate([x, y]) for _, x, y in series])
    low, high = both.min(), both.max()
    room = 0.05 * (high - low or 1.0)
    ends = (low - room, high + room)
    axes.plot(ends, ends, color=GREY, lw=0.8, zorder=0)
    for of, x, y in reversed(series):  # cold ones last: they lie within the hot ones
        colour, marker = styles[of]
        size, alpha = (2.5, 0.5) if len(x) > _MANY else (6.0, 0.85)
        axes.plot(x, y, marker, ms=size, color=colour, alpha=alpha, mew=0)
    apart = np.concatenate([y - x for _, x, y in series])
    axes.text(
        *(0.04, 0.96, f"rms {np.sqrt(np.mean(apart**2)):.3g}"),
        transform=axes.transAxes,
        va="top",
    )
    axes.set(xlim=ends, ylim=ends, aspect="equal")
    axes.ticklabel_format(useOffset=False)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(MaxNLocator(4))


def errors(result: Result) -> Figure | None:
    """Errors of all candidates by kind of structure and temperature."""
    shown = [one for one in drawn(result.candidates) if one.candidate.errors]
    kinds = sorted({e.of for one in shown for e in one.candidate.errors}, key=by_temperature)
    if not kinds:
        return None
    figure, found = panels(3, 11.0, 4.3)
    measures: tuple[tuple[str, Callable[[Errors], float]], ...] = (
        ("energy, meV per atom", lambda e: 1e3 * e.energy),
        ("forces, eV/Å", lambda e: e.forces),
        ("virial, meV per atom", lambda e: 1e3 * e.virial),
    )
    for axes, (title, measure) in zip(found, measures, strict=True):
        for one in shown:
            _error_lines(axes, one, kinds, measure)
        logarithmic(axes, "y")
        axes.set_xticks(range(len(kinds)), [_in_two_lines(of) for of in kinds], fontsize=8)
        axes.set(title=title, xlim=(-0.5, len(kinds) - 0.5))
        axes.grid(axis="y", color=GREY, lw=0.4, alpha=0.4)
    found[0].set_ylabel("root mean square error")
    legend_above(figure, found[0])
    return figure


def _error_lines(
    axes: Axes, one: Drawn, kinds: Sequence[str], measure: Callable[[Errors], float]
) -> None:
    """Points of one candidate; lines join temperatures of the same kind only."""
    by_kind = {e.of: measure(e) for e in one.candidate.errors}
    values = np.array([by_kind.get(of, np.nan) for of in kinds])
    values[~(values > 0.0)] = np.nan
    label: str | None = one.name
    for family in dict.fromkeys(by_temperature(of)[0] for of in kinds):
        at = [n for n, of in enumerate(kinds) if by_temperature(of)[0] == family]
        style = {"color": one.colour, "marker": one.marker, "ms": 5.0, "lw": 1.2}
        axes.plot(at, values[at], label=label, **style)  # type: ignore[arg-type]
        label = None


def curve(result: Result) -> Figure | None:
    """Energy against volume, each from its own minimum."""
    shown = [one for one in drawn(result.candidates) if one.candidate.bulk is not None]
    curves = [(one, _curve(one.candidate.bulk)) for one in shown]
    curves = [(one, found) for one, found in curves if len(found[0])]
    volume, energy = _curve(result.bulk)
    if not len(volume) and not curves:
        return None
    figure, (axes,) = panels(1, 7.2, 4.6)
    for at, (one, (ours, theirs)) in enumerate(curves):
        ls = ("-", "--", "-.", ":")[at % 4]  # curves that agree are still all seen
        axes.plot(ours, 1e3 * theirs, ls=ls, color=one.colour, lw=1.6, label=one.name)
    axes.plot(volume, 1e3 * energy, "o", color=BLACK, ms=5, mfc="none", label="expensive model")
    axes.set(xlabel="volume (Å³ per atom)", ylabel="energy above its minimum (meV per atom)")
    axes.legend(frameon=False, fontsize=9)
    return figure


def phonons(result: Result) -> Figure | None:
    """Frequencies at special points: from the expensive model's to each candidate's."""
    points = [name for name, values in result.bulk.phonons.items() if values]
    if not points:
        return None
    shown = [
        (one, one.candidate.bulk.phonons)
        for one in drawn(result.candidates)
        if one.candidate.bulk is not None and one.candidate.bulk.phonons
    ]
    figure, (axes,) = panels(1, 10.0, 5.0)
    places = (np.arange(len(shown)) - 0.5 * (len(shown) - 1)) * 0.72 / max(1, len(shown))
    axes.plot([], [], color=BLACK, lw=1.1, label="expensive model")
    for at, point in enumerate(points):
        theirs = np.array(result.bulk.phonons[point])
        axes.hlines(theirs, at - 0.44, at + 0.44, color=BLACK, lw=1.1)
        for place, (one, found) in zip(at + places, shown, strict=True):
            ours = np.array(found.get(point, []))
            count = min(len(ours), len(theirs))  # both ascend, so branches meet by their rank
            axes.vlines(
                [place] * count, theirs[:count], ours[:count], color=one.colour, lw=2.0, alpha=0.55
            )
            axes.plot([place] * len(ours), ours, one.marker, ms=4.5, color=one.colour)
    for one, _ in shown:
        axes.plot([], [], ls="", marker=one.marker, color=one.colour, label=one.name)
    axes.axhline(0.0, color=GREY, lw=0.6, zorder=0)
    axes.set_xticks(range(len(points)), ["Γ" if name == "G" else plain(name) for name in points])
    axes.set(ylabel="frequency (THz); below 0: imaginary", xlim=(-0.6, len(points) - 0.4))
    legend_above(figure, axes)
    return figure


def _by_kind(listed: Sequence[str]) -> dict[str, tuple[str, str]]:
    """Colour by temperature, marker by kind."""
    temperatures = sorted({by_temperature(of)[1] for of in listed} - {-1.0})
    dark_to_bright = colormaps["plasma"](np.linspace(0.05, 0.78, max(1, len(temperatures))))
    families = list(dict.fromkeys(by_temperature(of)[0] for of in listed))
    styles = {}
    for of in listed:
        family, kelvin = by_temperature(of)
        colour = GREY
        if len(temperatures) == 1 and kelvin in temperatures:
            colour = COLOURS[0]  # the first of the scale is nearly black
        elif kelvin in temperatures:
            colour = to_hex(dark_to_bright[temperatures.index(kelvin)])
        styles[of] = (colour, MARKERS[families.index(family) % len(MARKERS)])
    return styles


def _in_two_lines(of: str) -> str:
    family, kelvin = by_temperature(of)
    return plain(of) if kelvin < 0.0 else f"{plain(family)}\n{kelvin:g} K"


def _curve(seen: BulkProperties | None) -> tuple[Scalars, Scalars]:
    """Volumes (Å³) and energies (eV) per atom, relative to the lowest."""
    curve = ([], []) if seen is None else seen.curve
    volume, energy = (np.array(values, dtype=np.float64) for values in curve)
    known = np.isfinite(volume) & np.isfinite(energy)
    volume, energy = volume[known], energy[known]
    return volume, energy - energy.min(initial=np.inf) if len(energy) else energy


def _pair(one: Parity, what: str) -> tuple[Scalars, Scalars]:
    """Expensive and cheap values, where both are known."""
    x, y = (np.array(values, dtype=np.float64) for values in getattr(one, what))
    known = np.isfinite(x) & np.isfinite(y)
    return x[known], y[known]
