"""What a LAMMPS engine computes, in the order of a row of descriptors."""

from __future__ import annotations

import numpy as np
from mixserver_worker.engines.lammps.engine import LammpsEngine

from mixserver.core.arrays import Matrix, Numbers, Vectors
from mixserver.wire.worker import Evaluate

VOIGT = ((0, 1, 2, 1, 0, 0), (0, 1, 2, 2, 2, 1))
"""Written out: the order that rows have is what tests compare with."""


def weighted_row(
    engine: LammpsEngine, numbers: Numbers, positions: Vectors, cell: Matrix, weight: Vectors
) -> Vectors:
    """(1 + 3N + 6,) weighted energy, forces and virial."""
    result = engine.evaluate(
        Evaluate(
            job=1,
            stream=1,
            positions=positions,
            numbers=numbers,
            cell=cell,
            pbc=(True, True, True),
            weight=weight,
        )
    )
    return np.concatenate([[result.energy], result.forces.ravel(), result.virial[VOIGT]])
