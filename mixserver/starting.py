"""What i-PI will start from, compared with the reference before any model is loaded.

The server compares what i-PI sends all the same: it may start from something else in the end.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import msgspec
import numpy as np

from mixserver.agreement import systems_asked
from mixserver.comparison import CURE, objection
from mixserver.config import Case
from mixserver.errors import ConfigError, Implausible
from mixserver.frame import Frame
from mixserver.ipi_input import IpiInput
from mixserver.ipi_start import read_start
from mixserver.placement import Placement, compare
from mixserver.plausible import crowding, refuse_crowding
from mixserver.selectors import uses

_BEADS: Final = 64
"""Beads that are looked at; those of a path differ."""
_SAME: Final = 1e-3
"""Å. What differs by less from the structure is looked at with that."""


@dataclass(frozen=True, slots=True)
class Compared:
    """The start of one bead of one system of i-PI."""

    where: str
    """The files it comes from, and which bead it is if they differ."""
    placement: Placement
    objection: str
    """Why it cannot be a start of the reference's system; "" if it can."""
    crowded: str = ""
    """Why no model could evaluate it: its atoms are too close; "" if they are not."""

    def __str__(self) -> str:
        placement = self.placement
        deformation = placement.deformation
        strain = 100.0 * float(np.abs(deformation.principal - 1.0).max())
        turned = f", turned by {deformation.angle:.2f}°" if deformation.angle > 0.005 else ""
        mirrored = ", mirrored" if deformation.mirrored else ""
        shift = float(np.linalg.norm(placement.shift))
        shifted = f", shifted by {shift:.3f} Å" if shift > 5e-4 else ""
        return (
            f"{self.where}: cell within {strain:.2f} % of the structure's{turned}{mirrored}"
            f"{shifted}, rms displacement {placement.rms:.3f} Å, largest "
            f"{placement.largest:.3f} Å (atom {placement.farthest})"
        )


def compared_starts(case: Case, ipi: IpiInput, reference: Frame) -> list[Compared]:
    """Compare what i-PI's systems start from with the reference.

    Args:
        case: the case; it has a region.
        ipi: i-PI's input.
        reference: the structure's positions.

    Returns:
        One for each system, and for each bead that differs from the one before; without systems
        that cannot be read or have another number of atoms, which other checks tell of.
    """
    used = uses(case.config)
    found: list[Compared] = []
    for at, system in systems_asked(case, ipi):
        try:
            start = read_start(ipi.file, at)
        except ConfigError:
            continue
        if start.positions.shape[1] != len(reference):
            continue
        where = ", ".join(source.file.name for source in system.sources) or ipi.file.name
        before = None
        for bead, positions in enumerate(start.positions[:_BEADS]):
            if before is not None and np.array_equal(before, positions):
                continue
            name = where if before is None else f"{where}, bead {bead}"
            before = positions
            frame = reference.topology.frame(np.ascontiguousarray(positions), start.cell)
            placement = compare(reference, frame)
            words = objection(placement, reference, frame, used)
            same = placement.largest < _SAME and np.abs(start.cell - reference.cell).max() < _SAME
            crowded = "" if words or same else _crowded(case, frame)
            found.append(Compared(name, placement, words, crowded))
    return found


def _crowded(case: Case, frame: Frame) -> str:
    """What is wrong with the distances of a start; a bead between two others may overlap."""
    # a start of another density is told from its cell
    limits = msgspec.structs.replace(case.config.limits, density=math.inf)
    try:
        refuse_crowding(frame, crowding(frame), limits, "what i-PI starts from")
    except Implausible as error:
        return str(error)
    return ""


def refuse_other_start(case: Case, ipi: IpiInput, reference: Frame) -> None:
    """Refuse an input whose start cannot be the reference's system, unless it is meant.

    Raises:
        ConfigError: it starts from another cell or unit, has its atoms in another order, or some
            of them too close to each other.
    """
    if case.config.region is None:
        return
    for start in compared_starts(case, ipi, reference):
        if start.crowded:
            raise ConfigError(f"{start.where}: {start.crowded}")
        if start.objection and case.config.upstream.mismatch != "warn":
            raise ConfigError(f"{start.where}: {start.objection}. {CURE}")
