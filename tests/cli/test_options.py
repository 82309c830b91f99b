"""Options that cannot be meant are refused with exit status 2, and nothing is started."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from mixserver.cli import main

MINIMAL = Path(__file__).parents[2] / "inputs/minimal"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["bench", "overhead", "--atoms", "10,x"], "'x' is no number of atoms"),
        (["bench", "overhead", "--atoms", ""], "'' is no number of atoms"),
        (["bench", "overhead", "--atoms", "0"], "'0' is no number of atoms"),
        (["bench", "overhead", "--evaluations", "0"], "0 is not in the range"),
        (["region", str(MINIMAL), "--receptive-field", "-1"], "-1.0 is not in the range"),
    ],
)
def test_a_wrong_option_is_said(arguments: list[str], said: str) -> None:
    done = CliRunner().invoke(main, arguments)
    assert done.exit_code == 2
    assert said in done.output
