"""A frame as the page draws it: few bytes, and of a large system the surroundings of its region.

A little-endian number of bytes, that many bytes of JSON, then for n atoms x, y, z (float32, Å,
atom by atom), their indices (uint32), atomic numbers (uint8), lambda (uint8, 255 is 1) and seeds
(uint8, 1 is one). The JSON is padded so that the numbers begin at a multiple of 4.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec
import numpy as np

from mixserver.analysis.region_snapshots import region_middle
from mixserver.core.arrays import Indices, Scalars, Vectors
from mixserver.core.frame import Frame
from mixserver.region.region import Region
from mixserver.watch.stored_frames import ShownFrame

MOST_ATOMS: Final = 20_000
"""Atoms that are sent and drawn."""
_MOVED: Final = 0.15
"""Of a lattice vector: how far the region may go before the picture is centred again."""


@dataclass(slots=True)
class Packer:
    """Packs the frames of one run, all centred at one place while the region stays near it."""

    _middle: Scalars = field(default_factory=lambda: np.full(3, 0.5))

    def pack(self, shown: ShownFrame, most: int = MOST_ATOMS) -> bytes:
        """The bytes of a frame."""
        frame, region = shown.frame, shown.region
        places, focus = self._centred(shown)
        kept = _kept(places - focus, region.active if region is not None else None, most)
        seeds = np.zeros(len(frame), dtype=np.uint8)
        lambda_ = np.zeros(len(frame), dtype=np.uint8)
        if region is not None:
            seeds[region.seeds] = 1
            lambda_ = np.ceil(255.0 * region.lambda_).astype(np.uint8)
        about: dict[str, Any] = {
            "label": shown.label,
            "atoms": len(frame),
            "drawn": len(kept),
            "cell": frame.cell.tolist(),
            "lambda": region is not None,
            "words": shown.why_not,
        }
        head = msgspec.json.encode(about)
        head += b" " * (-len(head) % 4)
        return b"".join(
            (
                struct.pack("<I", len(head)),
                head,
                places[kept].astype("<f4").tobytes(),
                kept.astype("<u4").tobytes(),
                frame.topology.numbers[kept].astype(np.uint8).tobytes(),
                lambda_[kept].tobytes(),
                seeds[kept].tobytes(),
            )
        )

    def _centred(self, shown: ShownFrame) -> tuple[Vectors, Scalars]:
        """Positions (N, 3) Å from the middle of the picture, and that of the region (3,).

        They are wrapped into the cell around the middle of the picture.
        """
        frame = shown.frame
        fractional = frame.fractional
        middle = None if shown.region is None else region_middle(frame, shown.region)
        if middle is not None:
            moved = middle - self._middle
            if np.abs(moved - np.round(moved)).max() > _MOVED:
                self._middle = middle
        periodic = np.array(frame.topology.pbc)
        centre = np.where(periodic, self._middle, _halfway(frame))
        away = fractional - centre
        away -= np.where(periodic, np.round(away), 0.0)
        places: Vectors = away @ frame.cell
        return places, _mean(places, shown.region)


def _mean(places: Vectors, region: Region | None) -> Scalars:
    """The mean (3,) of the seeds' places, or of the region's; zero without a region."""
    if region is None or not len(region.active):
        return np.zeros(3)
    found: Scalars = places[region.seeds if len(region.seeds) else region.active].mean(axis=0)
    return found


def _halfway(frame: Frame) -> Scalars:
    fractional = frame.fractional
    found: Scalars = 0.5 * (fractional.min(axis=0) + fractional.max(axis=0))
    return found


def _kept(places: Vectors, active: Indices | None, most: int) -> Indices:
    """The atoms that are drawn, ascending: those with lambda > 0, then the nearest to the region.

    Args:
        places: (N, 3) Å from the region's middle, or the picture's if there is none.
        active: those with lambda > 0, if that is known.
        most: how many.
    """
    if len(places) <= most:
        return np.arange(len(places))
    distance = np.einsum("ij,ij->i", places, places)
    if active is not None:
        distance[active] = -1.0
    return np.sort(np.argpartition(distance, most)[:most])
