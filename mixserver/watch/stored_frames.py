"""The frames that a run has stored so far, with lambda as far as it is known.

The frames of regions.xyz, which have lambda; without that file those of i-PI's trajectory. Then the
run's last frame and the one that failed, if there are any.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from mixserver.analysis.region_snapshots import as_snapshot
from mixserver.analysis.trajectory import positions_file
from mixserver.core.cell import has_volume
from mixserver.core.errors import ConfigError, MixserverError
from mixserver.core.frame import Frame, Topology
from mixserver.core.labels import known_atomic_numbers
from mixserver.core.structures import read_structure
from mixserver.ipi.output import parse_frames
from mixserver.region.region import Region
from mixserver.server.records.recorder import LAST_REGION, REGIONS
from mixserver.watch.frame_index import FrameIndex
from mixserver.watch.lambdas import Lambdas

FAILED: Final = "failed.xyz"
_HOW: Final = (
    "No frames are stored yet. They come from <trajectory> positions{angstrom} </trajectory> in "
    "input.xml, or from record.regions_every in mix.toml"
)


@dataclass(frozen=True)
class ShownFrame:
    """A stored frame."""

    label: str
    """What it is, for people: "step 150", "evaluation 20", "last frame"."""
    frame: Frame
    region: Region | None
    why_not: str = ""
    """Why lambda is not known."""


class StoredFrames:
    """The frames in one run's folder; `update` finds new ones."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._regions = FrameIndex(folder / REGIONS)
        self._trajectory: FrameIndex | None = None
        self._singles: list[str] = []
        self._lambdas: Lambdas | None = None

    def __len__(self) -> int:
        return len(self._index().frames) + len(self._singles)

    @property
    def words(self) -> str:
        """Where frames would come from, as long as there are none."""
        return "" if len(self) else _HOW

    def update(self) -> None:
        """Look for frames that were completed since the last time."""
        self._regions.update()
        if not self._regions.frames:
            self._update_trajectory()
        names = (LAST_REGION, FAILED)
        self._singles = [name for name in names if _is_complete(self._folder / name)]

    def read(self, at: int) -> ShownFrame:
        """A frame, counted from 0.

        Raises:
            IndexError: there is no such frame.
            ConfigError: the file is damaged.
        """
        index = self._index()
        count = len(index.frames)
        try:
            if at >= count:
                if at < 0:
                    raise IndexError(at)
                return self._single(self._singles[at - count])
            text = index.text(at)
            if index is self._regions:
                found = as_snapshot(io.StringIO(text), index.file)
                return ShownFrame(f"evaluation {found.evaluation}", found.frame, found.region)
            return self._of_trajectory(text, index.frames[at].atoms, index.file)
        except (OSError, MixserverError) as error:
            raise ConfigError(f"the frame cannot be read: {error}") from error

    def _index(self) -> FrameIndex:
        return self._regions if self._regions.frames else self._trajectory or self._regions

    def _update_trajectory(self) -> None:
        if self._trajectory is None:
            try:
                file = positions_file(self._folder)
            except (OSError, SyntaxError):  # i-PI's input is not complete XML
                file = None
            if file is None:
                return
            self._trajectory = FrameIndex(file)
        self._trajectory.update()

    def _single(self, name: str) -> ShownFrame:
        file = self._folder / name
        if name == LAST_REGION:
            found = as_snapshot(file, file)
            if not self._of().mixed:
                return ShownFrame("last frame", found.frame, None, self._of().why_not)
            return ShownFrame("last frame", found.frame, found.region)
        _, frame = read_structure(file)
        region, why_not = self._of().find(frame)
        return ShownFrame("failed frame", frame, region, why_not)

    def _of_trajectory(self, text: str, atoms: int, file: Path) -> ShownFrame:
        step, positions, cell = next(parse_frames(text, atoms, file))
        topology = self._of().topology or _topology(text, atoms)
        if not has_volume(cell):
            cell, topology = _box(positions), Topology(topology.numbers, (False, False, False))
        frame = topology.frame(positions, cell)
        region, why_not = self._of().find(frame)
        return ShownFrame(f"step {step}", frame, region, why_not)

    def _of(self) -> Lambdas:
        """Made with the first frame: reading i-PI's input as i-PI does takes a second."""
        if self._lambdas is None:
            self._lambdas = Lambdas(self._folder)
        return self._lambdas


def _topology(text: str, atoms: int) -> Topology:
    labels = [line.split(maxsplit=1)[0] for line in text.splitlines()[2 : 2 + atoms]]
    return Topology(known_atomic_numbers(labels, {}))


def _box(positions: np.ndarray) -> np.ndarray:
    """A cell (3, 3) around atoms (N, 3) that have none."""
    return np.diag(np.ptp(positions, axis=0) + 2.0)


def _is_complete(file: Path) -> bool:
    try:
        return file.is_file() and not file.is_symlink() and file.stat().st_size > 0
    except OSError:
        return False
