from itertools import pairwise
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.linalg.lapack import dgglse

from mixserver.core.errors import ConfigError
from mixserver.distill.fitting.qr import QRAccumulator
from mixserver.distill.fitting.solve import RIDGES, Constraint, Solution, solve, solve_validated

Array = NDArray[np.float64]


class Problem(NamedTuple):
    """Soft rows and constraints that can be met."""

    matrix: Array
    target: Array
    hard: Array
    aims: Array

    @property
    def soft(self) -> QRAccumulator:
        return told(self.matrix, self.target)

    @property
    def constraints(self) -> list[Constraint]:
        """One for each row."""
        return [
            Constraint(f"c{at}", row[None], aim[None], 1.0)
            for at, (row, aim) in enumerate(zip(self.hard, self.aims, strict=True))
        ]

    def left(self, coefficients: Array) -> float:
        return float(np.sum((self.matrix @ coefficients - self.target) ** 2))


def told(matrix: Array, target: Array) -> QRAccumulator:
    made = QRAccumulator(matrix.shape[1])
    made.add(matrix, target)
    return made


def problem(p: int, m: int, seed: int, rows: int = 40) -> Problem:
    rng = np.random.default_rng(seed)
    hard = rng.normal(size=(m, p))
    return Problem(
        rng.normal(size=(rows, p)), rng.normal(size=rows), hard, hard @ rng.normal(size=p)
    )


problems = st.builds(
    lambda p, m, seed: problem(p, min(m, p - 1), seed),
    st.integers(2, 9),
    st.integers(1, 6),
    st.integers(0, 9999),
)


def violation(solution: Solution, hard: Array, aims: Array) -> float:
    return float(np.abs(hard @ solution.coefficients - aims).max())


# --- without constraints -------------------------------------------------------------------------


@given(st.integers(1, 10), st.integers(0, 9999))
def test_without_constraints_it_is_plain_least_squares(p: int, seed: int) -> None:
    given_ = problem(p, 0, seed)
    found = solve(given_.soft)
    expected = np.linalg.lstsq(given_.matrix, given_.target, rcond=None)[0]
    np.testing.assert_allclose(found.coefficients, expected, rtol=1e-8, atol=1e-10)
    assert (found.rank, found.redundant, found.violation, found.multiplier) == (0, 0, 0.0, None)


@given(st.integers(2, 7), st.integers(0, 9999), st.sampled_from([1e-6, 1e-2, 1.0]))
def test_a_ridge_shortens_scaled_coefficients(p: int, seed: int, ridge: float) -> None:
    given_ = problem(p, 0, seed)
    length = np.linalg.norm(given_.matrix, axis=0)
    stacked = np.concatenate([given_.matrix, ridge * np.diag(length)])
    aim = np.concatenate([given_.target, np.zeros(p)])
    expected = np.linalg.lstsq(stacked, aim, rcond=None)[0]
    found = solve(given_.soft, ridge=ridge)
    np.testing.assert_allclose(found.coefficients, expected, rtol=1e-8, atol=1e-10)


def vandermonde(degree: int) -> Array:
    return np.vander(np.linspace(0.0, 1.0, 400), degree + 1, increasing=True)


def test_a_vandermonde_matrix_of_condition_1e12() -> None:
    """Where normal equations have lost everything, the residual is as small as rounding allows."""
    matrix = vandermonde(16)
    assert 1e11 < np.linalg.cond(matrix) < 1e13
    x = matrix[:, 1]
    target = np.cos(8.0 * x)
    made = QRAccumulator(17)
    for at in range(0, 400, 7):
        made.add(matrix[at : at + 7], target[at : at + 7])
    found = solve(made)
    polynomial = np.polynomial.Chebyshev.fit(x, target, 16)
    best = float(np.sqrt(np.mean((polynomial(x) - target) ** 2)))
    rms = float(np.sqrt(np.mean((matrix @ found.coefficients - target) ** 2)))
    assert best < 2e-9  # so the squares of the residuals are below 1e-16 of those of the targets
    assert rms < 1.01 * best + 1e-12
    assert np.sqrt(made.residual(found.coefficients) / 400) == pytest.approx(rms, rel=1e-3)


