"""The pictures of a report, from values alone. What is missing is left out, and never an error."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mixserver.arrays import Scalars
from mixserver.crystal.portrait import Portrait
from mixserver.distill.results import Candidate, Parity, Result

_COLOURS: Final = (
    "#3b6fb6",
    "#d9822b",
    "#3c8d5a",
    "#7a5195",
    "#b5403a",
    "#2a9d9d",
    "#8c6d31",
    "#c2528b",
)
_GREY: Final = "#808080"
_BLACK: Final = "#202020"
_DPI: Final = 110


def figures(result: Result) -> dict[str, Figure]:
    """All pictures there is something for, by their names."""
    makers: dict[str, Callable[[Result], Figure | None]] = {
        "parity": parity,
        "errors": errors,
        "curve": curve,
        "phonons": phonons,
        "front": front,
        "sweep": sweep,
    }
    made = {name: make(result) for name, make in makers.items()}
    return {name: figure for name, figure in made.items() if figure is not None}


def parity(result: Result) -> Figure | None:
    """Expensive against cheap: energies, forces, virials of the test set."""
    if not result.parity:
        return None
    figure = Figure(figsize=(11.0, 3.9), layout="constrained", dpi=_DPI)
    panels: Sequence[Axes] = figure.subplots(1, 3)
    listed = sorted(result.parity, key=lambda one: _by_temperature(one.of))
    for axes, what, unit in zip(
        panels, ("energy", "forces", "virial"), ("eV/atom", "eV/Å", "eV/atom"), strict=True
    ):
        low, high = np.inf, -np.inf
        for at, one in enumerate(listed):
            x, y = (np.array(values) for values in _pair(one, what))
            if not len(x):
                continue
            size = 3.5 if len(x) > 100 else 7.0
            axes.plot(x, y, ".", ms=size, color=_COLOURS[at % 8], alpha=0.6, mew=0, label=one.of)
            low, high = min(low, x.min(), y.min()), max(high, x.max(), y.max())
        if np.isfinite(low):
            room = 0.04 * (high - low or 1.0)
            axes.plot([low - room, high + room], [low - room, high + room], color=_GREY, lw=0.8)
            axes.set(xlim=(low - room, high + room), ylim=(low - room, high + room))
        axes.set(title=f"{what} ({unit})", xlabel="expensive", ylabel="cheap")
        axes.set_aspect("equal")
        axes.ticklabel_format(useOffset=False)
    panels[0].legend(frameon=False, fontsize=8, markerscale=2)
    return figure


def errors(result: Result) -> Figure | None:
    """Force errors of all candidates, by kind of structure."""
    kinds = sorted({e.of for c in result.candidates for e in c.errors}, key=_by_temperature)
    if not kinds:
        return None
    figure = Figure(figsize=(9.0, 3.8), layout="constrained", dpi=_DPI)
    axes = figure.subplots()
    wide = 0.8 / max(1, len(result.candidates))
    for at, candidate in enumerate(result.candidates):
        values = [candidate.forces(of) for of in kinds]
        heights = [np.nan if value is None else value for value in values]
        places = np.arange(len(kinds)) + (at - 0.5 * (len(result.candidates) - 1)) * wide
        axes.bar(places, heights, 0.92 * wide, color=_COLOURS[at % 8], label=candidate.label)
    axes.set_xticks(np.arange(len(kinds)), kinds)
    axes.set(ylabel="force error (eV/Å, rms)", title="Structures that were not fitted")
    axes.legend(frameon=False, fontsize=8, ncols=2)
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def curve(result: Result) -> Figure | None:
    """Energy against volume, each from its own minimum."""
    figure = Figure(figsize=(6.4, 4.2), layout="constrained", dpi=_DPI)
    axes = figure.subplots()
    drawn = 0
    for at, candidate in enumerate(result.candidates):
        if candidate.portrait is not None:
            volume, energy = _curve(candidate.portrait)
            axes.plot(volume, 1e3 * energy, color=_COLOURS[at % 8], lw=1.6, label=candidate.label)
            drawn += 1
    volume, energy = _curve(result.portrait)
    axes.plot(volume, 1e3 * energy, "o", color=_BLACK, ms=4, mfc="none", label="expensive")
    if not len(volume) and not drawn:
        return None
    axes.set(
        xlabel="volume (Å³ per atom)",
        ylabel="energy above the minimum (meV per atom)",
        title="Energy and volume",
    )
    axes.legend(frameon=False, fontsize=8)
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def phonons(result: Result) -> Figure | None:
    """Frequencies at special points: the expensive model's as lines, the candidates' as dots."""
    points = list(result.portrait.phonons)
    if not points:
        return None
    figure = Figure(figsize=(8.0, 4.6), layout="constrained", dpi=_DPI)
    axes = figure.subplots()
    for at, point in enumerate(points):
        for number, frequency in enumerate(result.portrait.phonons[point]):
            label = "expensive" if at == 0 and number == 0 else None
            axes.plot([at - 0.4, at + 0.4], [frequency] * 2, color=_BLACK, lw=1.2, label=label)
    shown = [c for c in result.candidates if c.portrait is not None]
    for number, candidate in enumerate(shown):
        seen = candidate.portrait
        place = (number - 0.5 * (len(shown) - 1)) * 0.7 / max(1, len(shown))
        for at, point in enumerate(points):
            values = seen.phonons.get(point, []) if seen is not None else []
            axes.plot(
                [at + place] * len(values),
                values,
                "o",
                ms=4,
                color=_COLOURS[result.candidates.index(candidate) % 8],
                label=candidate.label if at == 0 else None,
            )
    axes.axhline(0.0, color=_GREY, lw=0.6)
    axes.set_xticks(np.arange(len(points)), ["Γ" if p == "G" else p for p in points])
    axes.set(ylabel="frequency (THz)", title="Phonons at special points (below 0: imaginary)")
    axes.legend(frameon=False, fontsize=8, ncols=2, loc="lower right")
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def front(result: Result) -> Figure | None:
    """Ghost force against force error, by the weight of the partition rows."""
    points = [p for p in result.front if p.ghost > 0.0 and p.forces > 0.0]
    if len(points) < 2:
        return None
    figure = Figure(figsize=(6.4, 4.2), layout="constrained", dpi=_DPI)
    axes = figure.subplots()
    axes.plot([p.forces for p in points], [p.ghost for p in points], "o-", color=_COLOURS[0])
    for p in points:
        axes.annotate(
            f"{p.weight:g}",
            (p.forces, p.ghost),
            textcoords="offset points",
            xytext=(7, 5),
            fontsize=8,
        )
        if p.chosen:
            axes.plot(p.forces, p.ghost, "o", ms=13, mfc="none", mec=_COLOURS[4], mew=2)
    axes.set(
        yscale="log",
        xlabel="force error (eV/Å, validation)",
        ylabel="ghost force (eV/Å, rms)",
        title="By the weight of ghost forces; the chosen one is ringed",
    )
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def sweep(result: Result) -> Figure | None:
    """Cost against error, for all resolutions and cutoffs."""
    kinds = sorted(
        {e.of for c in result.sweep for e in c.errors if e.of.startswith("hot")},
        key=_by_temperature,
    )
    timed = [c for c in result.sweep if c.microseconds is not None]
    if not timed or not kinds:
        return None
    of = kinds[len(kinds) // 2]
    figure = Figure(figsize=(11.0, 4.4), layout="constrained", dpi=_DPI)
    left, right = figure.subplots(1, 2)
    _cost_panel(left, timed, lambda c: c.forces(of), result.recommended)
    left.set(ylabel=f"force error, {of} (eV/Å)", title="Cost against force error")
    _cost_panel(right, timed, lambda c: elastic_error(c, result.portrait), result.recommended)
    right.set(ylabel="largest error of C (%)", title="Cost against elastic constants")
    return figure


def _cost_panel(
    axes: Axes,
    listed: Sequence[Candidate],
    error: Callable[[Candidate], float | None],
    recommended: str,
) -> None:
    points = [
        (c.microseconds, value, c)
        for c in listed
        if c.microseconds is not None and (value := error(c)) is not None and value > 0.0
    ]
    for cost, value, candidate in points:
        beaten = any(x <= cost and y <= value and (x, y) != (cost, value) for x, y, _ in points)
        axes.plot(cost, value, "o", color=_GREY if beaten else _COLOURS[0], ms=6)
        if candidate.label == recommended:
            axes.plot(cost, value, "o", ms=14, mfc="none", mec=_COLOURS[4], mew=2)
        axes.annotate(
            candidate.label,
            (cost, value),
            textcoords="offset points",
            xytext=(7, 3),
            fontsize=7,
            color=_GREY if beaten else _BLACK,
        )
    axes.set(xscale="log", yscale="log", xlabel="cost (µs per atom)")
    axes.margins(x=0.18, y=0.1)
    axes.spines[["top", "right"]].set_visible(False)


def elastic_error(candidate: Candidate, expensive: Portrait) -> float | None:
    """%, the largest deviation of an elastic constant, by the largest constant."""
    if candidate.portrait is None:
        return None
    ours, theirs = np.array(candidate.portrait.elastic), np.array(expensive.elastic)
    if candidate.portrait.cubic is not None and expensive.cubic is not None:
        a, b = np.array(candidate.portrait.cubic), np.array(expensive.cubic)
        return float(100.0 * np.max(np.abs(a / b - 1.0)))
    return float(100.0 * np.abs(ours - theirs).max() / np.abs(theirs).max())


def _curve(seen: Portrait) -> tuple[Scalars, Scalars]:
    volume, energy = (np.array(values) for values in seen.curve)
    return volume, energy - energy.min(initial=np.inf)


def _pair(one: Parity, what: str) -> tuple[list[float], list[float]]:
    pairs = {"energy": one.energy, "forces": one.forces, "virial": one.virial}
    return pairs[what]


def _by_temperature(of: str) -> tuple[str, float]:
    """Kinds in order, and each by its temperature."""
    words = of.split()
    try:
        return words[0], float(words[1])
    except (IndexError, ValueError):
        return of, 0.0
