"""Plot of ghost forces against the distance from the region."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mixserver.core.arrays import Scalars
from mixserver.core.errors import ConfigError

_COLOURS = ("#b5403a", "#3b6fb6", "#2a9d9d")
_CORE, _BLEND = "#f6e3de", "#e4dcee"
_BINS = 40
_ROOM = 1.2
"""Times the largest value, so that the legend has room."""


class Points(NamedTuple):
    """Distances and ghost forces of atoms."""

    distance: Scalars
    """(n,) Å from where the region begins."""
    size: Scalars
    """(n,) eV/Å, their ghost force."""


def draw_ghost_forces(
    output: Path, series: Mapping[str, Points], *, core: float, blend: float, source: str
) -> Path:
    """Draw the ghost force of each atom against its distance, with core and blend (Å) marked.

    Series have their labels in the legend as keys; distances are from `source`, e.g. "seed".

    Raises:
        ConfigError: it cannot be written.
    """
    figure = Figure(figsize=(7.5, 4.8), layout="constrained")
    along_radius(figure.subplots(), series, core=core, blend=blend, source=source)
    try:
        figure.savefig(output, dpi=130, format="png")
    except OSError as error:
        raise ConfigError(f"{output} cannot be written: {error.strerror}") from error
    return output


def along_radius(
    axes: Axes, series: Mapping[str, Points], *, core: float, blend: float, source: str
) -> Axes:
    """Draw on given axes; lines are root mean squares."""
    farthest = max((p.distance.max(initial=0.0) for p in series.values()), default=0.0)
    edges = np.linspace(0.0, max(farthest, blend, 1e-3), _BINS + 1)
    for name, low, high, colour in (("core", 0.0, core, _CORE), ("blend", core, blend, _BLEND)):
        if high > low:
            axes.axvspan(low, high, color=colour, lw=0)
            axes.text(
                *(0.5 * (low + high), 0.02), name, transform=axes.get_xaxis_transform(), ha="center"
            )
    top = 0.0
    for colour, (label, points) in zip(_COLOURS, series.items(), strict=False):
        axes.plot(points.distance, points.size, ".", ms=5, color=colour, alpha=0.4, mew=0)
        axes.plot(*_rms(points, edges), color=colour, lw=1.3, label=label)
        top = max(top, points.size.max(initial=0.0))
    axes.set(
        title="Ghost forces: each atom, and their root mean square",
        xlabel=f"distance to the nearest {source} (Å)",
        ylabel="|F energy mixing - F force mixing| (eV/Å)",
        xlim=(0.0, edges[-1]),
        ylim=(-0.08 * top, _ROOM * top) if top > 0.0 else (-0.01, 1.0),
    )
    axes.legend(frameon=False, fontsize=8, ncols=3, loc="upper center")
    return axes


def _rms(points: Points, edges: Scalars) -> tuple[Scalars, Scalars]:
    """Middles (Å) and root mean squares (eV/Å) of the bins that hold any atom."""
    counts, _ = np.histogram(points.distance, edges)
    squares, _ = np.histogram(points.distance, edges, weights=points.size**2)
    filled = counts > 0
    middles = 0.5 * (edges[1:] + edges[:-1])
    return middles[filled], np.sqrt(squares[filled] / counts[filled])
