"""Lines of measured values over time: gaps stay gaps, long runs are drawn as running medians."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, MaxNLocator
from scipy.ndimage import median_filter

from mixserver.core.arrays import Scalars

BLUE, ORANGE, GREEN, GREY = "#3b6fb6", "#d9822b", "#3c8d5a", "#808080"
RED, PURPLE, TEAL, BLACK = "#b5403a", "#7a5195", "#2a9d9d", "#202020"
_MOST_POINTS: Final = 300
"""Longer series are drawn as running medians, with all values pale behind them."""
_GAP: Final = 3.5
"""Times the usual distance of two values: farther apart, no line joins them."""
_AROUND: Final = 9
"""Neighbouring distances of which the usual one is the median."""
_ROOM: Final = 1.28
"""Times the largest value, so that the legend has room."""


def draw_line(
    axes: Axes, x: Scalars, values: Scalars, colour: str, label: str = "", *, seldom: bool = False
) -> bool:
    """Draw values (n,) at x (n,) ascending; False if none was measured.

    NaN are values that were not measured. No line leads over them, nor over a part of x without
    records; a value alone between two gaps is a dot. Values that are measured `seldom`, now and
    then, are joined.
    """
    there = np.isfinite(values)
    if not there.any():
        return False
    x, values = (x[there], values[there]) if seldom else with_gaps(x, values)
    name = label or "_"
    width = len(values) // _MOST_POINTS
    if width > 1:
        axes.plot(x, values, color=colour, lw=0.3, alpha=0.3)
        x, values = block_medians(x, values, width)
    axes.plot(x, values, color=colour, lw=1.1, label=name)
    there = np.isfinite(values)
    before, after = np.append(False, there[:-1]), np.append(there[1:], False)
    alone = there & ~before & ~after
    if alone.any():
        axes.plot(x[alone], values[alone], ".", ms=3.5, color=colour)
    return True


def with_gaps(x: Scalars, values: Scalars) -> tuple[Scalars, Scalars]:
    """The same with a NaN wherever x leaps farther than it usually does around there.

    Around there, since a continued run may record more seldom than the one before.
    """
    steps = np.diff(x)
    positive = steps[steps > 0.0]
    if not len(positive):
        return x, values
    around = median_filter(steps, _AROUND, mode="nearest")
    usual = np.where(around > 0.0, around, np.median(positive))
    leaps = np.flatnonzero(steps > _GAP * usual) + 1
    return (
        np.insert(x, leaps, 0.5 * (x[leaps - 1] + x[leaps])),
        np.insert(values, leaps, np.nan),
    )


def block_medians(x: Scalars, values: Scalars, width: int) -> tuple[Scalars, Scalars]:
    """Means of x and medians of the values in blocks; NaN where nothing in it was measured."""
    starts = range(0, len(values), width)
    middle = [float(x[at : at + width].mean()) for at in starts]
    median = []
    for at in starts:
        block = values[at : at + width]
        there = block[np.isfinite(block)]
        median.append(float(np.median(there)) if len(there) else np.nan)
    return np.array(middle), np.array(median)


def mark_restarts(axes: Axes, places: Sequence[float]) -> None:
    """Mark where another run continues."""
    for place in places:
        axes.axvline(place, color=GREY, lw=0.8, ls=":", zorder=0)


def legend(axes: Axes, columns: int = 3) -> None:
    """A legend above the lines, with room made for it; none for a single unnamed line."""
    named = [line for line in axes.get_lines() if not str(line.get_label()).startswith("_")]
    if not named:
        return
    rows = -(-len(named) // columns)
    low, high = axes.get_ylim()
    room = 1.0 + (_ROOM - 1.0) * (0.5 + 0.5 * rows)
    if axes.get_yscale() == "linear":
        axes.set_ylim(low, low + room * (high - low))
    elif low > 0.0:
        axes.set_ylim(low, high * (high / low) ** (room - 1.0))
    else:
        axes.set_ylim(low, high * max(high, 10.0) ** (room - 1.0))
    axes.legend(
        frameon=False,
        fontsize=8,
        ncols=columns,
        loc="upper center",
        columnspacing=1.0,
        handlelength=1.3,
    )


def from_zero(axes: Axes) -> None:
    """Start the y axis at zero."""
    high = axes.get_ylim()[1]
    axes.set_ylim(0.0, high if high > 0.0 else 1.0)


def counts_from_one(axes: Axes, largest: float, smallest: float) -> None:
    """An axis of numbers of atoms: logarithmic above 1 if they differ much, with its zero."""
    if smallest > 0.0 and largest / smallest > 12.0:
        axes.set_yscale("symlog", linthresh=1.0)
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.set_ylim(bottom=0.0)


def whole_numbers(axes: Axes) -> None:
    """Ticks along x at whole numbers: there are no halves of evaluations."""
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))


def say(axes: Axes, why: str) -> None:
    """Say in an empty panel why it is empty."""
    axes.set_yticks([])
    axes.text(0.5, 0.5, why, transform=axes.transAxes, ha="center", va="center", color=GREY)
