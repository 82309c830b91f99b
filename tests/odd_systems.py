"""Small systems in odd cells for engines, and comparison of results."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from mixserver_worker.conformance import System
from mixserver_worker.engine import EngineResult

from mixserver.wire.worker import Evaluate

AGREES = 1e-12
"""Relative to the largest number: the same sums in another order."""

TRICLINIC = np.array([[5.2, 0.4, 0.0], [1.4, 5.6, -0.3], [-0.9, 0.8, 6.1]])
CASES: dict[str, tuple[np.ndarray[Any, Any], tuple[bool, bool, bool], int]] = {
    "triclinic": (TRICLINIC, (True, True, True), 10),
    "left-handed": (TRICLINIC[[1, 0, 2]], (True, True, True), 10),
    "smaller than the cutoff": (TRICLINIC * 0.47, (True, True, True), 1),
    "slab": (TRICLINIC, (True, True, False), 10),
    "wire": (TRICLINIC, (False, True, False), 10),
    "free": (np.zeros((3, 3)), (False, False, False), 10),
    "cluster in a large cell": (TRICLINIC + 60.0 * np.eye(3), (True, True, True), 10),
}


def system(case: str, seed: int = 0, species: Sequence[int] = (1, 6, 14)) -> System:
    """Atoms on a distorted grid, some outside the cell."""
    cell, pbc, count = CASES[case]
    dice = np.random.default_rng(seed)
    grid = np.stack(np.meshgrid(*[[0.1, 0.6]] * 2, [0.05, 0.35, 0.7], indexing="ij"), -1)
    places = grid.reshape(-1, 3)[:count] @ TRICLINIC
    places += dice.normal(scale=0.15, size=places.shape)
    places += (dice.integers(-1, 2, places.shape) * np.array(pbc)) @ cell
    numbers = dice.choice(species, count).astype(np.int32)
    return System(places, numbers, cell.copy(), pbc)


def job(system: System, weight: Any = None, stream: int = 1, **more: Any) -> Evaluate:
    return Evaluate(
        job=7,
        stream=stream,
        positions=system.positions,
        numbers=system.numbers,
        cell=system.cell,
        pbc=system.pbc,
        weight=weight,
        energies=True,
        **more,
    )


def agree(
    got: EngineResult, expected: EngineResult, *, virial: bool = True, room: float = AGREES
) -> None:
    scale = max(1.0, np.abs(expected.forces).max(), np.abs(expected.energies).max())
    assert abs(got.energy - expected.energy) < room * scale * len(got.forces)
    np.testing.assert_allclose(got.forces, expected.forces, rtol=0, atol=room * scale)
    if virial:
        np.testing.assert_allclose(
            got.virial, expected.virial, rtol=0, atol=10 * room * scale * len(got.forces)
        )