def test_constraints_hold_in_a_vandermonde_system_of_condition_1e12() -> None:
    matrix = vandermonde(16)
    target = np.cos(8.0 * matrix[:, 1])
    ends = [Constraint("ends", matrix[[0, -1]], np.array([1.0, -0.5]), 1.0)]
    found = solve(told(matrix, target), ends)
    size = np.abs(found.coefficients).sum()
    assert violation(found, matrix[[0, -1]], np.array([1.0, -0.5])) < 1e-14 * size
    # the same in a basis of condition 3
    basis = np.polynomial.chebyshev.chebvander(2.0 * matrix[:, 1] - 1.0, 16)
    easy = [Constraint("ends", basis[[0, -1]], np.array([1.0, -0.5]), 1.0)]
    expected = basis @ solve(told(basis, target), easy).coefficients
    fitted = matrix @ found.coefficients
    # coefficients are as large as 1e9: their rounding errors, times columns of length 20, are
    # what the sum is above the least
    rounding = np.finfo(np.float64).eps * size * 20.0
    assert rounding < 1e-4
    assert np.linalg.norm(fitted - target) < np.linalg.norm(expected - target) + rounding
    np.testing.assert_allclose(fitted, expected, atol=rounding)


# --- exact constraints ---------------------------------------------------------------------------


@given(problems)
def test_constraints_hold_as_in_lapack(given_: Problem) -> None:
    assume(np.linalg.cond(given_.hard) < 1e3)
    found = solve(given_.soft, given_.constraints)
    size = np.abs(given_.hard).sum(axis=1).max() * np.abs(found.coefficients).max()
    assert violation(found, given_.hard, given_.aims) < 1e-10 * size
    expected, info = dgglse(given_.matrix, given_.hard, given_.target, given_.aims)[3:]
    assert info == 0
    np.testing.assert_allclose(found.coefficients, expected, rtol=1e-6, atol=1e-7)
    assert (found.rank, found.redundant) == (len(given_.hard), 0)


@given(problems, st.integers(0, 99))
def test_no_step_that_constraints_allow_is_an_improvement(given_: Problem, seed: int) -> None:
    assume(np.linalg.cond(given_.hard) < 1e3)
    found = solve(given_.soft, given_.constraints)
    p = given_.matrix.shape[1]
    free = np.linalg.svd(given_.hard)[2][len(given_.hard) :]
    step = np.random.default_rng(seed).normal(size=p - len(given_.hard)) @ free
    least = given_.left(found.coefficients)
    for size in (1e-3, -1e-3, 1.0, -1.0):
        assert given_.left(found.coefficients + size * step) >= least * (1.0 - 1e-12)
    gradient = given_.matrix.T @ (given_.matrix @ found.coefficients - given_.target)
    np.testing.assert_allclose(free @ gradient, 0.0, atol=1e-8 * (1.0 + np.sqrt(least)))


@settings(max_examples=50)
@given(
    problems,
    st.lists(st.floats(-6.0, 6.0), min_size=9, max_size=9),
    st.floats(-6.0, 6.0),
    st.sampled_from([None, 0.3]),
    st.sampled_from([0.0, 1e-3]),
)
def test_units_do_not_matter(
    given_: Problem, columns: list[float], rows: float, alpha: float | None, ridge: float
) -> None:
    """Units of coefficients, of soft rows, and of constraints with their scale."""
    assume(np.linalg.cond(given_.hard) < 1e2)
    p = given_.matrix.shape[1]
    unit = 10.0 ** np.array(columns[:p])
    expected = solve(given_.soft, given_.constraints, alpha=alpha, ridge=ridge)
    other = [
        Constraint(c.label, 1e5 * c.rows * unit, 1e5 * c.target, 1e5) for c in given_.constraints
    ]
    soft = told(given_.matrix * unit, given_.target).scaled(10.0**rows)
    found = solve(soft, other, alpha=alpha, ridge=ridge)
    # columns are scaled by their lengths, so weights of all soft rows change nothing but lambda
    if alpha is None:
        tolerance = 1e-7
        assert found.rank == expected.rank
    else:
        tolerance = 1e-4
    np.testing.assert_allclose(
        found.coefficients * unit, expected.coefficients, rtol=tolerance, atol=tolerance
    )


@given(problems, st.integers(1, 4), st.integers(0, 99))
def test_redundant_constraints_are_dropped_and_counted(
    given_: Problem, more: int, seed: int
) -> None:
    assume(np.linalg.cond(given_.hard) < 1e2)
    mixing = np.random.default_rng(seed).normal(size=(more, len(given_.hard)))
    again = Constraint("again", mixing @ given_.hard, mixing @ given_.aims, 1.0)
    plain = solve(given_.soft, given_.constraints)
    found = solve(given_.soft, [*given_.constraints, again])
    np.testing.assert_allclose(found.coefficients, plain.coefficients, rtol=1e-7, atol=1e-8)
    assert (found.rank, found.redundant) == (plain.rank, more)


