"""Wrong forces and wrong virials are found, right ones are not suspected."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pytest

from mixserver.analysis.checks.findings import Level
from mixserver.analysis.checks.finite_differences import check_differences
from mixserver.core.arrays import Matrix, Vectors
from mixserver.core.errors import WorkerFault

POSITIONS = np.random.default_rng(5).uniform(0.0, 8.0, (6, 3))
CELL = 8.0 * np.eye(3)


class Said(NamedTuple):
    energy: float
    forces: Vectors
    virial: Matrix


@dataclass
class Springs:
    """Every atom is tied to every other, without images; what it says may be off by a factor."""

    forces: float = 1.0
    virial: float = 1.0

    async def __call__(self, positions: Vectors, cell: Matrix) -> Said:
        vector = positions[:, None] - positions
        return Said(
            0.25 * float((vector**2).sum()),
            -self.forces * vector.sum(axis=1),
            -0.5 * self.virial * np.einsum("ijk,ijl->kl", vector, vector),
        )


@pytest.mark.parametrize(
    ("model", "levels"),
    [
        (Springs(), ("ok", "ok")),
        (Springs(forces=1.02), ("warning", "ok")),
        (Springs(forces=-1.0), ("error", "ok")),
        (Springs(virial=0.5), ("ok", "error")),
    ],
)
async def test_wrong_gradients_are_found(model: Springs, levels: tuple[Level, Level]) -> None:
    found = await check_differences("springs", model, POSITIONS, CELL, dtype="float64")
    assert tuple(finding.level for finding in found) == levels
    assert [finding.what for finding in found] == ["forces of springs", "virial of springs"]


async def test_a_model_that_fails_is_told() -> None:
    async def fails(positions: Vectors, cell: Matrix) -> Said:
        raise WorkerFault("out of memory")

    (found,) = await check_differences("springs", fails, POSITIONS, CELL, dtype="float64")
    assert (found.level, found.message) == ("error", "out of memory")
