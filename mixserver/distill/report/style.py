"""Style of the figures: colours, ticks, labels that do not overlap."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter, NullLocator
from matplotlib.transforms import Bbox

from mixserver.distill.results import Candidate

COLOURS: Final = (
    *("#3b6fb6", "#d9822b", "#3c8d5a", "#7a5195"),
    *("#b5403a", "#2a9d9d", "#8c6d31", "#c2528b"),
)
MARKERS: Final = ("o", "s", "^", "D", "v", "P", "X", "*")
GREY: Final = "#808080"
BLACK: Final = "#202020"
RED: Final = "#b5403a"
DPI: Final = 110
MOST: Final = len(COLOURS)
"""Candidates in one figure; tables list all."""
_LONGEST: Final = 30
"""Characters of a label."""
_NARROW: Final = 0.25
"""Decades below which a logarithmic axis would have too few ticks."""
_PLACES: Final = tuple(
    (far * x, far * y, ha, va)
    for far in (7.0, 15.0, 26.0)
    for x, y, ha, va in (
        (0.8, 0.8, "left", "bottom"),
        (1.0, 0.0, "left", "center"),
        (0.8, -0.8, "left", "top"),
        (-1.0, 0.0, "right", "center"),
        (0.0, 1.0, "center", "bottom"),
        (0.0, -1.0, "center", "top"),
        (-0.8, 0.8, "right", "bottom"),
        (-0.8, -0.8, "right", "top"),
    )
)
"""Positions of a label beside its point (offset in points), the best first."""
_COLUMNS: Final = 5
_INCHES: Final = 0.08
"""Width of a character in a legend."""
_HANDLE: Final = 0.6
"""Inches, width of a legend handle."""
_NEAR: Final = 8.0
"""Points, beyond which a line leads from the label to its point."""
_LEADER: Final = {"arrowstyle": "-", "color": GREY, "lw": 0.5, "shrinkA": 0.0, "shrinkB": 3.0}


class Drawn(NamedTuple):
    """A candidate and its style, the same in all figures."""

    candidate: Candidate
    colour: str
    marker: str
    name: str


class Named(NamedTuple):
    """A point and its label."""

    x: float
    y: float
    name: str
    colour: str = BLACK
    ringed: bool = False
    """Has a ring around it, so that the label stands farther off."""


def drawn(candidates: Sequence[Candidate]) -> list[Drawn]:
    """The first few candidates."""
    styles = zip(candidates, COLOURS, MARKERS, strict=False)
    return [Drawn(one, colour, marker, plain(one.label)) for one, colour, marker in styles]


def plain(text: str) -> str:
    """A label that matplotlib draws literally: no formulas, not hidden from legends."""
    text = " ".join(text.split())
    text = text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"
    return f" {text}".replace("$", r"\$") if text.startswith("_") else text.replace("$", r"\$")


def panels(count: int, width: float, height: float) -> tuple[Figure, list[Axes]]:
    """A figure with panels side by side; width and height in inches."""
    figure = Figure(figsize=(width, height), layout="constrained", dpi=DPI)
    found = [figure.add_subplot(1, count, at + 1) for at in range(count)]
    for axes in found:
        axes.spines[["top", "right"]].set_visible(False)
    return figure, found


def legend_above(figure: Figure, axes: Axes, handles: Sequence[Artist] = ()) -> None:
    """A legend above all panels, of the labels in `axes` or of labelled handles."""
    names = [str(handle.get_label()) for handle in handles]
    if not handles:
        handles, names = axes.get_legend_handles_labels()
    if handles:
        room = figure.get_figwidth() / (_INCHES * max(map(len, names)) + _HANDLE)
        figure.legend(
            handles,
            names,
            loc="outside upper center",
            ncols=max(1, min(int(room), _COLUMNS, len(names))),
            frameon=False,
            fontsize=9,
        )


def logarithmic(axes: Axes, *which: str) -> None:
    """Logarithmic axes "x", "y" of drawn data; those of few decades stay linear."""
    for one in which:
        axis: Axis = axes.xaxis if one == "x" else axes.yaxis
        low, high = axes.dataLim.intervalx if one == "x" else axes.dataLim.intervaly
        if not 0.0 < low < high < np.inf or np.log10(high / low) < _NARROW:
            continue
        axes.set(**{f"{one}scale": "log"})
        decades = float(np.log10(high / low))
        subs = [1.0] if decades > 2.5 else [1.0, 2.0, 5.0]
        if decades < 0.8:
            subs = [1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0]
        axis.set_major_locator(LogLocator(subs=subs))
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axis.set_minor_locator(NullLocator())
        axis.set_minor_formatter(NullFormatter())


def name_points(axes: Axes, points: Sequence[Named], *, fontsize: float = 8.0) -> None:
    """Write labels beside points, covering neither points nor each other.

    A label without room is left out; pass the important ones first.
    """
    figure = axes.figure
    if not isinstance(figure, Figure):
        raise TypeError(f"labels need axes of a Figure, got axes of {type(figure)}")
    figure.draw_without_rendering()  # fixes the layout, and so the positions of points
    inside = axes.get_window_extent()
    near = 5.0 * figure.dpi / 72.0
    taken = [
        Bbox([[x - near, y - near], [x + near, y + near]])
        for x, y in (axes.transData.transform((point.x, point.y)) for point in points)
    ]
    for own, point in enumerate(points):
        others = taken[:own] + taken[own + 1 :]
        away = 1.8 if point.ringed else 1.0
        for x, y, ha, va in _PLACES:
            text = axes.annotate(
                point.name,
                (point.x, point.y),
                textcoords="offset points",
                xytext=(away * x, away * y),
                ha=ha,
                va=va,
                fontsize=fontsize,
                color=point.colour,
                arrowprops=_LEADER if np.hypot(x, y) > _NEAR else None,
            )
            box = text.get_window_extent()
            fits = inside.x0 <= box.x0 and box.x1 <= inside.x1 + near
            fits = fits and inside.y0 <= box.y0 and box.y1 <= inside.y1
            if fits and not any(box.overlaps(other) for other in others):
                taken.append(box)
                break
            text.remove()
