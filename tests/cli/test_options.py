"""Help is whole, and options that cannot be meant are refused before anything is started."""

from __future__ import annotations

from pathlib import Path

import click
import pytest
from click.testing import CliRunner

import clients.cli
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


@pytest.mark.parametrize("group", [main, clients.cli.main])
def test_the_list_of_commands_cuts_no_sentence(group: click.Group) -> None:
    said = CliRunner().invoke(group, ["--help"], terminal_width=80).output
    listed = said[said.index("Commands:") :].splitlines()[1:]
    assert [line.split()[0] for line in listed] == sorted(group.commands)
    assert [line for line in listed if not line.endswith(".") or line.endswith("...")] == []