def test_rows_that_symmetry_makes_zero_are_redundant() -> None:
    given_ = problem(5, 2, 4)
    noise = Constraint("forces", 1e-14 * np.ones((3, 5)), np.full(3, 1e-12), 0.1)
    found = solve(given_.soft, [*given_.constraints, noise])
    np.testing.assert_allclose(
        found.coefficients, solve(given_.soft, given_.constraints).coefficients, rtol=1e-10
    )
    assert (found.rank, found.redundant) == (2, 3)


def test_a_contradiction_names_who_disagrees_and_by_how_much() -> None:
    given_ = problem(8, 4, 11)
    rows = given_.hard
    wanted = rows @ np.arange(8.0)
    labels = ("energy", "stress", "elastic xx", "elastic yz")
    good = [
        Constraint(label, row[None], aim[None], 1.0)
        for label, row, aim in zip(labels, rows, wanted, strict=True)
    ]
    bulk = Constraint(
        "bulk modulus", (rows[1] + 2.0 * rows[2])[None], (wanted[1:2] + 2.0 * wanted[2] + 0.6), 2.0
    )
    with pytest.raises(ConfigError) as caught:
        solve(given_.soft, [*good, bulk])
    text = str(caught.value)
    for name in ("stress", "elastic xx", "bulk modulus", "twojmax", "tolerance"):
        assert name in text
    assert "energy" not in text
    assert "elastic yz" not in text
    # told in the scale of whoever is named last; 0.6 in units of 2 is 0.3 of bulk modulus
    assert any(f"{apart} of its scale" in text for apart in ("bulk modulus is off by 0.3", "0.6"))
    assert solve(given_.soft, [*good, bulk], alpha=0.2).rms < 0.201


def test_a_small_disagreement_of_labels_is_no_contradiction() -> None:
    given_ = problem(6, 2, 12)
    again = Constraint("again", given_.hard, given_.aims + 1e-4, 1.0)
    found = solve(given_.soft, [*given_.constraints, again])
    assert found.violation < 2e-4
    assert found.redundant == 2


def test_what_no_coefficient_can_change_is_a_contradiction() -> None:
    given_ = problem(4, 1, 13)
    for others in (given_.constraints, []):
        with pytest.raises(ConfigError, match="no coefficient changes virial"):
            solve(
                given_.soft, [*others, Constraint("virial", np.zeros((1, 4)), np.array([0.5]), 1.0)]
            )


def test_constraints_that_leave_nothing_are_refused() -> None:
    given_ = problem(4, 4, 14)
    with pytest.raises(ConfigError, match=r"4 independent constraints leave nothing of 4"):
        solve(given_.soft, given_.constraints)
    # more constraints than coefficients: that they cannot all be met is the lesser trouble
    many = problem(4, 0, 15)
    rng = np.random.default_rng(15)
    hard = Constraint("elastic", rng.normal(size=(7, 4)), rng.normal(size=7), 1.0)
    with pytest.raises(ConfigError, match="leave nothing of 4"):
        solve(many.soft, [hard])


# --- directions without information --------------------------------------------------------------


@pytest.mark.parametrize("alpha", [None, 0.1])
@pytest.mark.parametrize("ridge", [1e-12, 1e-6])
def test_a_direction_without_rows_is_an_error_that_a_ridge_cures(
    alpha: float | None, ridge: float
) -> None:
    given_ = problem(6, 1, 16)
    matrix = given_.matrix.copy()
    matrix[:, 4] = 3.0 * matrix[:, 2]
    soft = told(matrix, given_.target)
    hard = [Constraint("c", np.array([[1.0, 1.0, 0, 0, 0, 0]]), np.array([1.0]), 1.0)]
    with pytest.raises(ConfigError, match=r"do not determine.*coefficients 2, 4.*ridge") as caught:
        solve(soft, hard, alpha=alpha)
    assert "snapshots" in str(caught.value)
    found = solve(soft, hard, ridge=ridge, alpha=alpha)
    # columns of equal length share what they both say
    assert found.coefficients[2] == pytest.approx(3.0 * found.coefficients[4], rel=1e-6)
    assert found.condition > 1e13
    assert np.abs(found.coefficients).max() < 1e3


