from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mixserver.core.errors import ConfigError
from mixserver.distill.config.schema import Expensive, Fit, Hard, Partition, Recipe
from mixserver.distill.data.splits import split_structures
from mixserver.distill.fitting.design_matrix import Design, GhostRows, Kind, TrainingRows
from mixserver.distill.fitting.qr import QRAccumulator
from mixserver.distill.fitting.selection import (
    WEIGHTS,
    FitOptions,
    best_affordable,
    fit_coefficients,
    select_fit,
    weighted_rows,
)
from mixserver.distill.fitting.solve import Constraint
from mixserver.distill.results import FrontPoint

P = 6
TRUTH = np.linspace(1.0, 2.0, P)


def design(*, ghosts: float | None = None, seed: int = 0) -> Design:
    """Forces that one set of coefficients explains, and ghosts that want another."""
    rng = np.random.default_rng(seed)
    parts = {}
    for split, rows in (("train", 90), ("validation", 60), ("test", 60)):
        for quantity, count in (("energy", 3), ("forces", rows), ("virial", 6), ("partition", 40)):
            part = QRAccumulator(P)
            matrix = rng.normal(size=(count, P))
            part.add(matrix, matrix @ TRUTH + rng.normal(0.0, 0.05, count))
            parts[Kind(split, quantity, "hot 600 K")] = part  # type: ignore[arg-type]
    training = TrainingRows(parts, Counter())
    if ghosts is None:
        return Design(P, training)
    rows = QRAccumulator(P)
    matrix = rng.normal(size=(50, P))
    rows.add(matrix, matrix @ (TRUTH + ghosts))
    return Design(P, training, ghosts=GhostRows(rows, ()))


def recipe(**tables: Fit | Hard | Partition) -> Recipe:
    return Recipe(name="x", structure="x.xyz", expensive=Expensive(door="x"), **tables)  # type: ignore[arg-type]


def test_a_weight_counts_mean_squares_however_many_rows() -> None:
    fit = recipe(fit=Fit(energy=0.0, virial=0.0, ridge=0.0))
    one = design()
    twice = design()
    kind = Kind("train", "partition", "hot 600 K")
    twice.training.parts[kind].merge(design().training.parts[kind])
    options = FitOptions(groups=0.7)
    a = fit_coefficients(one, fit, options).coefficients
    b = fit_coefficients(twice, fit, options).coefficients
    np.testing.assert_allclose(a, b, atol=1e-9)
    rows = one.training.parts[Kind("train", "forces", "hot 600 K")].rows
    both = weighted_rows(one, "train", fit, options).residual(TRUTH + 0.1)
    plain = weighted_rows(one, "train", fit, FitOptions()).residual(TRUTH + 0.1)
    mean = one.training.parts[kind].residual(TRUTH + 0.1) / one.training.parts[kind].rows
    assert both - plain == pytest.approx(0.7**2 * rows * mean)


def test_the_most_ghost_force_is_taken_away_that_the_price_buys() -> None:
    made = design(ghosts=0.3)
    cheap = select_fit(made, recipe(partition=Partition(price=0.05)))
    dear = select_fit(made, recipe(partition=Partition(price=20.0)))
    assert [point.weight for point in cheap.front] == list(WEIGHTS)
    assert [point.chosen for point in cheap.front].count(True) == 1
    least = min(point.forces for point in cheap.front)
    picked = next(point for point in cheap.front if point.chosen)
    assert picked.forces <= 1.05 * least
    assert dear.ghost > cheap.ghost
    assert made.ghosts is not None
    assert made.ghosts.rms(dear.coefficients) < made.ghosts.rms(cheap.coefficients)


def test_a_weight_that_is_given_is_used() -> None:
    made = select_fit(design(ghosts=0.3), recipe(partition=Partition(weight=2.5)))
    assert made.ghost == 2.5
    assert made.front == ()
    none = select_fit(design(), recipe())
    assert none.ghost == 0.0
    assert none.front == ()


def test_constraints_hold_or_are_left_out() -> None:
    row = np.ones((1, P))
    made = replace(design(), constraints=(Constraint("sum", row, np.array([3.0]), 1.0),))
    held = fit_coefficients(made, recipe(), FitOptions())
    assert float((row @ held.coefficients)[0]) == pytest.approx(3.0, abs=1e-9)
    free = fit_coefficients(made, recipe(), FitOptions(constrained=False))
    assert float((row @ free.coefficients)[0]) == pytest.approx(TRUTH.sum(), abs=0.1)
    near = fit_coefficients(made, recipe(hard=Hard(form="tolerance", alpha=0.01)), FitOptions())
    assert abs(float((row @ near.coefficients)[0]) - 3.0) <= 0.0101


def test_nothing_to_fit_is_told() -> None:
    parts = design().training.parts
    some = {kind: part for kind, part in parts.items() if kind.split != "validation"}
    made = Design(P, TrainingRows(some, Counter()))
    with pytest.raises(ConfigError, match=r"no structure is left for validation"):
        select_fit(made, recipe())


def test_every_kind_is_dealt_out() -> None:
    names = [f"{t}K-0-{at:03d}" for t in (300, 600) for at in range(12)]
    names += [f"strained-{at:03d}" for at in range(6)] + [f"vacancy-{at:03d}" for at in range(2)]
    assigned = split_structures(names, 0.15)
    for kind, count in (("300K", 12), ("600K", 12), ("strained", 6)):
        uses = [use for name, use in assigned.items() if name.startswith(kind)]
        assert len(uses) == count
        assert {"train", "validation", "test"} == set(uses)
        assert uses.count("train") >= count / 2
    assert list(assigned) == names


measure = st.floats(1e-3, 1e3)
pairs = st.lists(st.tuples(measure, measure), min_size=1, max_size=12)
HYPERBOLA = [(1.0, 1.0), (1.02, 0.3), (1.05, 0.1), (1.3, 0.06), (2.0, 0.05), (2.5, 0.2)]


def points(values: list[tuple[float, float]]) -> list[FrontPoint]:
    """Points with these force errors and ghost forces."""
    return [FrontPoint(weight=float(at), forces=f, ghost=g) for at, (f, g) in enumerate(values)]


def test_the_least_ghost_force_that_can_be_paid() -> None:
    here = points(HYPERBOLA)
    assert best_affordable(here, 0.1) == 2
    assert best_affordable(here, 0.3) == 3
    assert best_affordable(here, 0.0) == 0
    assert best_affordable(here, 9.0) == 4
    assert best_affordable(here[::-1], 0.1) == 3


@given(pairs, st.floats(0.0, 3.0))
def test_what_is_chosen_is_on_the_front_and_affordable(
    values: list[tuple[float, float]], price: float
) -> None:
    forces, ghost = values[best_affordable(points(values), price)]
    limit = (1.0 + price) * min(f for f, _ in values)
    assert forces <= limit
    assert ghost == min(g for f, g in values if f <= limit)
    assert not any(f <= forces and g <= ghost and (f, g) != (forces, ghost) for f, g in values)


def test_what_is_not_finite_is_never_chosen() -> None:
    here = points([(np.nan, 0.0), (1.0, np.inf), (1.0, 2.0), (0.1, np.nan)])
    assert best_affordable(here, 0.1) == 2
    for nothing in ([], points([(np.nan, 1.0)])):
        with pytest.raises(ConfigError, match="finite"):
            best_affordable(nothing, 0.1)
    with pytest.raises(ValueError, match="price"):
        best_affordable(points([(1.0, 1.0)]), -0.5)
