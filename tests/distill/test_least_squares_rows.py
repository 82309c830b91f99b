import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mixserver.core.errors import ConfigError
from mixserver.distill.fitting.qr import QRAccumulator


def normal(rows: int, columns: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.normal(size=(rows, columns)), rng.normal(size=rows)


def told(matrix: np.ndarray, target: np.ndarray) -> QRAccumulator:
    made = QRAccumulator(matrix.shape[1])
    made.add(matrix, target)
    return made


@settings(max_examples=60)
@given(
    columns=st.integers(1, 8),
    cuts=st.lists(st.integers(0, 9), min_size=1, max_size=7),
    seed=st.integers(0, 999),
    data=st.data(),
)
def test_blocks_in_any_order_say_the_same(
    columns: int, cuts: list[int], seed: int, data: st.DataObject
) -> None:
    matrix, target = normal(sum(cuts), columns, seed)
    ends = np.cumsum(cuts)
    blocks = [np.arange(end - size, end) for size, end in zip(cuts, ends, strict=True)]
    split = QRAccumulator(columns)
    for at in data.draw(st.permutations(range(len(blocks)))):
        split.add(matrix[blocks[at]], target[blocks[at]])
    both = np.column_stack([matrix, target])
    np.testing.assert_allclose(split.factor.T @ split.factor, both.T @ both, atol=1e-11)
    assert split.rows == len(target)
    assert len(split.factor) <= columns + 1
    c = np.random.default_rng(seed + 1).normal(size=columns)
    assert split.residual(c) == pytest.approx(np.sum((matrix @ c - target) ** 2), rel=1e-11)


@settings(max_examples=30)
@given(weights=st.lists(st.floats(-1e3, 1e3), min_size=12, max_size=12), seed=st.integers(0, 99))
def test_rows_have_weights_of_their_own(weights: list[float], seed: int) -> None:
    matrix, target = normal(12, 3, seed)
    by_row, one_by_one = QRAccumulator(3), QRAccumulator(3)
    by_row.add(matrix, target, np.array(weights))
    for at, weight in enumerate(weights):
        one_by_one.add(matrix[at : at + 1], target[at : at + 1], weight)
    c = np.ones(3)
    expected = np.sum((np.array(weights) * (matrix @ c - target)) ** 2)
    assert by_row.residual(c) == pytest.approx(expected, rel=1e-10, abs=1e-12)
    assert one_by_one.residual(c) == pytest.approx(expected, rel=1e-10, abs=1e-12)


def test_kinds_are_combined_afterwards() -> None:
    (a, y), (b, z) = normal(40, 5, 1), normal(9, 5, 2)
    energy, forces = told(b, z), told(a, y)
    before = energy.factor.copy()
    both = QRAccumulator(5)
    both.merge(forces)
    both.merge(energy, 30.0)
    c = np.linspace(-1.0, 1.0, 5)
    expected = forces.residual(c) + 900.0 * energy.residual(c)
    assert both.residual(c) == pytest.approx(expected, rel=1e-12)
    assert energy.scaled(30.0).residual(c) == pytest.approx(900.0 * energy.residual(c), rel=1e-12)
    assert (both.rows, energy.rows, energy.scaled(0.0).rows) == (49, 9, 9)
    np.testing.assert_array_equal(energy.factor, before)


def test_what_is_given_is_neither_kept_nor_changed() -> None:
    matrix, target = normal(2, 4, 3)
    made = told(matrix, target)
    kept = matrix.copy()
    left = float(np.sum((matrix @ np.ones(4) - target) ** 2))
    matrix += 1.0
    assert made.residual(np.ones(4)) == pytest.approx(left, rel=1e-12)
    np.testing.assert_array_equal(matrix, kept + 1.0)


def test_nothing_leaves_nothing_over() -> None:
    empty = QRAccumulator(3)
    empty.add(np.zeros((0, 3)), np.zeros(0))
    empty.merge(QRAccumulator(3))
    assert empty.residual(np.ones(3)) == 0.0
    assert empty.factor.shape == (0, 4)


def test_small_residuals_are_not_lost_beside_large_rows() -> None:
    """Sums of squares would have lost a residual of 1e-9 beside rows of 1e3."""
    matrix, _ = normal(200, 4, 5)
    matrix *= 1e3
    c = np.array([1.0, -2.0, 0.5, 3.0])
    off = 1e-9 * np.random.default_rng(6).normal(size=200)
    target = matrix @ c + off
    exact = np.sum((matrix @ c - target) ** 2)
    assert told(matrix, target).residual(c) == pytest.approx(exact, rel=2e-2)
    squares = target @ target - 2 * c @ (matrix.T @ target) + c @ (matrix.T @ matrix) @ c
    assert abs(squares - exact) > 1e3 * exact


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("in_target", [True, False])
def test_rows_that_are_not_finite_are_refused(bad: float, in_target: bool) -> None:
    matrix, target = normal(5, 2, 0)
    (target if in_target else matrix[:, 1])[3] = bad
    made = QRAccumulator(2)
    with pytest.raises(ConfigError, match=r"row 3 of 5 of hot-007 is not finite.*label"):
        made.add(matrix, target, source="hot-007")
    assert made.rows == 0
    assert made.residual(np.ones(2)) == 0.0


def test_shapes_that_do_not_fit_are_refused() -> None:
    made = QRAccumulator(3)
    with pytest.raises(ValueError, match="do not fit 3 coefficients"):
        made.add(np.zeros((4, 2)), np.zeros(4))
    with pytest.raises(ValueError, match="do not fit 3 coefficients"):
        made.add(np.zeros((4, 3)), np.zeros(5))
    with pytest.raises(ValueError, match="do not fit 3 coefficients"):
        made.add(np.zeros((4, 3)), np.zeros((4, 1)))
    with pytest.raises(ValueError, match="finite weights"):
        made.add(np.zeros((4, 3)), np.zeros(4), np.ones(3))
    with pytest.raises(ValueError, match="finite weights"):
        made.add(np.zeros((4, 3)), np.zeros(4), float("nan"))
    with pytest.raises(ValueError, match="finite weight"):
        made.merge(QRAccumulator(3), float("inf"))
    with pytest.raises(ValueError, match="2 and 3 coefficients"):
        made.merge(QRAccumulator(2))
    with pytest.raises(ValueError, match="need a coefficient"):
        QRAccumulator(0)
