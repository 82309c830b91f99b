"""Figures of trade-offs: ghost force and force error, cost and errors; and of wall times."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mixserver.distill.report.style import (
    BLACK,
    COLOURS,
    GREY,
    RED,
    Named,
    legend_above,
    logarithmic,
    name_points,
    panels,
    plain,
)
from mixserver.distill.report.values import elastic_error, finite, hot_kind, misfit
from mixserver.distill.results import Candidate, Result

_LEAST: Final = 1e-4
"""%, the smallest deviation on the logarithmic axis."""
_MOST_STEPS: Final = 12


class Priced(NamedTuple):
    """A candidate of a sweep with known cost and force error."""

    candidate: Candidate
    cost: float
    error: float
    """eV/Å, of forces."""
    dominated: bool = False
    """Dominated: another one is as cheap and as accurate, and better in one of the two."""


def priced(swept: Sequence[Candidate]) -> tuple[list[Priced], str | None]:
    """The candidates with known cost and force error, and the kind of structures of that error."""
    of = hot_kind([errors.of for one in swept for errors in one.errors])
    found = []
    for one in swept:
        cost, error = finite(one.microseconds), finite(one.forces(of) if of else None)
        if cost is not None and error is not None and cost > 0.0 and error > 0.0:
            found.append(Priced(one, cost, error))
    pairs = [(one.cost, one.error) for one in found]
    marked = [
        one._replace(
            dominated=any(
                cost <= one.cost and error <= one.error and (cost, error) != (one.cost, one.error)
                for cost, error in pairs
            )
        )
        for one in found
    ]
    return marked, of


def front(result: Result) -> Figure | None:
    """Ghost force against force error, by the weight of the partition rows."""
    points = [
        p
        for p in result.front
        if np.isfinite([p.forces, p.ghost]).all() and min(p.forces, p.ghost) > 0.0
    ]
    if len(points) < 2:
        return None
    points.sort(key=lambda p: p.weight)
    figure, (axes,) = panels(1, 7.2, 4.6)
    axes.plot([p.forces for p in points], [p.ghost for p in points], "o-", color=COLOURS[0], ms=5)
    for p in points:
        if p.chosen:
            _ring(axes, p.forces, p.ghost)
    logarithmic(axes, "y")
    axes.set(
        xlabel="force error of the validation set (eV/Å, rms)",
        ylabel="ghost force of the fitted regions (eV/Å, rms)",
    )
    axes.margins(0.1)
    points.sort(key=lambda p: not p.chosen)
    name_points(
        axes,
        [
            Named(p.forces, p.ghost, f"{p.weight:g}", RED if p.chosen else BLACK, p.chosen)
            for p in points
        ],
    )
    return figure


def sweep(result: Result) -> Figure | None:
    """Cost against errors, for all resolutions and cutoffs."""
    listed, of = priced(result.sweep)
    if not listed or of is None:
        return None
    listed.sort(key=lambda one: (one.candidate.label != result.recommended, one.dominated))
    figure, (left, right) = panels(2, 11.0, 5.0)
    _forces_panel(left, listed, result.recommended)
    left.set(ylabel=f"force error, {plain(of)} (eV/Å, rms)")
    _constants_panel(right, listed, result)
    right.set(ylabel="deviation from the expensive model (%)")
    for axes in (left, right):
        axes.margins(x=0.12, y=0.1)
        logarithmic(axes, "x", "y")
        axes.set(xlabel="cost (µs per atom)")
    legend_above(figure, right)
    for axes in (left, right):
        points = [
            Named(
                one.cost,
                one.error if axes is left else _off(one.candidate, result)[0] or np.nan,
                plain(one.candidate.label),
                GREY if one.dominated else BLACK,
                one.candidate.label == result.recommended,
            )
            for one in listed
        ]
        name_points(axes, [p for p in points if np.isfinite(p.y)], fontsize=7.0)
    return figure


def wall_time(result: Result) -> Figure | None:
    """Wall time of each step; if there are many, descriptor rows together."""
    steps = {name: s for name, s in result.seconds.items() if np.isfinite(s)}
    if len(steps) > _MOST_STEPS:
        rows = {name: s for name, s in steps.items() if name.startswith("rows ")}
        if len(rows) > 1:
            steps = {name: s for name, s in steps.items() if name not in rows}
            steps[f"rows ({len(rows)} descriptors)"] = sum(rows.values())
    if not steps:
        return None
    figure, (axes,) = panels(1, 7.2, 0.8 + 0.3 * len(steps))
    places = np.arange(len(steps))
    axes.barh(places, list(steps.values()), 0.62, color=COLOURS[0])
    for place, seconds in zip(places, steps.values(), strict=True):
        axes.annotate(
            *(f"{seconds:.1f}", (seconds, place)),
            textcoords="offset points",
            xytext=(4, 0),
            va="center",
            fontsize=8,
        )
    axes.set_yticks(places, [plain(name) for name in steps])
    axes.invert_yaxis()
    axes.margins(x=0.1)
    axes.set(xlabel="wall time (s)")
    return figure


def _forces_panel(axes: Axes, listed: Sequence[Priced], recommended: str) -> None:
    best = sorted((one.cost, one.error) for one in listed if not one.dominated)
    axes.plot(*np.transpose(best), color=COLOURS[0], lw=1.0, alpha=0.5)
    for one in listed:
        axes.plot(one.cost, one.error, "o", ms=6, color=GREY if one.dominated else COLOURS[0])
        if one.candidate.label == recommended:
            _ring(axes, one.cost, one.error)


def _constants_panel(axes: Axes, listed: Sequence[Priced], result: Result) -> None:
    """Two deviations of each candidate; dominated ones are grey as in the other panel."""
    for one in listed:
        colour = GREY if one.dominated else COLOURS[0]
        elastic, length = _off(one.candidate, result)
        if elastic is not None:
            axes.plot(one.cost, elastic, "o", ms=6, color=colour)
            if one.candidate.label == result.recommended:
                _ring(axes, one.cost, elastic)
        if length is not None:
            axes.plot(one.cost, length, "^", ms=6, mfc="none", color=colour)
    for marker, fill, name in (
        ("o", COLOURS[0], "largest of elastic constants"),
        ("^", "none", f"lattice constant (drawn at {_LEAST:g} % if less)"),
    ):
        axes.plot([], [], marker, mfc=fill, color=COLOURS[0], label=name)
    axes.plot([], [], "o", color=GREY, label="grey: another is cheaper and more accurate")
    axes.plot([], [], "o", ms=11, mfc="none", mec=RED, mew=2, label="recommended")


def _off(one: Candidate, result: Result) -> tuple[float | None, float | None]:
    """Deviations (%) of elastic constants and of lengths, large enough for a logarithmic axis."""
    elastic, length = elastic_error(one, result.bulk), misfit(one.bulk, result.bulk)
    return (
        None if elastic is None else max(elastic, _LEAST),
        None if length is None else max(abs(length), _LEAST),
    )


def _ring(axes: Axes, x: float, y: float) -> None:
    axes.plot(x, y, "o", ms=13, mfc="none", mec=RED, mew=2)
