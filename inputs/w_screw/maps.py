"""Maps of differential displacements around a dislocation."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from dipole import Finder
from matplotlib.axes import Axes

from mixserver.analysis.plots.lines import BLACK, ORANGE
from mixserver.studies.plot import figure

_REACH = 9.5
"""Å, of the map around the dislocation."""


def draw_maps(file: Path, finder: Finder, arms: Mapping[str, Mapping[str, Any]]) -> None:
    """Draw the easy core of each arm, side by side.

    Args:
        file: the PNG.
        finder: of the cell.
        arms: results of `core`, by the names of their arms.

    Raises:
        ConfigError: the file cannot be written.
    """
    with figure(file, len(arms), width=3.4, height=3.7) as panels:
        for axes, (name, found) in zip(panels, arms.items(), strict=True):
            draw_map(axes, finder, found["easy"])
            axes.set_title(name, fontsize=10)


def draw_map(axes: Axes, finder: Finder, found: Mapping[str, Any]) -> None:
    """Draw one core: an arrow from column to column, as long as their distance for b/3.

    Columns have three shades, for their heights along the line.
    """
    moved = np.array(found["displacements"]).mean(axis=1)
    centre = np.array(found["centres"][0])
    pairs, steps = finder.differences(moved, np.array(found["tilt"]))
    around = finder.places[pairs[:, 0]] - centre
    around -= finder.lengths * np.rint(around / finder.lengths)
    apart = finder.places[pairs[:, 1]] - finder.places[pairs[:, 0]]
    apart -= finder.lengths * np.rint(apart / finder.lengths)
    middle = around + apart / 2.0
    arrows = apart * (steps / (finder.b / 3.0))[:, None]
    near = (np.abs(middle) < _REACH).all(axis=1) & (np.abs(steps) > finder.b / 60.0)
    tails = middle - arrows / 2.0
    axes.quiver(
        *tails[near].T,
        *arrows[near].T,
        angles="xy",
        scale_units="xy",
        scale=1.0,
        color=BLACK,
        width=0.008,
    )
    places = finder.places - centre
    places -= finder.lengths * np.rint(places / finder.lengths)
    shown = (np.abs(places) < _REACH + 1.0).all(axis=1)
    shades = np.array(["0.15", "0.55", "0.92"])[finder.heights]
    axes.scatter(*places[shown].T, c=shades[shown], s=36.0, edgecolors=BLACK, linewidths=0.6)
    axes.plot(0.0, 0.0, "+", color=ORANGE, ms=11.0, mew=2.0)
    axes.set_aspect("equal")
    axes.set_xlim(-_REACH, _REACH)
    axes.set_ylim(-_REACH, _REACH)
    axes.set_xlabel("y (Å)")
    axes.grid(visible=False)
