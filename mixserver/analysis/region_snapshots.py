"""Frames of a run with lambda of every atom, as its records hold them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

import numpy as np
from ase import Atoms
from ase.io import read

from mixserver.core.arrays import Scalars
from mixserver.core.errors import ConfigError
from mixserver.core.frame import Frame
from mixserver.core.structures import as_frame
from mixserver.region.region import Region
from mixserver.server.records.recorder import LAST_REGION, REGIONS


@dataclass(frozen=True)
class RegionSnapshot:
    """One frame and its region."""

    frame: Frame
    """Unwrapped, as i-PI sent it."""
    region: Region
    evaluation: int
    """Of its own run."""
    file: Path


def region_middle(frame: Frame, region: Region) -> Scalars | None:
    """The middle (3,) of the seeds, or of the region, in lattice vectors; None if it is empty.

    A mean on a circle, so that a region across the boundary has its middle there.
    """
    some = region.seeds if len(region.seeds) else region.active
    if not len(some):
        return None
    angles = 2.0 * np.pi * frame.fractional[some]
    middle: Scalars = np.arctan2(np.sin(angles).mean(axis=0), np.cos(angles).mean(axis=0))
    return middle / (2.0 * np.pi)


def newest_snapshot(runs: Sequence[Path]) -> RegionSnapshot | None:
    """The last frame with lambda that some runs recorded, oldest run first; None if none did.

    Raises:
        ConfigError: the file is damaged.
    """
    for run in reversed(runs):
        for name in (LAST_REGION, REGIONS):
            file = run / name
            if file.is_file() and not file.is_symlink() and file.stat().st_size:
                return as_snapshot(file, file)
    return None


def as_snapshot(source: Path | TextIO, file: Path) -> RegionSnapshot:
    """The last frame with lambda of a file.

    Args:
        source: the file, or a part of it.
        file: its name, for messages.

    Raises:
        ConfigError: it is damaged.
    """
    try:
        atoms: Atoms = read(source, index=-1, format="extxyz")
        region = Region(
            np.asarray(atoms.arrays["lambda"], dtype=np.float64),
            np.flatnonzero(atoms.arrays["seed"]),
        )
        frame = as_frame(atoms)
    except (OSError, ValueError, KeyError, IndexError) as error:
        raise ConfigError(
            f"{file} does not hold frames with lambda as mixserver writes them ({error}); if its "
            "last frame was cut short, delete the rest of it"
        ) from error
    return RegionSnapshot(frame, region, int(atoms.info.get("evaluation", 0)), file)
