"""A picture of the atoms, coloured by lambda, with the seeds ringed."""

from __future__ import annotations

from typing import Final

import numpy as np
from ase.data import covalent_radii
from matplotlib.axes import Axes
from matplotlib.collections import EllipseCollection
from matplotlib.colors import LinearSegmentedColormap, Normalize

from mixserver.analysis.plots.lines import BLACK, GREY, say
from mixserver.analysis.region_snapshots import newest_snapshot, region_middle
from mixserver.analysis.run_series import RunSeries
from mixserver.core.arrays import Vectors
from mixserver.core.frame import Frame
from mixserver.region.region import Region

VIEWS: Final = ((0, 1, 2), (0, 2, 1))
"""Axes across, up and towards the reader of each view."""
_LAMBDA: Final = LinearSegmentedColormap.from_list("lambda", ["#e8d5ee", "#7a5195", "#b5403a"])
_BULK: Final = "#c9cdd3"
_SHARE: Final = 0.62
"""Of the covalent radius, at which an atom is drawn."""
_BULK_SHARE: Final = 0.28
"""The same for atoms with lambda = 0, so that the region is seen through them."""
_BEFORE: Final = 0.15
"""Of a lattice vector: the middle is at most so far before the origin. A defect at 0 or in the
middle of the cell then stays in its place from one picture to the next."""
_NAMES: Final = "xyz"


def draw_atoms(axes: Axes, series: RunSeries, view: tuple[int, int, int]) -> Axes:
    """Draw the newest frame with lambda of a run, seen along one axis."""
    found = newest_snapshot(series.runs)
    if found is None:
        axes.set_aspect("equal")
        axes.set_xticks([])
        say(axes, "no frame with lambda is recorded")
        return axes
    what = f"Evaluation {found.evaluation} of run {found.file.parent.resolve().name}"
    return draw_region(axes, found.frame, found.region, view, what)


def draw_region(
    axes: Axes, frame: Frame, region: Region, view: tuple[int, int, int], what: str
) -> Axes:
    """Draw a frame coloured by lambda, seen along one axis; `what` begins the title.

    Atoms with lambda = 0 are small and behind; the cell is centred at the seeds, or at the region.
    """
    axes.set_aspect("equal")
    across, up, depth = view
    places = centred(frame, region)
    lambda_ = region.lambda_
    radii = covalent_radii[frame.topology.numbers]
    active = lambda_ > 0.0
    shares = np.where(active, _SHARE, _BULK_SHARE)
    order = np.lexsort((places[:, depth], lambda_))
    flat = places[order][:, (across, up)]
    width = 2.0 * (shares * radii)[order]
    bulk = ~active[order]
    for some, colours in ((bulk, None), (~bulk, lambda_[order][~bulk])):
        atoms = EllipseCollection(
            *(width[some], width[some], np.zeros(int(some.sum()))),
            units="xy",
            offsets=flat[some],
            offset_transform=axes.transData,
            linewidths=0.3,
            edgecolors="white",
        )
        if colours is None:
            atoms.set_facecolor(_BULK)
            atoms.set_alpha(0.75)
        else:
            atoms.set(array=colours, cmap=_LAMBDA, norm=Normalize(0.0, 1.0))
        axes.add_collection(atoms)
    axes.figure.colorbar(atoms, ax=axes, label="λ", shrink=0.75, pad=0.02)
    _ring_seeds(axes, region, places[:, (across, up)], radii)
    low, high = flat.min(axis=0) - 1.5, flat.max(axis=0) + 1.5
    axes.set(
        xlim=(low[0], high[0]),
        ylim=(low[1], high[1]),
        xlabel=f"{_NAMES[across]} (Å)",
        ylabel=f"{_NAMES[up]} (Å)",
    )
    count = len(region.seeds)
    seeds = f", {count} seed{'s' * (count > 1)} ringed" if count else ""
    axes.set_title(f"{what}, along {_NAMES[depth]}{seeds}", fontsize=10)
    return axes


def centred(frame: Frame, region: Region) -> Vectors:
    """Positions (N, 3) Å wrapped into the cell around the seeds, or around the region."""
    middle = region_middle(frame, region)
    if middle is None:
        return frame.wrapped
    middle = (middle + _BEFORE) % 1.0 - _BEFORE
    periodic = np.array(frame.topology.pbc)
    shift = np.where(periodic, np.floor(frame.fractional - middle + 0.5), 0.0)
    places: Vectors = frame.positions - shift @ frame.cell
    return places


def _ring_seeds(axes: Axes, region: Region, flat: Vectors, radii: Vectors) -> None:
    seeds = region.seeds
    width = 2.0 * (_SHARE * radii[seeds] + 0.35)
    axes.add_collection(
        EllipseCollection(
            *(width, width, np.zeros(len(seeds))),
            units="xy",
            offsets=flat[seeds],
            offset_transform=axes.transData,
            facecolors="none",
            edgecolors=BLACK,
            linewidths=1.4,
        )
    )
    axes.tick_params(colors=GREY, labelsize=8)
