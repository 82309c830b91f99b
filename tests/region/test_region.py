"""The Region value refuses nonsense and counts its shells."""

from __future__ import annotations

import numpy as np
import pytest

from mixserver.region import Region

NONE = np.empty(0, dtype=np.intp)


def test_shells_are_counted() -> None:
    region = Region(np.array([1.0, 0.5, 0.0, 1e-300, 1.0]), NONE)
    np.testing.assert_array_equal(region.active, [0, 1, 3, 4])
    assert (region.core, region.blend) == (2, 2)


@pytest.mark.parametrize("bad", [-1e-9, 1.0 + 1e-9, np.nan, np.inf])
def test_lambda_outside_its_range_is_refused(bad: float) -> None:
    with pytest.raises(ValueError, match=r"Region\.lambda_ must"):
        Region(np.array([0.0, bad]), NONE)


def test_lambda_has_one_number_per_atom() -> None:
    with pytest.raises(ValueError, match=r"\(N,\)"):
        Region(np.zeros((2, 1)), NONE)
