"""Slopes from samples: exact for polynomials of fourth degree, of fourth order otherwise."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mixserver.core.finite_difference import STENCIL, central_slope, tabulated_slope

polynomials = st.lists(st.floats(-2.0, 2.0), min_size=1, max_size=5).map(np.polynomial.Polynomial)


@given(polynomials, st.floats(-1.0, 1.0), st.floats(0.01, 0.5))
def test_polynomials_of_fourth_degree_are_exact(
    polynomial: np.polynomial.Polynomial, place: float, step: float
) -> None:
    found = central_slope([float(polynomial(place + k * step)) for k in STENCIL], step)
    assert found == pytest.approx(float(polynomial.deriv()(place)), abs=1e-10)


def test_the_error_is_of_fourth_order_in_the_step() -> None:
    def error(step: float) -> float:
        return abs(central_slope([np.exp(k * step) for k in STENCIL], step) - 1.0)

    assert error(0.2) / error(0.1) == pytest.approx(16.0, rel=0.1)


@given(polynomials)
def test_a_table_has_the_same_slopes_inside(polynomial: np.polynomial.Polynomial) -> None:
    places = np.linspace(0.0, 1.0, 21)
    found = tabulated_slope(polynomial(places), 0.05)
    expected = polynomial.deriv()(places)
    np.testing.assert_allclose(found[2:-2], expected[2:-2], atol=1e-10)
    np.testing.assert_allclose(found, expected, atol=0.5)


@pytest.mark.parametrize("count", [3, 4, 5])
def test_short_tables_have_slopes_too(count: int) -> None:
    places = np.arange(count, dtype=float)
    np.testing.assert_allclose(tabulated_slope(3.0 * places, 1.0), 3.0)
    np.testing.assert_allclose(tabulated_slope(3.0 * places, 1.0, edge_order=1), 3.0)
