"""The toy engine keeps every rule, in every kind of cell."""

from __future__ import annotations

import time

import numpy as np
import pytest
from mixserver_worker.conformance import System, check_engine, evaluate
from mixserver_worker.engine import EngineResult
from mixserver_worker.engines.toy import ToyEngine

from mixserver.core.errors import BadInput, ConfigError

SAME_SUM = 1e-12

CELLS = {
    "cubic": (np.eye(3) * 11.0, (True, True, True)),
    "tilted": (np.array([[9.0, 0.0, 0.0], [3.0, 8.0, 0.0], [-2.0, 4.0, 10.0]]), (True, True, True)),
    "left-handed": (np.array([[0.0, 9.0, 1.0], [8.0, 1.0, 0.0], [0.5, 1.0, 9.5]]), (True,) * 3),
    "slab": (np.array([[9.0, 2.0, 0.0], [0.0, 8.0, 1.0], [0.0, 1.0, 10.0]]), (True, True, False)),
    "wire": (np.array([[9.0, 2.0, 0.0], [0.0, 8.0, 1.0], [0.0, 1.0, 10.0]]), (False, True, False)),
    "free": (np.array([[9.0, 2.0, 0.0], [0.0, 8.0, 1.0], [0.0, 1.0, 10.0]]), (False,) * 3),
}


def liquid(cell: np.ndarray, pbc: tuple[bool, bool, bool], n: int = 16) -> System:
    """Atoms on a distorted grid, none too close."""
    dice = np.random.default_rng(1)
    side = round(np.ceil(n ** (1 / 3)))
    grid = np.stack(np.meshgrid(*[np.arange(side) / side] * 3, indexing="ij"), -1).reshape(-1, 3)[
        :n
    ]
    positions = grid @ cell + dice.normal(scale=0.15, size=(n, 3))
    return System(positions, dice.choice([14, 18], n).astype(np.int32), cell, pbc)


@pytest.mark.parametrize("name", CELLS)
def test_conforms_in_every_cell(name: str) -> None:
    check_engine(ToyEngine(), liquid(*CELLS[name]))


def test_zero_conforms() -> None:
    check_engine(ToyEngine("zero"), liquid(*CELLS["tilted"]))


def test_conforms_in_a_cell_smaller_than_the_cutoff() -> None:
    check_engine(ToyEngine(sigma=1.8, cutoff=7.0), liquid(np.eye(3) * 4.0 + 0.3, (True,) * 3, 3))


def brute(engine: ToyEngine, system: System, copies: int) -> float:
    """Energy by a plain sum over the images of every pair."""
    epsilon, sigma, cutoff = 0.01, 2.5, 6.0

    def phi(r: float) -> float:
        return 4 * epsilon * ((sigma / r) ** 12 - (sigma / r) ** 6)

    h = 1e-6
    slope = (phi(cutoff + h) - phi(cutoff - h)) / (2 * h)
    energy = 0.0
    ranges = [range(-copies, copies + 1) if p else range(1) for p in system.pbc]
    for i, a in enumerate(system.positions):
        for j, b in enumerate(system.positions):
            for x in ranges[0]:
                for y in ranges[1]:
                    for z in ranges[2]:
                        if i == j and x == y == z == 0:
                            continue
                        r = float(np.linalg.norm(b - a + np.array([x, y, z]) @ system.cell))
                        if r < cutoff:
                            energy += 0.5 * (phi(r) - phi(cutoff) - (r - cutoff) * slope)
    return energy


@pytest.mark.parametrize("name", ["tilted", "wire", "free"])
def test_energy_is_the_plain_sum_over_images(name: str) -> None:
    system = liquid(*CELLS[name], n=8)
    engine = ToyEngine()
    assert evaluate(engine, system).energy == pytest.approx(brute(engine, system, 2), abs=1e-9)


def test_a_free_dimer_has_the_known_energy_and_force() -> None:
    system = System(
        np.array([[0.0, 0, 0], [3.0, 0, 0]]),
        np.array([18, 18], np.int32),
        np.zeros((3, 3)),
        (False,) * 3,
    )
    answer = evaluate(ToyEngine(epsilon=0.02, sigma=2.0, cutoff=5.0), system)
    phi, slope = (
        lambda r: 0.08 * ((2 / r) ** 12 - (2 / r) ** 6),
        lambda r: -0.08 / r * (12 * (2 / r) ** 12 - 6 * (2 / r) ** 6),
    )
    assert answer.energy == pytest.approx(phi(3) - phi(5) + 2 * slope(5), abs=SAME_SUM)
    force = -(slope(3) - slope(5))
    np.testing.assert_allclose(answer.forces[:, 0], [-force, force], atol=SAME_SUM)
    assert answer.virial[0, 0] == pytest.approx(3 * force, abs=SAME_SUM)


def test_two_epsilons_are_two_models() -> None:
    system = liquid(*CELLS["cubic"])
    weak, strong = ToyEngine(epsilon=0.01), ToyEngine(epsilon=0.03)
    assert weak.card.fingerprint != strong.card.fingerprint
    assert weak.card.fingerprint == ToyEngine(epsilon=0.01, seconds=0.1).card.fingerprint
    np.testing.assert_allclose(
        evaluate(strong, system).forces, 3 * evaluate(weak, system).forces, rtol=1e-12
    )


def test_touching_atoms_are_refused() -> None:
    system = liquid(*CELLS["cubic"])
    system.positions[3] = system.positions[5] + system.cell[0]
    with pytest.raises(BadInput, match=r"atoms 3 and 5 are .* apart"):
        evaluate(ToyEngine(), system)


def test_a_system_blown_apart_is_refused() -> None:
    system = liquid(*CELLS["free"])
    system.positions[3] += 1e9
    with pytest.raises(BadInput, match="blown up"):
        evaluate(ToyEngine(), system)


def test_unknown_elements_are_refused() -> None:
    with pytest.raises(BadInput, match=r"knows Si, not Ar\."):
        evaluate(ToyEngine(species=[14]), liquid(*CELLS["cubic"]))


def test_a_flat_cell_is_refused() -> None:
    flat = np.array([[9.0, 0, 0], [0, 9.0, 0], [9.0, 9.0, 0.0]])
    with pytest.raises(BadInput, match="no volume"):
        evaluate(ToyEngine(), liquid(flat, (True,) * 3))


def test_no_atoms_are_no_energy() -> None:
    none = System(np.zeros((0, 3)), np.zeros(0, np.int32), np.eye(3) * 9, (True,) * 3)
    answer: EngineResult = evaluate(ToyEngine(), none, criterion="coord/atom cutoff 3")
    assert answer.energy == 0.0


@pytest.mark.parametrize("settings", [{"kind": "eam"}, {"sigma": 0.0}, {"cutoff": float("nan")}])
def test_nonsense_settings_are_refused(settings: dict[str, float]) -> None:
    with pytest.raises(ConfigError):
        ToyEngine(**settings)


@pytest.mark.parametrize(
    "criterion", ["centro/atom 8", "coord/atom cutoff x", "coord/atom cutoff -1"]
)
def test_unknown_criteria_are_refused(criterion: str) -> None:
    with pytest.raises(BadInput):
        evaluate(ToyEngine(), liquid(*CELLS["cubic"]), criterion=criterion)


def test_it_can_play_a_slow_model() -> None:
    started = time.perf_counter()
    evaluate(ToyEngine("zero", seconds=0.05), liquid(*CELLS["cubic"]))
    assert time.perf_counter() - started >= 0.05
