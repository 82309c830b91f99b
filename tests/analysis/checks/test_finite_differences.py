"""Wrong forces and wrong virials are found, right ones are not suspected."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.interpolate import CubicSpline

from mixserver.analysis.checks.findings import Level
from mixserver.analysis.checks.finite_differences import check_differences
from mixserver.core.arrays import Matrix, Vectors
from mixserver.core.errors import WorkerFault

TABLE = Path(__file__).parents[3] / "inputs/silicon_distill/potential/si.table"
"""The pair term of a distilled potential."""
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


@dataclass
class Pairs:
    """Every pair has an energy and a force of its distance, without images."""

    energy: Callable[[NDArray[np.float64]], NDArray[np.float64]]
    force: Callable[[NDArray[np.float64]], NDArray[np.float64]]

    async def __call__(self, positions: Vectors, cell: Matrix) -> Said:
        vector = positions[:, None] - positions
        apart = ~np.eye(len(positions), dtype=bool)
        distance = np.where(apart, np.linalg.norm(vector, axis=2), 1.0)
        forces = (apart * self.force(distance) / distance)[..., None] * vector
        virial = 0.5 * np.einsum("ijk,ijl->kl", forces, vector)
        return Said(0.5 * float(self.energy(distance)[apart].sum()), forces.sum(axis=1), virial)


def _lattice() -> Vectors:
    sites = 2.6 * np.stack(np.meshgrid(*3 * [np.arange(5.0)]), axis=-1).reshape(-1, 3)
    return sites + np.random.default_rng(2).normal(scale=0.05, size=sites.shape)


@pytest.mark.parametrize(("every", "level"), [(1, "ok"), (60, "warning")])
async def test_a_table_is_suspected_only_if_it_is_coarse(every: int, level: Level) -> None:
    """Energies and forces are interpolated separately, as in LAMMPS."""
    radius, energy, force = np.loadtxt(TABLE, skiprows=6, usecols=(1, 2, 3))[::every].T
    end = radius[-1]
    energy, force = CubicSpline(radius, energy), CubicSpline(radius, force)
    pairs = Pairs(lambda r: energy(r) * (r < end), lambda r: force(r) * (r < end))
    found = await check_differences("table", pairs, _lattice(), CELL, dtype="float64")
    assert [finding.level for finding in found] == [level, level]


async def test_a_jump_of_the_second_derivative_is_no_fault() -> None:
    """Hundreds of pairs are at the cutoff, as of a potential that ends at a shell of neighbours."""
    pairs = Pairs(lambda r: np.fmax(3.6 - r, 0.0) ** 2, lambda r: 2.0 * np.fmax(3.6 - r, 0.0))
    found = await check_differences("springs", pairs, _lattice(), CELL, dtype="float64")
    assert [finding.level for finding in found] == ["ok", "ok"]
    assert "second derivatives jump at a cutoff" in found[0].message


async def test_a_jump_of_the_energy_is_found() -> None:
    pairs = Pairs(lambda r: (2.8 - r) * (r < 2.6), lambda r: 1.0 * (r < 2.6))
    found = await check_differences("jump", pairs, _lattice(), CELL, dtype="float64")
    assert [finding.level for finding in found] == ["error", "error"]


async def test_a_model_that_fails_is_told() -> None:
    async def fails(positions: Vectors, cell: Matrix) -> Said:
        raise WorkerFault("out of memory")

    (found,) = await check_differences("springs", fails, POSITIONS, CELL, dtype="float64")
    assert (found.level, found.message) == ("error", "out of memory")
