"""Figures of studies: series of estimates with error bars."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mixserver.analysis.plots.lines import BLACK, BLUE, GREEN, GREY, ORANGE, PURPLE, RED, TEAL
from mixserver.core.errors import ConfigError
from mixserver.studies.statistics import Estimate

COLOURS: Final = {
    "all-expensive": BLACK,
    "energy": BLUE,
    "force": GREEN,
    "all-cheap": ORANGE,
    "paper": PURPLE,
    "experiment": RED,
    "other": TEAL,
    "grid": GREY,
}
"""Of the kinds of arms, the same in all studies."""
MARKERS: Final = {
    "all-expensive": "o",
    "energy": "s",
    "force": "^",
    "all-cheap": "D",
    "paper": "x",
    "experiment": "*",
    "other": "v",
}
DPI: Final = 130


@contextlib.contextmanager
def figure(
    file: Path, panels: int = 1, *, width: float = 6.4, height: float = 4.2
) -> Iterator[list[Axes]]:
    """Axes side by side, written into a PNG at the end of this context.

    Args:
        file: the PNG.
        panels: how many.
        width: inches of a panel.
        height: inches.

    Raises:
        ConfigError: it cannot be written.
    """
    made = Figure(figsize=(width * panels, height), layout="constrained", dpi=DPI)
    found = [made.add_subplot(1, panels, at + 1) for at in range(panels)]
    for axes in found:
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(color=GREY, alpha=0.2, lw=0.6)
    yield found
    for axes in found:
        if axes.get_legend_handles_labels()[0]:
            axes.legend(frameon=False, fontsize=9)
    try:
        made.savefig(file, format="png")
    except OSError as error:
        raise ConfigError(f"{file} cannot be written: {error.strerror}") from error


def points(
    axes: Axes,
    x: Sequence[float],
    estimates: Sequence[Estimate],
    kind: str,
    label: str = "",
    *,
    shift: float = 0.0,
    line: bool = False,
) -> None:
    """Draw estimates with error bars of one standard error.

    Args:
        axes: where.
        x: of each.
        estimates: as many.
        kind: of `COLOURS`.
        label: in the legend.
        shift: added to x, so that the bars of several kinds do not cover each other.
        line: whether they are joined.
    """
    axes.errorbar(
        [at + shift for at in x],
        [one.value for one in estimates],
        yerr=[one.error for one in estimates],
        fmt=MARKERS.get(kind, "o") + ("-" if line else ""),
        color=COLOURS.get(kind, TEAL),
        label=label or None,
        ms=5.0,
        lw=1.0,
        capsize=3.0,
    )


def band(axes: Axes, estimate: Estimate, kind: str, label: str = "") -> None:
    """Draw an estimate as a horizontal line with a band of one standard error."""
    colour = COLOURS.get(kind, TEAL)
    axes.axhline(estimate.value, color=colour, lw=1.2, label=label or None)
    low, high = estimate.value - estimate.error, estimate.value + estimate.error
    axes.axhspan(low, high, color=colour, alpha=0.15, lw=0.0)