def test_a_constraint_can_tell_what_structures_do_not() -> None:
    given_ = problem(3, 0, 17)
    matrix = given_.matrix.copy()
    matrix[:, 1] = 0.0
    soft = told(matrix, given_.target)
    pin = [Constraint("pin", np.array([[0.0, 2.0, 0.0]]), np.array([5.0]), 1.0)]
    assert solve(soft, pin).coefficients[1] == pytest.approx(2.5, rel=1e-12)
    assert solve(soft, pin, alpha=1e-3).coefficients[1] == pytest.approx(2.5, abs=1e-3)


@pytest.mark.parametrize("rows", [0, 2])
def test_fewer_rows_than_coefficients(rows: int) -> None:
    given_ = problem(4, 1, 18, rows=rows)
    for alpha in (None, 0.1):
        with pytest.raises(ConfigError, match="do not determine"):
            solve(given_.soft, given_.constraints, alpha=alpha)
        found = solve(given_.soft, given_.constraints, ridge=1e-9, alpha=alpha)
        assert given_.left(found.coefficients) < 1e-6
    with pytest.raises(ConfigError, match="do not determine"):
        solve(given_.soft)


# --- the ridge that validation chooses -----------------------------------------------------------


def test_validation_chooses_a_ridge_where_rows_are_few_and_noisy() -> None:
    rng = np.random.default_rng(20)
    truth = rng.normal(size=12)
    spectrum = 10.0 ** -np.linspace(0.0, 4.0, 12)
    turn = np.linalg.qr(rng.normal(size=(12, 12)))[0]

    def sample(rows: int, noise: float) -> QRAccumulator:
        matrix = rng.normal(size=(rows, 12)) * spectrum @ turn
        return told(matrix, matrix @ truth + noise * rng.normal(size=rows))

    train, validation, test = sample(20, 0.05), sample(200, 0.05), sample(4000, 0.0)
    found = solve_validated(train, validation)
    plain = solve(train)
    assert found.ridge > 1e-4
    assert test.residual(found.coefficients) < 0.5 * test.residual(plain.coefficients)
    errors = {
        mu: np.sqrt(validation.residual(solve(train, ridge=mu).coefficients) / 200) for mu in RIDGES
    }
    assert errors[found.ridge] <= 1.01 * min(errors.values())
    assert all(
        error > 1.01 * min(errors.values()) for mu, error in errors.items() if mu > found.ridge
    )
    again = solve(train, ridge=found.ridge)
    np.testing.assert_array_equal(found.coefficients, again.coefficients)


def test_validation_keeps_constraints() -> None:
    given_ = problem(7, 3, 21)
    exact = solve_validated(given_.soft, problem(7, 0, 22).soft, given_.constraints)
    assert exact.violation < 1e-10
    soft = solve_validated(given_.soft, problem(7, 0, 22).soft, given_.constraints, alpha=1e-2)
    assert 0.9e-2 < soft.rms <= 1e-2 * (1.0 + 1e-9)


def test_nothing_to_validate_with_is_an_error() -> None:
    given_ = problem(3, 0, 23)
    with pytest.raises(ConfigError, match=r"no validation rows to choose the ridge.*fit\.ridge"):
        solve_validated(given_.soft, QRAccumulator(3))


# --- within a tolerance --------------------------------------------------------------------------


@settings(max_examples=50)
@given(problems, st.sampled_from([0.0, 1e-2]))
def test_a_tighter_tolerance_takes_a_larger_multiplier(given_: Problem, ridge: float) -> None:
    assume(np.linalg.cond(given_.hard) < 1e2)
    solved = [
        solve(given_.soft, given_.constraints, alpha=alpha, ridge=ridge)
        for alpha in (1.0, 1e-2, 1e-4, 1e-6, 1e-9)
    ]
    for alpha, found in zip((1.0, 1e-2, 1e-4, 1e-6, 1e-9), solved, strict=True):
        assert found.rms <= alpha * (1.0 + 1e-5)
        assert found.multiplier is not None
        if found.multiplier:  # the least one that does it
            assert found.rms > 0.999 * alpha
    multipliers = [found.multiplier for found in solved if found.multiplier is not None]
    assert multipliers == sorted(multipliers)
    if not ridge:
        left = [given_.left(found.coefficients) for found in solved]
        assert all(a <= b * (1.0 + 1e-9) for a, b in pairwise(left))
    exact = solve(given_.soft, given_.constraints, ridge=ridge)
    np.testing.assert_allclose(solved[-1].coefficients, exact.coefficients, rtol=1e-5, atol=1e-6)


