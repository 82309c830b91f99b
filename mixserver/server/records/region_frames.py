"""Frames with lambda of every atom, as ASE atoms and as frames of an extxyz file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from ase import Atoms

from mixserver.core.arrays import Scalars
from mixserver.core.frame import Frame
from mixserver.core.structures import as_atoms
from mixserver.region.region import Region


def with_region(frame: Frame, region: Region, shell: Scalars | None = None) -> Atoms:
    """The frame as ASE atoms with lambda (and the shell, if given) per atom, for OVITO."""
    atoms = as_atoms(frame)
    atoms.info["evaluation"] = frame.number
    atoms.info["bead"] = frame.bead
    atoms.set_array("lambda", region.lambda_)
    seed = np.zeros(len(frame), dtype=int)
    seed[region.seeds] = 1
    atoms.set_array("seed", seed)
    if shell is not None:
        atoms.set_array("shell", shell.astype(int))
    return atoms


def append_region(
    file: Path, frame: Frame, region: Region, scalars: Mapping[str, float] | None = None
) -> None:
    """Append one frame of lambda to an extxyz file, with scalars beside its cell."""
    from ase.io import write  # noqa: PLC0415 - heavy

    atoms = with_region(frame, region)
    atoms.info.update(scalars or {})
    write(file, atoms, format="extxyz", append=True)
