"""The hot crystal with a self-interstitial, and what is to be seen in its trajectories."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import numpy as np
from ase.build import bulk
from ase.io import iread

from mixserver.analysis.region_snapshots import region_middle
from mixserver.core.arrays import Block, Indices, Scalars, Vectors
from mixserver.core.errors import ConfigError
from mixserver.core.frame import Frame, Topology
from mixserver.core.structures import as_frame, read_atoms
from mixserver.region.region import Region
from mixserver.server.records.recorder import REGIONS
from mixserver.studies.interstitial import InterstitialWalk, interstitial_walk

LATTICE: Final = 2.8553
"""Å at 0 K, of the models; put yours here beside a models.toml."""
EXPANSION: Final = 1.2e-5
"""Per kelvin."""
START: Final = Path(__file__).with_name("init.xyz")
"""A dumbbell in 250 sites at the lattice constant of 1000 K, relaxed with `model/reference.in`."""
_CELLS: Final = 5
_KELVIN: Final = 1000.0
VARIANTS: Final = {
    "110": np.array([[1, 1, 0], [1, -1, 0], [1, 0, 1], [1, 0, -1], [0, 1, 1], [0, 1, -1]]) / 2**0.5,
    "111": np.array([[1, 1, 1], [1, 1, -1], [1, -1, 1], [-1, 1, 1]]) / 3**0.5,
    "100": np.eye(3),
}
"""Directions of the two atoms."""
TURN_FRAMES: Final = 10
"""Frames over which the direction is averaged for turns to be counted."""


def lattice(cells: int, kelvin: float) -> tuple[Vectors, Scalars]:
    """The sites of the hot crystal and the edges of its cell, Å."""
    crystal = bulk("Fe", "bcc", a=LATTICE * (1.0 + EXPANSION * kelvin), cubic=True).repeat(cells)
    return crystal.positions, np.diagonal(crystal.cell[:]).copy()


def dumbbell(cells: int, kelvin: float) -> tuple[Frame, Indices]:
    """A crystal with a relaxed <110> dumbbell in its middle, and the dumbbell's atoms.

    Where atoms are relaxed is taken from init.xyz: with the bare sites others would be 1.76 Å from
    the dumbbell, which a potential that has learned from molecular dynamics does not know.

    Raises:
        ConfigError: the crystal is smaller than that of init.xyz.
    """
    if cells < _CELLS:
        raise ConfigError(f"the dumbbell needs {_CELLS} cells along each edge or more, not {cells}")
    relaxed = read_atoms(START)
    small, edges = lattice(_CELLS, _KELVIN)
    sites, lengths = lattice(cells, kelvin)
    centre = int(np.linalg.norm(small - 0.5 * edges, axis=1).argmin())
    middle = int(np.linalg.norm(sites - 0.5 * lengths, axis=1).argmin())
    scale = (lengths[0] / cells) / (edges[0] / _CELLS)
    offsets = small - small[centre]
    offsets -= edges * np.rint(offsets / edges)
    moved = relaxed.positions[:-1] - small
    moved -= edges * np.rint(moved / edges)
    away = sites[:, None] - (sites[middle] + scale * offsets)
    away -= lengths * np.rint(away / lengths)
    of = np.linalg.norm(away, axis=2).argmin(axis=0)
    positions = np.vstack([sites, sites[middle]])
    positions[of] += scale * moved
    positions[-1] += scale * (relaxed.positions[-1] - small[centre])
    topology = Topology(np.full(len(positions), 26, dtype=np.int32), pbc=(True, True, True))
    return topology.frame(positions, np.diag(lengths)), np.array([middle, len(sites)])


def shares(axes: Block) -> dict[str, float]:
    """In which share of the frames the two atoms lie nearest to a direction of each family."""
    unit = axes / np.linalg.norm(axes, axis=1, keepdims=True)
    best = np.array([np.abs(unit @ these.T).max(axis=1) for these in VARIANTS.values()])
    counts = np.bincount(best.argmax(axis=0), minlength=len(VARIANTS))
    return dict(zip(VARIANTS, (counts / len(axes)).tolist(), strict=True))


def turns(axes: Block) -> int:
    """How often the nearest <110> direction of the two atoms has changed, in averages of frames."""
    unit = axes / np.linalg.norm(axes, axis=1, keepdims=True)
    along = (unit @ VARIANTS["110"].T) ** 2
    parts = [part.mean(axis=0).argmax() for part in _parts(along)]
    return int(np.count_nonzero(np.diff(parts)))


def _parts(rows: Block) -> Iterator[Block]:
    for first in range(0, len(rows) - TURN_FRAMES + 1, TURN_FRAMES):
        yield rows[first : first + TURN_FRAMES]


def followed(folders: Sequence[Path], sites: Vectors, lengths: Scalars) -> dict[str, list[float]]:
    """Where the region was, as seen from the interstitial, in each frame stored with lambda.

    Returns:
        "centre": Å from the interstitial to the middle of the seeds; "seed": to the nearest seed;
        "lambda": the smaller lambda of its two atoms; "core": Å from it to the nearest atom that is
        not core. Distances without seeds are infinite, as JSON's null.
    """
    frames, regions = [], []
    for folder in folders:
        for atoms in iread(folder / REGIONS, index=":", format="extxyz"):
            frames.append(as_frame(atoms))
            seeds = np.flatnonzero(atoms.arrays["seed"])
            regions.append(Region(np.asarray(atoms.arrays["lambda"], dtype=np.float64), seeds))
    walk = interstitial_walk((frame.positions for frame in frames), sites, lengths)
    found: dict[str, list[float]] = {"centre": [], "seed": [], "lambda": [], "core": []}
    for at, (frame, region) in enumerate(zip(frames, regions, strict=True)):
        for name, value in _seen(walk, at, frame, region, lengths).items():
            found[name].append(round(value, 4))
    return found


def _seen(
    walk: InterstitialWalk, at: int, frame: Frame, region: Region, lengths: Scalars
) -> dict[str, float]:
    away = frame.positions - walk.centres[at]
    distances = np.linalg.norm(away - lengths * np.rint(away / lengths), axis=1)
    middle = region_middle(frame, region) if len(region.seeds) else None
    centre = np.inf
    if middle is not None:
        to_middle = middle @ frame.cell - walk.centres[at]
        centre = float(np.linalg.norm(to_middle - lengths * np.rint(to_middle / lengths)))
    return {
        "centre": centre,
        "seed": float(distances[region.seeds].min(initial=np.inf)),
        "lambda": float(region.lambda_[walk.atoms[at]].min()),
        "core": float(distances[region.lambda_ < 1.0].min(initial=np.inf)),
    }
