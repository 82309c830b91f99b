import numpy as np
import pytest

from mixserver.distill.dealing import splits
from mixserver.distill.design import Design, Kind
from mixserver.distill.equations import Equations
from mixserver.distill.fit import WEIGHTS, Wishes, chosen, equations, fitted, ghost_error
from mixserver.distill.recipe import Fit, Hard, Partition
from mixserver.distill.solve import Constraint
from mixserver.errors import ConfigError

P = 6
TRUTH = np.linspace(1.0, 2.0, P)


def design(*, ghosts: float | None = None, seed: int = 0) -> Design:
    """Forces that one set of coefficients explains, and ghosts that want another."""
    rng = np.random.default_rng(seed)
    made = Design(P)
    for split, rows in (("train", 90), ("validation", 60), ("test", 60)):
        for quantity, count in (("energy", 3), ("forces", rows), ("virial", 6), ("partition", 40)):
            part = Equations(P)
            matrix = rng.normal(size=(count, P))
            part.add(matrix, matrix @ TRUTH + rng.normal(0.0, 0.05, count))
            made.parts[Kind(split, quantity, "hot 600 K")] = part  # type: ignore[arg-type]
    if ghosts is not None:
        made.ghosts = Equations(P)
        matrix = rng.normal(size=(50, P))
        made.ghosts.add(matrix, matrix @ (TRUTH + ghosts))
    return made


def test_a_weight_counts_mean_squares_however_many_rows() -> None:
    fit = Fit(energy=0.0, virial=0.0, ridge=0.0)
    one = design()
    twice = design()
    kind = Kind("train", "partition", "hot 600 K")
    twice.parts[kind].merge(design().parts[kind])
    wishes = Wishes(hot=0.7)
    a = fitted(one, fit, Hard(), wishes).coefficients
    b = fitted(twice, fit, Hard(), wishes).coefficients
    np.testing.assert_allclose(a, b, atol=1e-9)
    rows = one.parts[Kind("train", "forces", "hot 600 K")].rows
    both = equations(one, "train", fit, wishes).residual(TRUTH + 0.1)
    plain = equations(one, "train", fit, Wishes()).residual(TRUTH + 0.1)
    mean = one.parts[kind].residual(TRUTH + 0.1) / one.parts[kind].rows
    assert both - plain == pytest.approx(0.7**2 * rows * mean)


def test_the_most_ghost_force_is_taken_away_that_the_price_buys() -> None:
    made = design(ghosts=0.3)
    cheap = chosen(made, Fit(), Hard(), Partition(price=0.05))
    dear = chosen(made, Fit(), Hard(), Partition(price=20.0))
    assert [point.weight for point in cheap.front] == list(WEIGHTS)
    assert [point.chosen for point in cheap.front].count(True) == 1
    least = min(point.forces for point in cheap.front)
    picked = next(point for point in cheap.front if point.chosen)
    assert picked.forces <= 1.05 * least
    assert dear.ghost > cheap.ghost
    assert ghost_error(made, dear.coefficients) < ghost_error(made, cheap.coefficients)


def test_a_weight_that_is_given_is_used() -> None:
    made = chosen(design(ghosts=0.3), Fit(), Hard(), Partition(weight=2.5))
    assert made.ghost == 2.5
    assert made.front == ()
    none = chosen(design(), Fit(), Hard(), Partition())
    assert none.ghost == 0.0
    assert np.isnan(ghost_error(design(), none.coefficients))


def test_constraints_hold_or_are_left_out() -> None:
    made = design()
    row = np.ones((1, P))
    made.constraints = [Constraint("sum", row, np.array([3.0]), 1.0)]
    held = fitted(made, Fit(), Hard(), Wishes())
    assert float((row @ held.coefficients)[0]) == pytest.approx(3.0, abs=1e-9)
    free = fitted(made, Fit(), Hard(), Wishes(hard=False))
    assert float((row @ free.coefficients)[0]) == pytest.approx(TRUTH.sum(), abs=0.1)
    near = fitted(made, Fit(), Hard(form="tolerance", alpha=0.01), Wishes())
    assert abs(float((row @ near.coefficients)[0]) - 3.0) <= 0.0101


def test_nothing_to_fit_is_told() -> None:
    made = design()
    made.parts = {kind: part for kind, part in made.parts.items() if kind.split != "validation"}
    with pytest.raises(ConfigError, match=r"no structure is left for validation"):
        chosen(made, Fit(), Hard(), Partition())


def test_every_kind_is_dealt_out() -> None:
    names = [f"{t}K-0-{at:03d}" for t in (300, 600) for at in range(12)]
    names += [f"strained-{at:03d}" for at in range(6)] + [f"vacancy-{at:03d}" for at in range(2)]
    dealt = splits(names, 0.15)
    for kind, count in (("300K", 12), ("600K", 12), ("strained", 6)):
        uses = [use for name, use in dealt.items() if name.startswith(kind)]
        assert len(uses) == count
        assert {"train", "validation", "test"} == set(uses)
        assert uses.count("train") >= count / 2
    assert list(dealt) == names
