"""What is refused as another structure, what passes, and when frames are compared."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from cells import fcc, frame_of, silicon
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from mixserver.core.errors import UpstreamError
from mixserver.core.frame import Frame, Topology
from mixserver.core.units import BOHR
from mixserver.geometry.placement import compare
from mixserver.server.reference.comparison import ReferenceUse, StructureComparison, mismatch

REFERENCE = silicon(4, rattle=0.0)
COUNT = len(REFERENCE)
EVERYTHING = ReferenceUse(places=True, order=True)
ELEMENTS = ReferenceUse(places=False, order=False)
rngs = st.integers(0, 2**32 - 1).map(np.random.default_rng)


def _frame(positions: np.ndarray, cell: np.ndarray = REFERENCE.cell) -> Frame:
    return frame_of(positions, cell)


def _words(frame: Frame, uses: ReferenceUse = EVERYTHING, reference: Frame = REFERENCE) -> str:
    return mismatch(compare(reference, frame), reference, frame, uses)


def _heat(size: float, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(0.0, size, (COUNT, 3))


def _sorted(positions: np.ndarray) -> np.ndarray:
    return positions[np.lexsort(np.round(positions, 3).T)]


def _two_elements() -> Frame:
    """Zinc blende in an order in which the elements come one after the other."""
    numbers = np.tile(np.repeat(np.array([14, 6], np.int32), 4), COUNT // 8)
    order = np.argsort(numbers, kind="stable")
    return Topology(numbers[order]).frame(REFERENCE.positions[order], REFERENCE.cell)


# --- refused ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ratio", "words"),
    [
        (BOHR, "0.5292 times as large, so what the structure has in Å i-PI reads as bohr"),
        (1.0 / BOHR, "1.8897 times as large, so what i-PI takes as Å was read as bohr"),
        (10.0, "nm"),
        (0.1, "nm"),
        (1.4, "1.4000 times as large, another volume"),
    ],
)
@pytest.mark.parametrize("heat", [0.0, 0.1])
def test_another_unit_is_refused(ratio: float, words: str, heat: float) -> None:
    frame = _frame((REFERENCE.positions + _heat(heat)) * ratio, REFERENCE.cell * ratio)
    assert words in _words(frame)


@pytest.mark.parametrize("ratio", [BOHR, 1.0 / BOHR])
def test_positions_alone_in_another_unit_are_refused(ratio: float) -> None:
    words = _words(_frame(REFERENCE.positions * ratio))
    assert f"its positions are {ratio:.4f} times as large" in words


def test_another_supercell_of_the_same_crystal_is_refused() -> None:
    cell = REFERENCE.cell * [[0.5], [2.0], [1.0]]
    assert "another supercell, by factors from 0.500 to 2.000" in _words(
        _frame(REFERENCE.fractional @ cell, cell)
    )


def test_other_vectors_of_the_same_lattice_are_refused() -> None:
    cell = np.array([[1.0, 0.0, 0.0], [-1.0, 1.0, 0.0], [0.0, 0.0, 1.0]]) @ REFERENCE.cell
    assert "the same lattice, but other vectors span it" in _words(
        _frame(REFERENCE.positions, cell)
    )


ORDERS = {
    "sorted": _sorted(REFERENCE.positions),
    "reversed": REFERENCE.positions[::-1],
    "random": REFERENCE.positions[np.random.default_rng(5).permutation(COUNT)],
    "axes exchanged": REFERENCE.positions[:, [1, 0, 2]],
    "turned by a quarter in its cell": REFERENCE.positions @ [[0, 1, 0], [-1, 0, 0], [0, 0, 1.0]],
}


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("heat", [0.0, 0.12])
def test_equal_atoms_in_another_order_are_refused(order: str, heat: float) -> None:
    words = _words(_frame(ORDERS[order] + _heat(heat) + [1.3, 0.0, -4.0]))
    assert "equal atoms in another order" in words
    assert "mixserver reorder" in words


@given(rngs)
def test_a_tenth_of_the_atoms_in_another_order_is_refused(rng: np.random.Generator) -> None:
    mixed = rng.choice(COUNT, COUNT // 9, replace=False)
    positions = REFERENCE.positions.copy()
    positions[mixed] = positions[np.roll(mixed, 1)]
    assert "equal atoms in another order" in _words(_frame(positions))


def test_elements_in_another_order_are_always_refused() -> None:
    reference = _two_elements()
    frame = reference.topology.frame(REFERENCE.positions, REFERENCE.cell)
    words = _words(frame, ELEMENTS, reference)
    assert "atoms, of other elements too, in another order" in words
    assert "(C)" in words
    assert "(Si)" in words


# --- passes ----------------------------------------------------------------------------------


def _glided() -> np.ndarray:
    positions = REFERENCE.positions.copy()
    positions[REFERENCE.fractional[:, 2] > 0.47] += [2.715, 2.715, 0.0]
    return positions


def _exchanged(atoms: tuple[int, ...]) -> np.ndarray:
    positions = REFERENCE.positions.copy()
    positions[list(atoms)] = positions[list(np.roll(atoms, 1))]
    return positions


TURN = np.linalg.qr(np.random.default_rng(1).normal(size=(3, 3)))[0]
SHEAR = np.eye(3) + np.triu(np.random.default_rng(2).uniform(-0.08, 0.08, (3, 3)))
MELT = np.random.default_rng(3).random((COUNT, 3)) @ REFERENCE.cell
LEGITIMATE = {
    "the same": (REFERENCE.positions, np.eye(3)),
    "hot": (REFERENCE.positions + _heat(0.15), np.eye(3)),
    "very hot": (REFERENCE.positions + _heat(0.35), np.eye(3)),
    "shifted": (REFERENCE.positions + np.array([11.0, -3.0, 0.4]), np.eye(3)),
    "shifted by a lattice vector of the crystal": (
        REFERENCE.positions + np.array([2.715, 2.715, 0.0]),
        np.eye(3),
    ),
    "shifted and hot": (REFERENCE.positions + _heat(0.15) + [11.0, -3.0, 0.4], np.eye(3)),
    "wrapped elsewhere": (
        REFERENCE.positions + np.random.default_rng(4).integers(-2, 3, (COUNT, 3)) * 21.72,
        np.eye(3),
    ),
    "turned": (REFERENCE.positions + _heat(0.1), TURN),
    "mirrored": (REFERENCE.positions + _heat(0.1), -TURN),
    "inverted": (REFERENCE.positions, -np.eye(3)),
    "strained by a barostat": (REFERENCE.positions + _heat(0.1), SHEAR),
    "expanded by a fifth": (REFERENCE.positions, 1.2 * np.eye(3)),
    "molten": (MELT, np.eye(3)),
    "a block has glided": (_glided(), np.eye(3)),
    "a block has glided, hot": (_glided() + _heat(0.1), np.eye(3)),
    "two atoms exchanged, as by a saddle point": (_exchanged((3, 40)), np.eye(3)),
    "a ring of three": (_exchanged((3, 40, 77)), np.eye(3)),
    "a fifteenth diffused": (
        _exchanged(tuple(np.random.default_rng(6).choice(COUNT, COUNT // 15, replace=False))),
        np.eye(3),
    ),
}


@pytest.mark.parametrize("case", LEGITIMATE)
def test_what_is_legitimate_passes(case: str) -> None:
    positions, deform = LEGITIMATE[case]
    assert _words(_frame(positions @ deform, REFERENCE.cell @ deform)) == ""


def test_melting_step_by_step_passes_all_the_way() -> None:
    for part in np.linspace(0.0, 1.0, 11):
        assert _words(_frame((1.0 - part) * REFERENCE.positions + part * MELT)) == ""


def test_images_of_a_path_pass() -> None:
    """An atom walks into a vacancy, then its neighbour into the site that it left."""
    reference = frame_of(REFERENCE.positions[1:].copy(), REFERENCE.cell)
    distance = np.linalg.norm(reference.positions - REFERENCE.positions[0], axis=1)
    first = int(distance.argmin())
    away = np.linalg.norm(reference.positions - reference.positions[first], axis=1)
    second = int(np.argsort(away)[1])
    positions = reference.positions.copy()
    for part in (0.5, 1.0):
        there = positions.copy()
        there[first] += part * (REFERENCE.positions[0] - positions[first])
        assert _words(_frame(there), reference=reference) == ""
    there[second] = positions[first]
    assert _words(_frame(there), reference=reference) == ""


def test_a_molecule_that_tumbles_in_its_box_passes() -> None:
    rng = np.random.default_rng(8)
    atoms = fcc(2, 4.0, rattle=0.05).positions
    reference = frame_of(atoms, np.eye(3) * 30.0)
    for _ in range(5):
        turn = np.linalg.qr(rng.normal(size=(3, 3)))[0]
        assert _words(_frame(atoms @ turn + 7.0, reference.cell), reference=reference) == ""


def test_beads_of_a_ring_polymer_pass() -> None:
    numbers = np.where(np.arange(COUNT) % 2, 1, 8).astype(np.int32)
    reference = Topology(numbers).frame(REFERENCE.positions, REFERENCE.cell)
    for seed in range(8):
        spread = _heat(1.0, seed) * np.where(numbers == 1, 0.25, 0.05)[:, None]
        frame = reference.topology.frame(REFERENCE.positions + spread, REFERENCE.cell)
        assert _words(frame, reference=reference) == ""


def test_what_is_not_taken_from_the_structure_may_differ() -> None:
    bohr = _frame(REFERENCE.positions * BOHR, REFERENCE.cell * BOHR)
    assert _words(bohr, ELEMENTS) == ""
    assert _words(_frame(ORDERS["random"]), ELEMENTS) == ""
    assert _words(_frame(ORDERS["random"]), ReferenceUse(places=True, order=False)) == ""
    assert _words(bohr, ReferenceUse(places=True, order=False)) != ""


# --- when ------------------------------------------------------------------------------------


def _walk(steps: int, start: np.ndarray, seed: int = 0) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    moves = rng.normal(0.0, 0.02, (steps, *start.shape))
    walk: list[np.ndarray] = list(start + np.cumsum(moves, axis=0))
    return walk


def test_a_trajectory_is_compared_once() -> None:
    comparison = StructureComparison(REFERENCE, EVERYTHING)
    drift = np.array([0.05, 0.0, 0.0])
    cell = REFERENCE.cell
    for step, positions in enumerate(_walk(300, REFERENCE.positions)):
        cell = cell * (1.0 + 1e-4 * np.sin(0.1 * step))
        frame = _frame(positions + step * drift, cell)
        comparison.check(frame if step % 2 else _frame(frame.wrapped, cell))
    assert comparison.compared == 1


def test_replicas_are_compared_each_and_followed() -> None:
    starts = [REFERENCE.positions + _heat(0.4, seed) for seed in range(5)]
    walks = [_walk(20, start, seed) for seed, start in enumerate(starts)]
    comparison = StructureComparison(REFERENCE, EVERYTHING)
    for positions in zip(*walks, strict=True):
        for one in positions:
            comparison.check(_frame(one))
    assert comparison.compared == 5
    for positions in reversed(walks):  # in another order, as several connections ask
        comparison.check(_frame(positions[-1]))
    assert comparison.compared == 5


def test_a_replica_in_another_order_is_refused_after_one_that_was_right() -> None:
    comparison = StructureComparison(REFERENCE, EVERYTHING)
    comparison.check(_frame(REFERENCE.positions))
    with pytest.raises(UpstreamError, match="another order"):
        comparison.check(_frame(ORDERS["sorted"]))
    with pytest.raises(UpstreamError, match="another order"):  # i-PI asks again
        comparison.check(_frame(ORDERS["sorted"]))
    comparison.check(_frame(REFERENCE.positions))


def test_another_unit_after_a_reconnect_is_refused() -> None:
    """All lengths are scaled, so that fractions of the cell are the same."""
    comparison = StructureComparison(REFERENCE, EVERYTHING)
    comparison.check(_frame(REFERENCE.positions))
    with pytest.raises(UpstreamError, match="bohr"):
        comparison.check(_frame(REFERENCE.positions * BOHR, REFERENCE.cell * BOHR))


def test_copies_that_are_turned_in_turn_are_one_replica() -> None:
    comparison = StructureComparison(REFERENCE, EVERYTHING)
    rng = np.random.default_rng(2)
    for positions in _walk(10, REFERENCE.positions):
        for _ in range(4):
            turn = np.linalg.qr(rng.normal(size=(3, 3)))[0]
            comparison.check(_frame(positions @ turn, REFERENCE.cell @ turn))
    assert comparison.compared == 1


def test_a_cell_that_creeps_far_is_no_other_cell() -> None:
    comparison = StructureComparison(REFERENCE, EVERYTHING)
    for size in np.linspace(1.0, 1.6, 200):
        comparison.check(_frame(REFERENCE.positions * size, REFERENCE.cell * size))
    assert comparison.compared == 1


@pytest.mark.parametrize("settings", [{"refuse": False}, {"resumed": True}])
def test_what_is_meant_goes_on_with_a_warning(settings: dict[str, bool]) -> None:
    comparison = StructureComparison(REFERENCE, EVERYTHING, **settings)
    with capture_logs() as logs:
        comparison.check(_frame(ORDERS["sorted"]))
        comparison.check(_frame(ORDERS["sorted"] + 0.01))
    (warning,) = [entry for entry in logs if entry["log_level"] == "warning"]
    assert "another order" in warning["why"]
    assert comparison.compared == 1


def test_what_was_compared_is_logged() -> None:
    moved = REFERENCE.positions + np.array([2.0, 0.0, 0.0])
    frame = _frame(moved @ TURN * 1.01, REFERENCE.cell @ TURN * 1.01)
    with capture_logs() as logs:
        StructureComparison(REFERENCE, EVERYTHING).check(frame)
    (entry,) = logs
    assert entry["event"] == "i-PI's positions compared with the structure"
    assert entry["cell_within_percent"] == pytest.approx(1.0)
    assert entry["shifted"] == pytest.approx(2.02)
    assert entry["rms_displacement"] == pytest.approx(0.0, abs=1e-6)
    assert entry["turned_degrees"] > 1.0


def test_a_body_fixed_in_space_is_told_of_a_shift() -> None:
    with capture_logs() as logs:
        StructureComparison(REFERENCE, ReferenceUse(order=False, bodies=True)).check(
            _frame(REFERENCE.positions + np.array([2.0, 0.0, 0.0]))
        )
    (warning,) = [entry for entry in logs if entry["log_level"] == "warning"]
    assert "fixed in space" in warning["event"]
    assert warning["shift"] == [2.0, 0.0, 0.0]


def test_small_systems_are_told_apart_too() -> None:
    cell = np.eye(3) * 4.0
    reference = frame_of(np.array([[0.0, 0, 0], [2.0, 2.0, 0], [2.0, 0, 2.0]]), cell)
    comparison = StructureComparison(reference, EVERYTHING)
    for at in itertools.islice(itertools.cycle(range(3)), 9):
        comparison.check(frame_of(np.roll(reference.positions, at, axis=0), cell))
    assert comparison.compared == 3  # fewer than four atoms exchanged: as by a saddle point


def test_a_structure_search_that_jumps_stays_quick_and_is_never_refused() -> None:
    """Every structure is another one, and each is relaxed in small steps."""
    comparison = StructureComparison(REFERENCE, EVERYTHING)
    rng = np.random.default_rng(11)
    with capture_logs() as logs:
        for _ in range(40):
            start = rng.random((COUNT, 3)) @ REFERENCE.cell
            for positions in _walk(3, start):
                comparison.check(_frame(positions))
    assert comparison.compared == 40
    assert [entry["log_level"] for entry in logs] == ["info"] * 32 + ["debug"] * 8


def _swapping(comparison: StructureComparison, swaps: int) -> None:
    """Exchanges of two elements that are tried one after the other, every other one taken back."""
    reference = _two_elements()
    numbers = reference.topology.numbers
    rng, positions = np.random.default_rng(13), reference.positions.copy()
    for step in range(swaps):
        tried = positions + rng.normal(0.0, 0.02, positions.shape)
        i, j = (rng.choice(np.flatnonzero(numbers == z)) for z in (6, 14))
        tried[[i, j]] = tried[[j, i]]
        comparison.check(reference.topology.frame(tried, reference.cell))
        positions = tried if step % 2 else positions


def test_atoms_that_monte_carlo_exchanges_pass_where_that_is_allowed() -> None:
    comparison = StructureComparison(_two_elements(), ReferenceUse(order=False, swaps=True))
    _swapping(comparison, 2 * COUNT)
    assert comparison.compared == 1
    with pytest.raises(UpstreamError, match="another order"):  # all of them at once
        comparison.check(_two_elements().topology.frame(ORDERS["random"], REFERENCE.cell))
    with pytest.raises(UpstreamError, match="another order"):
        _swapping(StructureComparison(_two_elements(), ReferenceUse(order=False)), 2 * COUNT)


def test_a_thousand_replicas_are_told_apart() -> None:
    cell = np.eye(3) * 20.0
    reference = frame_of(np.array([[0.0, 0, 0], [2.0, 2.0, 0], [2.0, 0, 2.0]]), cell)
    comparison = StructureComparison(reference, ReferenceUse(places=False, order=False))
    starts = np.random.default_rng(12).random((1000, 3, 3)) @ cell
    for step in range(3):
        for start in starts:
            comparison.check(frame_of(start + 0.01 * step, cell))
    assert comparison.compared == 1000
