r"""Mean square displacements and radial distribution functions, from i-PI's trajectory.

.. math::
    \mathrm{MSD}(\tau) = \langle |r_i(t+\tau) - r_i(t)|^2 \rangle_{i,t}, \qquad
    g(r) = \frac{\langle n(r)\rangle}{4\pi r^2\,\mathrm{d}r\,\rho}

Displacements are relative to the centre of mass. Around core and bulk atoms g counts neighbours of
all kinds, which ASE's get_rdf cannot: it selects by element only.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
from ase.data import atomic_masses
from matplotlib.axes import Axes

from mixserver.analysis.plots.lines import BLUE, GREY, PURPLE, RED, from_zero, legend
from mixserver.analysis.region_snapshots import RegionSnapshot, newest_snapshot
from mixserver.analysis.run_series import RunSeries
from mixserver.analysis.trajectory import Trajectory, read_trajectory
from mixserver.core.arrays import Indices, Scalars, Vectors
from mixserver.core.cell import has_volume
from mixserver.core.errors import ConfigError
from mixserver.core.frame import Frame
from mixserver.geometry import neighbour_list

_MOST_FRAMES: Final = 1000
_MOST_RDF_FRAMES: Final = 40
_MOST_ATOMS: Final = 300
"""Atoms of one kind whose displacements are averaged."""
_REACH: Final = 8.0
"""Å, the largest distance of g."""
_BIN: Final = 0.05
"""Å."""


class Groups(NamedTuple):
    """Atoms by their place in the last frame with lambda."""

    seeds: Indices
    core: Indices
    bulk: Indices


def draw_msd(axes: Axes, series: RunSeries) -> Axes:
    """Draw the mean square displacement of seeds and of bulk atoms, Å².

    Raises:
        ConfigError: there is no trajectory, or no frame with lambda.
    """
    snapshot, groups = _groups(series)
    path = read_trajectory(series.runs, len(snapshot.frame), _MOST_FRAMES)
    lag = (path.step - path.step[0]) * _step_length(series)
    for atoms, colour, label in ((groups.bulk, BLUE, "bulk"), (groups.seeds, RED, "seeds")):
        if len(atoms):
            kept = atoms[:: -(-len(atoms) // _MOST_ATOMS)]
            found = mean_square_displacement(relative_positions(path, snapshot), kept)
            axes.plot(lag[: len(found)], found, color=colour, lw=1.1, label=label)
    unit = "ps" if series.timed else "steps"
    axes.set(title="Mean square displacement", ylabel="Å²", xlabel=f"time between frames ({unit})")
    axes.title.set_fontsize(10)
    from_zero(axes)
    legend(axes)
    return axes


def draw_rdf(axes: Axes, series: RunSeries) -> Axes:
    """Draw g(r) around core and bulk atoms.

    Raises:
        ConfigError: there is no trajectory, or no frame with lambda.
    """
    snapshot, groups = _groups(series)
    path = read_trajectory(series.runs, len(snapshot.frame), _MOST_RDF_FRAMES)
    for atoms, colour, label in (
        *((groups.bulk, BLUE, "around bulk"), (groups.core, PURPLE, "around core")),
    ):
        if len(atoms):
            r, g = radial_distribution(path, snapshot, atoms)
            axes.plot(r, g, color=colour, lw=1.1, label=f"{label} ({len(atoms)} atoms)")
    axes.axhline(1.0, color=GREY, lw=0.6, zorder=0)
    axes.set(title="Radial distribution", ylabel="g(r)", xlabel="r (Å)", xlim=(0.0, _REACH))
    axes.title.set_fontsize(10)
    from_zero(axes)
    legend(axes, columns=2)
    return axes


def relative_positions(path: Trajectory, snapshot: RegionSnapshot) -> Vectors:
    """Positions (t, N, 3) Å relative to the centre of mass of each frame."""
    masses = atomic_masses[snapshot.frame.topology.numbers]
    centre = np.einsum("i,tij->tj", masses / masses.sum(), path.positions)
    found: Vectors = path.positions - centre[:, None, :]
    return found


def mean_square_displacement(positions: Vectors, atoms: Indices) -> Scalars:
    """The MSD (l,) Å² of some atoms for lags of 0, 1, ... frames, up to half of all.

    All pairs of frames with a lag count.

    Args:
        positions: (t, N, 3) Å, unwrapped, equally spaced in time.
        atoms: (n,) that are averaged.
    """
    some = positions[:, atoms]
    lags = range(max(2, len(some) // 2 + 1))
    return np.array(
        [
            float(np.mean(np.sum((some[lag:] - some[: len(some) - lag]) ** 2, axis=-1)))
            for lag in lags
        ]
    )


def radial_distribution(
    path: Trajectory, snapshot: RegionSnapshot, atoms: Indices
) -> tuple[Scalars, Scalars]:
    """Distances (b,) Å and g (b,) around some atoms, averaged over all frames."""
    edges = np.arange(0.0, _REACH + _BIN / 2, _BIN)
    shells = 4.0 / 3.0 * np.pi * np.diff(edges**3)
    centre = np.zeros(len(snapshot.frame), dtype=np.bool_)
    centre[atoms] = True
    total = np.zeros(len(shells))
    for positions, cell in zip(path.positions, path.cells, strict=True):
        known = cell if has_volume(cell) else snapshot.frame.cell
        frame = Frame(snapshot.frame.topology, positions, known)
        pairs = neighbour_list(frame, _REACH)
        near = pairs.distance[centre[pairs.first]]
        density = len(frame) / frame.volume
        total += np.histogram(near, edges)[0] / (shells * density * len(atoms))
    return 0.5 * (edges[1:] + edges[:-1]), total / len(path.positions)


def _groups(series: RunSeries) -> tuple[RegionSnapshot, Groups]:
    snapshot = newest_snapshot(series.runs)
    if snapshot is None:
        raise ConfigError(
            f"{series.folder} has no frame with lambda, which tells core from bulk: it is written "
            "when a run ends, or while it runs with record.regions_every in mix.toml"
        )
    lambda_ = snapshot.region.lambda_
    bulk, core = np.flatnonzero(lambda_ == 0.0), np.flatnonzero(lambda_ == 1.0)
    return snapshot, Groups(snapshot.region.seeds, core, bulk)


def _step_length(series: RunSeries) -> float:
    """Length of a step in ps; 1 if it is not known."""
    table = series.properties
    if table is None:
        return 1.0
    time, step = table.columns["time"], table.step
    return float((time[-1] - time[0]) / (step[-1] - step[0]))