@settings(max_examples=30)
@given(problems)
def test_the_multiplier_is_that_of_stacked_rows(given_: Problem) -> None:
    assume(np.linalg.cond(given_.hard) < 1e2)
    found = solve(given_.soft, given_.constraints, alpha=1e-2)
    assert found.multiplier is not None
    stacked = np.concatenate([given_.matrix, found.multiplier * given_.hard])
    aim = np.concatenate([given_.target, found.multiplier * given_.aims])
    expected = np.linalg.lstsq(stacked, aim, rcond=None)[0]
    np.testing.assert_allclose(found.coefficients, expected, rtol=1e-6, atol=1e-7)


def test_constraints_that_already_hold_take_no_multiplier() -> None:
    given_ = problem(5, 0, 30)
    plain = solve(given_.soft).coefficients
    hard = np.ones((2, 5))
    near = [Constraint("near", hard, hard @ plain + 1e-3, 1.0)]
    found = solve(given_.soft, near, alpha=0.1)
    assert found.multiplier == 0.0
    np.testing.assert_allclose(found.coefficients, plain, rtol=1e-9)


def test_contradicting_constraints_meet_in_the_middle_or_not_at_all() -> None:
    given_ = problem(5, 1, 31)
    apart = [
        *given_.constraints,
        Constraint("again", given_.hard, given_.aims + 0.2, 1.0),
    ]
    found = solve(given_.soft, apart, alpha=0.1001)
    assert found.rms == pytest.approx(0.1001, rel=1e-5)
    middle = float((given_.hard @ found.coefficients - given_.aims)[0])
    assert middle == pytest.approx(0.1, abs=0.005)
    with pytest.raises(ConfigError, match=r"alpha = 0\.05: 0\.1 is the least.*Raise alpha"):
        solve(given_.soft, apart, alpha=0.05)


def test_more_constraints_than_coefficients_within_a_tolerance() -> None:
    rng = np.random.default_rng(32)
    given_ = problem(4, 0, 32)
    hard, aims = rng.normal(size=(7, 4)), rng.normal(size=7)
    best = np.linalg.lstsq(hard, aims, rcond=None)[0]
    least = float(np.sqrt(np.mean((hard @ best - aims) ** 2)))
    found = solve(given_.soft, [Constraint("many", hard, aims, 1.0)], alpha=1.01 * least)
    assert least < found.rms <= 1.01 * least * (1.0 + 1e-9)
    with pytest.raises(ConfigError, match=f"{least:.2g} is the least"):
        solve(given_.soft, [Constraint("many", hard, aims, 1.0)], alpha=0.99 * least)


# --- input that is refused -----------------------------------------------------------------------


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_constraints_that_are_not_finite_are_refused(bad: float) -> None:
    given_ = problem(3, 0, 40)
    rows = np.array([[1.0, bad, 0.0]])
    with pytest.raises(ConfigError, match="constraint on elastic xy is not finite"):
        solve(given_.soft, [Constraint("elastic xy", rows, np.zeros(1), 1.0)])
    with pytest.raises(ConfigError, match="constraint on elastic xy is not finite"):
        solve(given_.soft, [Constraint("elastic xy", np.ones((1, 3)), np.array([bad]), 1.0)])


def test_nonsense_is_refused() -> None:
    given_ = problem(3, 1, 41)
    with pytest.raises(ValueError, match="4 coefficients, the fit in 3"):
        solve(given_.soft, [Constraint("x", np.ones((1, 4)), np.ones(1), 1.0)])
    with pytest.raises(ValueError, match="expected"):
        Constraint("x", np.ones((1, 4)), np.ones(2), 1.0)
    for scale in (0.0, -1.0, np.nan, np.inf):
        with pytest.raises(ValueError, match="scale above 0"):
            Constraint("x", np.ones((1, 4)), np.ones(1), scale)
    for ridge in (-1e-3, np.nan, np.inf):
        with pytest.raises(ValueError, match="ridge must be 0 or more"):
            solve(given_.soft, given_.constraints, ridge=ridge)
    for alpha in (0.0, -1.0, np.nan):
        with pytest.raises(ValueError, match="tolerance must be above 0"):
            solve(given_.soft, given_.constraints, alpha=alpha)
