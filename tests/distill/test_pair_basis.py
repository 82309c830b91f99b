import numpy as np
import pytest
from cells import fcc, silicon
from hypothesis import given, settings
from hypothesis import strategies as st
from mixserver_worker.engines.toy import ToyEngine
from tolerance import EXACT, FINITE_DIFFERENCE

from mixserver.core.frame import Frame
from mixserver.distill.data.labels import Structure
from mixserver.distill.fitting.pair_basis import PairBasis, pair_rows
from mixserver.wire.worker import Evaluate

BASIS = PairBasis(functions=12, inner=1.9, cutoff=5.7, elements=("Si",))


def structure(frame: Frame, groups: int = 3, seed: int = 1) -> Structure:
    group = np.random.default_rng(seed).integers(0, groups, len(frame)).astype(np.int32)
    group[:groups] = np.arange(groups)
    return Structure(
        "x", "hot", frame.topology.numbers, frame.positions, frame.cell, group.astype(np.int32)
    )


def sheared(frame: Frame, seed: int = 0) -> Frame:
    deformation = np.eye(3) + np.random.default_rng(seed).normal(0.0, 0.05, (3, 3))
    return frame.topology.frame(frame.positions @ deformation, frame.cell @ deformation)


def test_functions_end_flat_and_go_on_straight() -> None:
    value, slope = BASIS.values(np.array([5.7, 5.7 - 1e-5, 6.5, 1.5, 1.7, 1.9]))
    assert np.all(value[[0, 2]] == 0.0)
    assert np.all(slope[[0, 2]] == 0.0)
    assert np.abs(value[1]).max() < 1e-12
    assert np.abs(slope[1]).max() < 1e-8
    np.testing.assert_allclose(slope[3], slope[5], atol=1e-12)
    np.testing.assert_allclose(value[5] - value[3], 0.4 * slope[5], atol=1e-12)
    assert np.abs(value[5]).max() > 0.1


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_slopes_are_those_of_the_functions(seed: int) -> None:
    r = np.random.default_rng(seed).uniform(1.5, 6.0, 50)
    h = 1e-6
    above, below = BASIS.values(r + h)[0], BASIS.values(r - h)[0]
    np.testing.assert_allclose((above - below) / (2 * h), BASIS.values(r)[1], atol=1e-6)


def test_a_known_potential_is_found_again() -> None:
    """Splines fitted to a curve give that curve's energies, forces and virials, group by group."""
    toy = ToyEngine(epsilon=0.1, sigma=2.2, cutoff=5.0)
    basis = PairBasis(functions=120, inner=2.0, cutoff=6.0, elements=("Si",))
    r = np.linspace(2.0, 6.0, 4000)
    inside = r < 5.0
    six, (edge6, edge) = (2.2 / r) ** 6, ((2.2 / 5.0) ** 6, 5.0)
    phi = 0.4 * (six**2 - six)
    at_edge = 0.4 * (edge6**2 - edge6)
    slope_at_edge = 0.4 * (-12 * edge6**2 + 6 * edge6) / edge
    curve = np.where(inside, phi - at_edge - (r - edge) * slope_at_edge, 0.0)
    coefficients = np.linalg.lstsq(basis.values(r)[0], curve, rcond=None)[0]
    frame = sheared(fcc(2, 3.9, rattle=0.05))
    what = structure(frame)
    rows = pair_rows(what, basis) @ coefficients
    for group in range(3):
        answer = toy.evaluate(
            Evaluate(
                job=1,
                stream=1,
                positions=what.positions,
                numbers=what.numbers,
                cell=what.cell,
                pbc=(True, True, True),
                weight=(what.group == group).astype(np.float64),
            )
        )
        assert rows[group, 0] == pytest.approx(answer.energy, abs=2e-4)
        np.testing.assert_allclose(rows[group, 1:-6], answer.forces.ravel(), atol=2e-3)
        voigt = answer.virial[(0, 1, 2, 1, 0, 0), (0, 1, 2, 2, 2, 1)]
        np.testing.assert_allclose(rows[group, -6:], voigt, atol=5e-3)


def test_rows_are_gradients() -> None:
    what = structure(sheared(silicon(1)))
    coefficients = np.random.default_rng(5).normal(size=BASIS.columns)
    rows = pair_rows(what, BASIS) @ coefficients
    h = 1e-5
    for atom, axis in ((0, 0), (3, 1), (7, 2)):
        moved = []
        for sign in (1, -1):
            positions = what.positions.copy()
            positions[atom, axis] += sign * h
            at = Structure("x", "hot", what.numbers, positions, what.cell, what.group)
            moved.append((pair_rows(at, BASIS) @ coefficients)[:, 0])
        slope = (moved[0] - moved[1]) / (2 * h)
        np.testing.assert_allclose(
            -slope, rows[:, 1 + 3 * atom + axis], atol=100 * FINITE_DIFFERENCE
        )
    for row, (i, j) in enumerate(((0, 0), (1, 1), (2, 2), (1, 2), (0, 2), (0, 1))):
        moved = []
        for sign in (1, -1):
            e = np.eye(3)
            e[i, j] += sign * h / 2
            e[j, i] += sign * h / 2
            at = Structure("x", "hot", what.numbers, what.positions @ e, what.cell @ e, what.group)
            moved.append((pair_rows(at, BASIS) @ coefficients)[:, 0])
        slope = (moved[0] - moved[1]) / (2 * h)
        np.testing.assert_allclose(-slope, rows[:, -6 + row], atol=1000 * FINITE_DIFFERENCE)


def test_elements_have_columns_of_their_own() -> None:
    basis = PairBasis(functions=6, inner=1.9, cutoff=4.0, elements=("Si", "C"))
    frame = silicon(1)
    what = structure(frame)
    numbers = what.numbers.copy()
    numbers[::3] = 6
    mixed = Structure("x", "hot", numbers, what.positions, what.cell, what.group)
    rows = pair_rows(mixed, basis)
    assert rows.shape == (3, 1 + 3 * len(frame) + 6, 18)
    assert basis.pairs == ((0, 0), (0, 1), (1, 1))
    # all pairs alike: the sum over pairs of elements is what one element has
    plain = pair_rows(what, PairBasis(functions=6, inner=1.9, cutoff=4.0, elements=("Si",)))
    np.testing.assert_allclose(rows.reshape(3, -1, 3, 6).sum(axis=2), plain, atol=EXACT)


def test_roughness_is_nothing_for_what_is_straight_and_ends() -> None:
    rough = BASIS.roughness()
    assert rough.shape == (12, 12)
    falling = np.arange(12.0)[::-1] + 1.0
    assert np.abs(rough[:-1] @ falling).max() < EXACT
    assert np.abs(rough @ np.random.default_rng(0).normal(size=12)).max() > 0.1


@pytest.mark.parametrize(
    ("functions", "inner", "cutoff"), [(2, 1.0, 5.0), (10, 5.0, 4.0), (10, 0.0, 4.0)]
)
def test_nonsense_is_refused(functions: int, inner: float, cutoff: float) -> None:
    with pytest.raises(ValueError, match=r"it must|needs"):
        PairBasis(functions=functions, inner=inner, cutoff=cutoff, elements=("Si",))
