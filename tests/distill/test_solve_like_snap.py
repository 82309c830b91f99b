"""The whole way of a fit, on rows that are scaled like those of descriptors."""

from collections.abc import Mapping

import numpy as np
import pytest
from numpy.typing import NDArray

from mixserver.distill.fitting.qr import QRAccumulator
from mixserver.distill.fitting.selection import best_affordable
from mixserver.distill.fitting.solve import Constraint, Solution, solve, solve_validated
from mixserver.distill.results import FrontPoint

Array = NDArray[np.float64]

COLUMNS = 31
ATOMS = 64
CELLS = 30


class ReferenceData:
    """Site energies in products of a few features that nearly repeat each other.

    Descriptors grow over four decades and differ from smooth functions of each other by 1e-6 of
    themselves, as bispectrum components do in a crystal.
    """

    def __init__(self, seed: int = 7) -> None:
        self.rng = np.random.default_rng(seed)
        self.size = 10.0 ** self.rng.uniform(-1.0, 3.0, COLUMNS)
        self.mixing = self.rng.normal(size=(6, COLUMNS))
        self.truth = self.rng.normal(size=COLUMNS) / self.size
        self.truth[0] = -4.0
        self.other = self.rng.normal(size=COLUMNS) / self.size
        self.pinned = self.truth + 0.003 * self.other
        """What constraints want: not quite what the soft rows do."""

    def rows(self, count: int, kind: float = 1.0) -> Array:
        smooth = self.rng.normal(size=(count, 6)) @ self.mixing
        own = self.rng.normal(size=(count, COLUMNS))
        block = (smooth + 1e-6 * own) * self.size * kind
        block[:, 0] = 0.0
        return block

    def energies(self, count: int) -> Array:
        block = self.rows(count)
        block[:, 0] = 1.0
        return block

    def target(self, rows: Array, noise: float) -> Array:
        return rows @ self.truth + noise * self.rng.normal(size=len(rows))


@pytest.fixture(scope="module")
def parts() -> tuple[ReferenceData, dict[str, QRAccumulator]]:
    """Kinds of rows apart: energies, forces, ghost forces that want something else, validation."""
    made = ReferenceData()
    kinds = {name: QRAccumulator(COLUMNS) for name in ("energy", "forces", "ghost", "validation")}
    for cell in range(CELLS):
        energy, forces = made.energies(1), made.rows(3 * ATOMS, 0.1)
        kinds["energy"].add(energy, made.target(energy, 1e-3))
        into = "validation" if cell % 5 == 0 else "forces"
        kinds[into].add(forces, made.target(forces, 0.02), source=f"cell {cell}")
        ghost = made.rows(12, 0.1)
        kinds["ghost"].add(ghost, ghost @ (made.truth + 0.03 * made.other))
    return made, kinds


def combined(kinds: Mapping[str, QRAccumulator], **weights: float) -> QRAccumulator:
    """Kinds by the weight of their mean squares, beside forces."""
    made = QRAccumulator(COLUMNS)
    for kind, weight in weights.items():
        made.merge(kinds[kind], weight * np.sqrt(kinds["forces"].rows / kinds[kind].rows))
    return made


def rms(part: QRAccumulator, solution: Solution) -> float:
    return float(np.sqrt(part.residual(solution.coefficients) / part.rows))


def constraints(made: ReferenceData) -> list[Constraint]:
    """A lattice and three elastic constants, told six times over as symmetry does."""
    lattice = made.energies(1)
    elastic = made.rows(3, 50.0)
    rotated = np.linalg.qr(np.random.default_rng(3).normal(size=(6, 6)))[0][:, :3]
    return [
        Constraint("energy", lattice, lattice @ made.pinned, 1.0),
        Constraint("elastic", rotated @ elastic, rotated @ (elastic @ made.pinned), 100.0),
    ]


def test_the_design_is_as_bad_as_those_of_descriptors(
    parts: tuple[ReferenceData, dict[str, QRAccumulator]],
) -> None:
    raw = combined(parts[1], energy=10.0, forces=1.0).factor[:, :-1]
    assert np.linalg.cond(raw) > 1e8
    assert np.linalg.cond(raw / np.linalg.norm(raw, axis=0)) > 1e6


@pytest.mark.parametrize("alpha", [None, 1e-6])
def test_constraints_hold_and_errors_stay_near_the_noise(
    parts: tuple[ReferenceData, dict[str, QRAccumulator]], alpha: float | None
) -> None:
    made, kinds = parts
    soft = combined(kinds, energy=10.0, forces=1.0)
    hard = constraints(made)
    control = solve_validated(soft, kinds["validation"])
    held = solve_validated(soft, kinds["validation"], hard, alpha=alpha)
    assert (held.rank, held.redundant) == (4, 3)
    assert held.violation < (1e-9 if alpha is None else 1e-5)
    missed = [np.abs((c.rows @ control.coefficients - c.target) / c.scale).max() for c in hard]
    assert max(missed) > 1e-3
    assert rms(kinds["validation"], control) < 0.022
    assert rms(kinds["validation"], held) < 0.03
    # nothing that meets the constraints is better in what is fitted
    pinned = solve(soft, hard, ridge=held.ridge)
    assert soft.residual(pinned.coefficients) < 1.001 * soft.residual(made.pinned)
    assert soft.residual(held.coefficients) < 1.001 * soft.residual(made.pinned)
    assert rms(kinds["energy"], held) < 2.0 * np.sqrt(kinds["energy"].residual(made.pinned) / CELLS)
    again = solve(soft, hard, ridge=held.ridge, alpha=alpha)
    np.testing.assert_array_equal(again.coefficients, held.coefficients)


def test_a_weight_is_chosen_on_the_front_without_the_rows(
    parts: tuple[ReferenceData, dict[str, QRAccumulator]],
) -> None:
    _, kinds = parts
    points = []
    for weight in (0.0, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0):
        soft = combined(kinds, energy=10.0, forces=1.0, ghost=weight)
        found = solve(soft, ridge=1e-8)
        points.append(
            FrontPoint(
                weight=weight, forces=rms(kinds["forces"], found), ghost=rms(kinds["ghost"], found)
            )
        )
    forces = [point.forces for point in points]
    ghosts = [point.ghost for point in points]
    assert forces == sorted(forces)
    assert ghosts == sorted(ghosts, reverse=True)
    chosen = best_affordable(points, 0.2)
    assert 0 < chosen < len(points) - 1
    assert forces[chosen] <= 1.2 * forces[0]
    assert ghosts[chosen] < 0.9 * ghosts[0]
