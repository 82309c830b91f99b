import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mixserver.distill.pareto import Point, affordable, dominated, knee
from mixserver.errors import ConfigError

measure = st.floats(1e-3, 1e3)
pairs = st.lists(st.tuples(measure, measure), min_size=1, max_size=12)


def points(values: list[tuple[float, float]]) -> list[Point]:
    return [Point(float(at), {"F": f, "ghost": g}) for at, (f, g) in enumerate(values)]


HYPERBOLA = [(1.0, 1.0), (1.02, 0.3), (1.05, 0.1), (1.3, 0.06), (2.0, 0.05), (2.5, 0.2)]


def test_the_least_ghost_force_that_can_be_paid() -> None:
    here = points(HYPERBOLA)
    assert affordable(here, least="ghost", of="F", price=0.1) == 2
    assert affordable(here, least="ghost", of="F", price=0.3) == 3
    assert affordable(here, least="ghost", of="F", price=0.0) == 0
    assert affordable(here, least="ghost", of="F", price=9.0) == 4
    assert affordable(here[::-1], least="ghost", of="F", price=0.1) == 3


def test_the_knee_and_who_is_dominated() -> None:
    here = points(HYPERBOLA)
    assert dominated(here, "F", "ghost").tolist() == [False] * 5 + [True]
    assert knee(here, "F", "ghost") == 2
    assert knee(here, "ghost", "F") == 2
    assert knee([here[2], here[5], here[0], here[4]], "F", "ghost") == 0


def test_a_front_without_a_knee() -> None:
    assert knee(points([(1.0, 1.0)]), "F", "ghost") == 0
    assert knee(points([(1.0, 4.0), (2.0, 1.0)]), "F", "ghost") == 1
    assert knee(points([(1.0, 4.0), (3.9, 3.9), (4.0, 1.5)]), "F", "ghost") == 0
    assert knee(points([(1.0, 1.0), (1.0, 1.0)]), "F", "ghost") == 0


@given(pairs)
def test_nobody_dominates_the_front(values: list[tuple[float, float]]) -> None:
    here = points(values)
    beaten = dominated(here, "F", "ghost")
    assert not beaten.all()
    for at, (f, g) in enumerate(values):
        by = [o for o in values if o[0] <= f and o[1] <= g and o != (f, g)]
        assert beaten[at] == bool(by)


@given(pairs, st.floats(0.0, 3.0))
def test_what_is_chosen_is_on_the_front_and_affordable(
    values: list[tuple[float, float]], price: float
) -> None:
    here = points(values)
    beaten = dominated(here, "F", "ghost")
    at = affordable(here, least="ghost", of="F", price=price)
    most = (1.0 + price) * min(f for f, _ in values)
    assert not beaten[at]
    assert values[at][0] <= most
    assert values[at][1] == min(g for f, g in values if f <= most)
    assert not beaten[knee(here, "F", "ghost")]


@given(pairs, st.integers(-3, 3), st.integers(-3, 3))
def test_units_do_not_matter(values: list[tuple[float, float]], one: int, other: int) -> None:
    """Other units move the front on logarithmic axes, and the distances stay."""
    scaled = [(f * 2.0**one, g * 2.0**other) for f, g in values]
    first, second = (knee(points(v), "F", "ghost") for v in (values, scaled))
    front = np.log(np.array(values)[~dominated(points(values), "F", "ghost")])
    ends = front[front[:, 0].argmin()], front[front[:, 0].argmax()]
    across = ends[1] - ends[0]

    def below(at: int) -> float:
        off = np.log(np.array(values[at])) - ends[0]
        return float(across[1] * off[0] - across[0] * off[1])

    assert below(first) == pytest.approx(below(second), abs=1e-8)


def test_what_is_not_finite_is_never_chosen() -> None:
    here = points([(np.nan, 0.0), (1.0, np.inf), (1.0, 2.0), (0.1, np.nan)])
    assert dominated(here, "F", "ghost").tolist() == [True, True, False, True]
    assert affordable(here, least="ghost", of="F", price=0.1) == 2
    assert knee(here, "F", "ghost") == 2
    for nothing in ([], points([(np.nan, 1.0)])):
        with pytest.raises(ConfigError, match="finite"):
            affordable(nothing, least="ghost", of="F", price=0.1)
        with pytest.raises(ConfigError, match="finite"):
            knee(nothing, "F", "ghost")
    with pytest.raises(ConfigError, match="above 0"):
        knee(points([(0.0, 1.0)]), "F", "ghost")
    with pytest.raises(ValueError, match="price"):
        affordable(points([(1.0, 1.0)]), least="ghost", of="F", price=-0.5)
