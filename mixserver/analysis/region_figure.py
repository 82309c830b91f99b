"""Picture of a region: the atoms coloured by lambda, and the histogram of the criterion."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mixserver.analysis.criterion_values import CriterionValues
from mixserver.analysis.plots.atoms import VIEWS, draw_region
from mixserver.analysis.plots.lines import BLACK, BLUE, GREY, RED, say, whole_numbers
from mixserver.analysis.region_preview import RegionPreview
from mixserver.core.errors import ConfigError

_INSIDE: Final = "#f6e3de"


def draw_preview(seen: RegionPreview, output: Path, name: str) -> Path:
    """Draw a preview into a PNG; `name` is the structure's, for the title.

    Raises:
        ConfigError: it cannot be written.
    """
    with_criterion = seen.criterion is not None
    figure = Figure(figsize=(11.0, 8.3 if with_criterion else 4.9), layout="constrained")
    heights = [4.9, 3.4][: 1 + with_criterion]
    parts = figure.subfigures(len(heights), 1, squeeze=False, height_ratios=heights)[:, 0]
    for axes, view in zip(parts[0].subplots(1, 2), VIEWS, strict=True):
        draw_region(axes, seen.frame, seen.region, view, name)
    if seen.criterion is not None:
        draw_histogram(parts[1].subplots(), seen.criterion)
    return save(figure, output)


def save(figure: Figure, output: Path) -> Path:
    """Write a figure as PNG.

    Raises:
        ConfigError: it cannot be written.
    """
    try:
        figure.savefig(output, dpi=120, format="png")
    except OSError as error:
        raise ConfigError(f"{output} cannot be written: {error.strerror}") from error
    return output


def draw_histogram(axes: Axes, criterion: CriterionValues) -> Axes:
    """Draw the histogram of a criterion with its bounds, seeds in red; atoms on a log scale."""
    bins = criterion.histogram()
    axes.set_title("Values of the criterion at this structure, without time average", fontsize=10)
    axes.set(xlabel=criterion.seeds.compute, ylabel="atoms")
    if not bins:
        say(axes, "no atom has a value")
        return axes
    edges = np.array([bins[0].low, *(one.high for one in bins)])
    whole = all(one.whole for one in bins)
    # narrow bars of whole numbers, which a bound between two of them does not cut
    width, middle = np.diff(edges) * (0.35 if whole else 0.92), 0.5 * (edges[1:] + edges[:-1])
    seeds = np.array([one.seeds for one in bins])
    others = np.array([one.atoms for one in bins]) - seeds
    axes.bar(middle, seeds, width, color=RED, label=f"within the bounds: {seeds.sum()}")
    axes.bar(middle, others, width, seeds, color=BLUE, label=f"all others: {others.sum()}")
    bounds = criterion.bounds
    span = edges[-1] - edges[0]
    shown = {b for b in bounds.values() if edges[0] - span < b < edges[-1] + span}
    left = min([edges[0], *shown]) - 0.06 * span
    right = max([edges[-1], *shown]) + 0.06 * span
    low, high = bounds.get("low", left), bounds.get("high", right)
    axes.axvspan(max(low, left), min(high, right), color=_INSIDE, lw=0, zorder=0)
    for name, bound in bounds.items():
        if bound in shown:
            axes.axvline(bound, color=BLACK, lw=1.0, ls="--")
        far_right = bound > right
        axes.annotate(  # a bound that is far away stands at the edge
            f"{name} = {bound:g}{'' if bound in shown else ' (right)' if far_right else ' (left)'}",
            (min(max(bound, left), right), 0.78),
            xycoords=("data", "axes fraction"),
            xytext=(-4 if far_right else 4, 0),
            textcoords="offset points",
            ha="right" if far_right else "left",
            va="top",
            fontsize=8,
            bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.7, "pad": 1.0},
        )
    axes.set_yscale("symlog", linthresh=1.0)
    axes.set_xlim(left, right)
    if whole:
        whole_numbers(axes)
    axes.set_ylim(0.0, 8.0 * max(one.atoms for one in bins))
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.legend(frameon=False, fontsize=8, loc="upper right")
    axes.tick_params(colors=GREY, labelsize=8)
    return axes
