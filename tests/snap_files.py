"""Reads SNAP files of LAMMPS, stock ones and ours."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from mixserver.core.arrays import Scalars
from mixserver.wire.descriptor import SnapDescriptor


def read_snap(coeff: Path, param: Path) -> tuple[SnapDescriptor, Scalars]:
    """Descriptors and (elements * columns,) coefficients."""

    def words(file: Path) -> list[list[str]]:
        lines = (line.split("#")[0].split() for line in file.read_text().splitlines())
        return [line for line in lines if line]

    head, *lines = words(coeff)
    values = dict(line[:2] for line in words(param))
    per = int(head[1]) + 1
    blocks = [lines[at : at + per] for at in range(0, len(lines), per)]
    descriptor = SnapDescriptor(
        twojmax=int(values["twojmax"]),
        cutoff=float(values["rcutfac"]),
        elements=tuple(block[0][0] for block in blocks),
        radii=tuple(float(block[0][1]) for block in blocks),
        weights=tuple(float(block[0][2]) for block in blocks),
        rfac0=float(values.get("rfac0", 0.99363)),
        rmin0=float(values.get("rmin0", 0.0)),
        quadratic=values.get("quadraticflag", "0") == "1",
        bzero=values.get("bzeroflag", "1") == "1",
    )
    return descriptor, np.array([float(line[0]) for block in blocks for line in block[1:]])
