"""Draws runs into one PNG: the panels of one run in two columns, several runs side by side."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mixserver.analysis.plots.atoms import VIEWS, draw_atoms
from mixserver.analysis.plots.panels import Panel, panels_for
from mixserver.analysis.plots.structure import draw_msd, draw_rdf
from mixserver.analysis.region_snapshots import newest_snapshot
from mixserver.analysis.run_series import RunSeries
from mixserver.core.errors import ConfigError

_WIDTH: Final = 5.6
"""Inches of a panel."""
_HEIGHT: Final = 2.75
_PICTURE: Final = 4.9
"""Inches of the row of atoms."""


def draw(runs: Sequence[RunSeries], output: Path, *, msd: bool = False, rdf: bool = False) -> Path:
    """Draw runs into a PNG, several of them side by side with common axes.

    Args:
        runs: one or more.
        output: the file.
        msd: also the mean square displacement of seeds and of all other atoms.
        rdf: also the radial distribution functions around core and bulk atoms.

    Raises:
        ConfigError: the file cannot be written; a trajectory that is wanted is not there.
    """
    panels = panels_for(runs)
    panels += [draw_msd] * msd + [draw_rdf] * rdf
    figure = _one(runs[0], panels) if len(runs) == 1 else side_by_side(runs, panels)
    try:
        figure.savefig(output, dpi=120, format="png")
    except OSError as error:
        raise ConfigError(f"{output} cannot be written: {error.strerror}") from error
    return output


def title(series: RunSeries) -> str:
    """The name of a run, and how many it joins."""
    joined = len(series.runs) - 1
    if not joined:
        return series.name
    first = series.runs[0].resolve().name
    return f"{series.name}, joined from {first} on ({joined + 1} runs)"


def panels_figure(series: RunSeries, panels: Sequence[Panel]) -> Figure:
    """Some panels of one run in two columns; a single one in the width of both."""
    columns = min(2, len(panels))
    rows = -(-len(panels) // columns)
    size = (2 * _WIDTH, rows * _HEIGHT + 0.1)
    figure = Figure(figsize=size, layout="constrained")
    places = list(figure.subplots(rows, columns, squeeze=False).flat)
    for axes, panel in zip(places, panels, strict=False):
        panel(axes, series)
    for axes in places[len(panels) :]:
        axes.set_axis_off()
    return figure


def atoms_figure(series: RunSeries) -> Figure:
    """The atoms of one run from two sides."""
    figure = Figure(figsize=(2 * _WIDTH, _PICTURE), layout="constrained")
    for axes, view in zip(figure.subplots(1, len(VIEWS)), VIEWS, strict=True):
        draw_atoms(axes, series, view)
    return figure


def _one(series: RunSeries, panels: list[Panel]) -> Figure:
    """One run: panels in two columns, atoms from two sides below them."""
    figure, grid, below = _grid(-(-len(panels) // 2), 2, newest_snapshot(series.runs) is not None)
    places = [axes for row in grid for axes in row]
    for axes, panel in zip(places, panels, strict=False):
        panel(axes, series)
    for axes in places[len(panels) :]:
        axes.set_axis_off()
    for axes, view in zip(below, VIEWS, strict=False):
        draw_atoms(axes, series, view)
    figure.suptitle(title(series))
    return figure


def side_by_side(runs: Sequence[RunSeries], panels: list[Panel]) -> Figure:
    """Several runs: one column each, one row for each panel, with the same y axis along a row.

    Where a run has nothing to show in a panel that others need, its place stays empty.
    """
    picture = any(newest_snapshot(series.runs) is not None for series in runs)
    figure, grid, below = _grid(len(panels), len(runs), picture)
    chosen = set(panels_for(runs))
    missing = [chosen - set(panels_for([series])) for series in runs]
    for row, panel in zip(grid, panels, strict=True):
        for axes, series, without in zip(row, runs, missing, strict=True):
            if panel in without:
                axes.set_axis_off()
            else:
                panel(axes, series)
        _same_y(row)
    for axes, series in zip(below, runs, strict=False):
        draw_atoms(axes, series, VIEWS[0])
    for axes, series in zip(grid[0], runs, strict=True):
        axes.set_title(f"{title(series)}\n{axes.get_title()}", fontsize=10)
    return figure


def _grid(rows: int, columns: int, picture: bool) -> tuple[Figure, list[list[Axes]], list[Axes]]:
    """A figure, its panels by row, and the panels of atoms below.

    Those have a layout of their own, so that their colour bars take no width from the others.
    """
    heights = [rows * _HEIGHT + 0.3, *([_PICTURE] * picture)]
    figure = Figure(figsize=(columns * _WIDTH, sum(heights)), layout="constrained")
    parts = figure.subfigures(len(heights), 1, squeeze=False, height_ratios=heights)[:, 0]
    grid = parts[0].subplots(rows, columns, squeeze=False)
    below = list(parts[1].subplots(1, columns, squeeze=False)[0]) if picture else []
    return figure, [list(row) for row in grid], below


def _same_y(row: Sequence[Axes]) -> None:
    """Give all panels of a row that show anything the y axis that fits them all."""
    filled = [axes for axes in row if axes.get_lines() and len(axes.get_yticks())]
    if not filled or len({axes.get_yscale() for axes in filled}) > 1:
        return
    limits = [axes.get_ylim() for axes in filled]
    for axes in filled:
        axes.set_ylim(min(low for low, _ in limits), max(high for _, high in limits))
