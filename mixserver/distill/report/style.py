"""How pictures of a report look: colours, ticks, names that do not cover each other."""

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
"""Candidates in one picture; tables have all."""
_LONGEST: Final = 30
"""Characters of a name in a picture."""
_NARROW: Final = 0.25
"""Decades below which a logarithmic axis has too few ticks to be read."""
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
"""Where a name may stand beside its point (offset in points), the best first: above falling
lines."""
_COLUMNS: Final = 5
_INCHES: Final = 0.08
"""Of a character in a legend."""
_HANDLE: Final = 0.6
"""Inches, of what stands before a name."""
_NEAR: Final = 8.0
"""Points, beyond which a line leads from the name to its point."""
_LEADER: Final = {"arrowstyle": "-", "color": GREY, "lw": 0.5, "shrinkA": 0.0, "shrinkB": 3.0}


class Drawn(NamedTuple):
    """A candidate and how it is drawn, the same in all pictures."""

    candidate: Candidate
    colour: str
    marker: str
    name: str


class Named(NamedTuple):
    """A point and its name."""

    x: float
    y: float
    name: str
    colour: str = BLACK
    ringed: bool = False
    """A ring is drawn around it, and the name stands farther off."""


def drawn(candidates: Sequence[Candidate]) -> list[Drawn]:
    """The first few candidates."""
    styles = zip(candidates, COLOURS, MARKERS, strict=False)
    return [Drawn(one, colour, marker, plain(one.label)) for one, colour, marker in styles]


def plain(text: str) -> str:
    """A name that matplotlib takes as it is: no formulas, nothing hidden from legends."""
    text = " ".join(text.split())
    text = text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"
    return f" {text}".replace("$", r"\$") if text.startswith("_") else text.replace("$", r"\$")


def panels(count: int, width: float, height: float) -> tuple[Figure, list[Axes]]:
    """A figure of so many panels side by side, inches."""
    figure = Figure(figsize=(width, height), layout="constrained", dpi=DPI)
    found = [figure.add_subplot(1, count, at + 1) for at in range(count)]
    for axes in found:
        axes.spines[["top", "right"]].set_visible(False)
    return figure, found


def legend_above(figure: Figure, axes: Axes, handles: Sequence[Artist] = ()) -> None:
    """Names above all panels, where they cover nothing.

    Args:
        figure: whose.
        axes: whose names are told.
        handles: these instead, with labels.
    """
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
    """Axes on which factors are lengths, with ticks that can be read; few decades stay linear.

    Args:
        axes: with everything drawn.
        which: "x", "y".
    """
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
    """Write names beside points so that they cover neither points nor each other.

    A name without room is left out; give the important ones first.
    """
    figure = axes.figure
    if not isinstance(figure, Figure):
        raise TypeError(f"names are placed in a figure's own axes, not those of {type(figure)}")
    figure.draw_without_rendering()  # settles the layout, and so where points are
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
