"""Element symbols, and elements that a model does not know."""

from __future__ import annotations

import numpy as np

from mixserver.core.labels import element_symbols, unknown_elements


def test_numbers_that_no_element_has_stay_numbers() -> None:
    assert element_symbols([0, 1, 14, 200]) == ["Z = 0", "H", "Si", "Z = 200"]


def test_elements_that_a_model_does_not_know_are_named_once() -> None:
    numbers = np.array([14, 6, 14, 18, 6], dtype=np.int32)
    assert unknown_elements(numbers, (18,)) == ["C", "Si"]
    assert unknown_elements(numbers, (6, 14, 18)) == []
    assert unknown_elements(numbers, None) == []
