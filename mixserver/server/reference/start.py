"""Compares the initial state in i-PI's input with the reference, before any model is loaded.

The server compares i-PI's first positions as well: they may differ from its input.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import msgspec
import numpy as np

from mixserver.config import Case
from mixserver.core.errors import ConfigError, Implausible
from mixserver.core.frame import Frame
from mixserver.geometry.placement import Placement, compare
from mixserver.ipi.consistency import systems_served
from mixserver.ipi.input import IpiInput
from mixserver.ipi.start import read_initial_state
from mixserver.server.reference.comparison import REMEDY, mismatch
from mixserver.server.reference.packing import check_packing, measure_packing
from mixserver.server.regions import uses

_BEADS: Final = 64
"""Beads that are looked at; those of a path differ."""
_SAME: Final = 1e-3
"""Å. An initial state that differs less from the structure is checked with it."""


@dataclass(frozen=True, slots=True)
class ComparedStart:
    """The start of one bead of one system of i-PI."""

    where: str
    """The files it comes from, and which bead it is if they differ."""
    placement: Placement
    mismatch: str
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


def compare_starts(case: Case, ipi: IpiInput, reference: Frame) -> list[ComparedStart]:
    """Compare what i-PI's systems start from with the reference; the case has a region.

    Returns:
        One for each system, and for each bead that differs from the one before; without systems
        that cannot be read or have another number of atoms, which other checks report.
    """
    used = uses(case.config)
    found: list[ComparedStart] = []
    for at, system in systems_served(case, ipi):
        try:
            start = read_initial_state(ipi.file, at)
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
            words = mismatch(placement, reference, frame, used)
            same = placement.largest < _SAME and np.abs(start.cell - reference.cell).max() < _SAME
            crowded = "" if words or same else _crowded(case, frame)
            found.append(ComparedStart(name, placement, words, crowded))
    return found


def _crowded(case: Case, frame: Frame) -> str:
    """The error in the distances of an initial state; a bead between two others may overlap."""
    # another density is detected by the cell
    limits = msgspec.structs.replace(case.config.limits, density=math.inf)
    try:
        check_packing(frame, measure_packing(frame), limits, "what i-PI starts from")
    except Implausible as error:
        return str(error)
    return ""


def check_starts(case: Case, ipi: IpiInput, reference: Frame) -> None:
    """Refuse an input whose start cannot be the reference's system, unless it is meant.

    Raises:
        ConfigError: it starts from another cell or unit, has its atoms in another order, or some
            of them too close to each other.
    """
    if case.config.region is None:
        return
    for start in compare_starts(case, ipi, reference):
        if start.crowded:
            raise ConfigError(f"{start.where}: {start.crowded}")
        if start.mismatch and case.config.upstream.mismatch != "warn":
            raise ConfigError(f"{start.where}: {start.mismatch}. {REMEDY}")
