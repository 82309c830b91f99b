"""How far steps are, on what is no terminal: lines."""

from __future__ import annotations

import pytest

from mixserver.cli.steps import shown


def test_a_step_says_its_total_if_it_is_known(capsys: pytest.CaptureFixture[str]) -> None:
    with shown() as show:
        show("crystal", 0, 5)
        show("crystal, answers", 10, 0)
        show("crystal, answers", 20, 0)  # so soon nothing new is said
        show("crystal", 5, 5)
        show("crystal", 5, 5)
    lines = [line.split(" s  ")[1] for line in capsys.readouterr().err.splitlines()]
    assert lines == ["crystal  0/5", "crystal, answers  10", "crystal  5/5"]


def test_quiet_is_quiet(capsys: pytest.CaptureFixture[str]) -> None:
    with shown(quiet=True) as show:
        show("crystal", 0, 0)
    assert capsys.readouterr().err == ""
