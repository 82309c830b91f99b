"""Pace and time left, and what the terminal shows of the log."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog

from mixserver.cli.logs import configure
from mixserver.cli.progress import Pace


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def as_it_was() -> Iterator[None]:
    yield
    structlog.reset_defaults()


def terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    """A terminal in place of stderr; from within a test, as pytest sets stderr before each."""
    shown = Terminal()
    monkeypatch.setattr(sys, "stderr", shown)
    return shown


def test_the_pace_leaves_out_the_start_and_follows_the_newest_steps() -> None:
    pace = Pace(1000)
    pace.see(0.0, 0.0)
    pace.see(100.0, 0.0)  # workers load their models
    assert pace.per_s is None
    assert str(pace) == ""
    pace.see(101.0, 1.0)
    assert pace.per_s is None
    pace.see(103.0, 5.0)
    assert pace.per_s == pytest.approx(2.0)
    assert str(pace) == "2 steps/s  ETA 8 min"
    for second in range(104, 204):  # slower later
        pace.see(float(second), 5.0 + 0.5 * (second - 103))
    assert pace.per_s == pytest.approx(0.5, rel=1e-6)
    assert pace.left_s == pytest.approx((1000 - 55) / 0.5)


def test_a_slow_step_and_the_last_one() -> None:
    pace = Pace(52)
    for now, step in ((0.0, 50.0), (100.0, 51.0), (400.0, 52.0)):
        pace.see(now, step)
    assert pace.per_s == pytest.approx(1.0 / 300.0)
    assert str(pace) == "300 s/step"


def test_an_error_that_is_raised_too_is_only_in_the_file(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    shown = terminal(monkeypatch)
    configure(tmp_path / "server.log")
    structlog.get_logger().error("the run ends", error="why", raised=True)
    structlog.get_logger().error("evaluation failed", error="late", raised=False)
    assert "the run ends" not in shown.getvalue()
    assert shown.getvalue().count("evaluation failed") == 1
    assert "raised" not in shown.getvalue()
    events = [json.loads(line) for line in (tmp_path / "server.log").read_text().splitlines()]
    assert [(event["event"], event["raised"]) for event in events] == [
        ("the run ends", True),
        ("evaluation failed", False),
    ]


@pytest.mark.parametrize("no_color", ["", "1"])
def test_colours_are_for_terminals_that_want_them(
    monkeypatch: pytest.MonkeyPatch, no_color: str
) -> None:
    shown = terminal(monkeypatch)
    monkeypatch.setenv("NO_COLOR", no_color)
    configure(None)
    structlog.get_logger().error("something")
    assert ("\x1b[" in shown.getvalue()) == (not no_color)
