"""Times, temperatures, pressures and lengths are read with their units, and only with them."""

from __future__ import annotations

import pytest

from mixserver.core.errors import ConfigError
from mixserver.new_case.motion import femtoseconds, gigapascal, kelvin, number_of_steps


def test_quantities_are_converted() -> None:
    assert femtoseconds("0.5 ps", "--timestep") == 500.0
    assert kelvin("300K", "--temperature") == kelvin("300", "--temperature") == 300.0
    assert gigapascal("1bar", "--pressure") == pytest.approx(1e-4)
    assert gigapascal("-2GPa", "--pressure") == -2.0
    assert number_of_steps("2ps", 0.5, "--length") == 4000
    assert number_of_steps("70steps", 0.5, "--length") == 70


@pytest.mark.parametrize(
    ("read", "text", "said"),
    [
        (femtoseconds, "1", "has no unit"),
        (femtoseconds, "1 foot", "was not understood"),
        (femtoseconds, "0fs", "must be above 0"),
        (kelvin, "20C", "was not understood"),
        (gigapascal, "5", "has no unit"),
        (lambda text, option: number_of_steps(text, 1.0, option), "2000", "has no unit"),
        (lambda text, option: number_of_steps(text, 1.0, option), "0.1fs", "less than one step"),
    ],
)
def test_what_cannot_be_meant_is_refused(read: object, text: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        read(text, "--option")  # type: ignore[operator]
