"""Pace and time left, and what the terminal shows of the log."""

from __future__ import annotations

import asyncio
import io
import json
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog

from mixserver.cli.logs import configure
from mixserver.cli.progress import Pace, printed_temperature, show
from mixserver.config import load_case
from mixserver.ipi.dynamics import read_dynamics
from mixserver.ipi.input import read_input
from mixserver.server.launch import Run
from mixserver.server.local_workers import build_for_local_workers
from mixserver.server.records.report import Report
from mixserver.server.service import Service
from mixserver.server.status.snapshot import Snapshots, Steps

INPUTS = Path(__file__).parents[2] / "inputs"


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


def test_a_temperature_is_told_with_its_step_if_that_is_over() -> None:
    printed = {"temperature": 612.3, "step": 40.0}
    assert printed_temperature(printed, 40.0) == "T 612 K  "
    assert printed_temperature(printed, 57.0) == "T 612 K at step 40  "
    assert printed_temperature({"temperature": 612.3}, 57.0) == "T 612 K (last printed)  "
    assert printed_temperature({"step": 40.0}, 57.0) == ""


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


def _step_line(monkeypatch: pytest.MonkeyPatch, run: Run) -> str:
    """The line of a log that says where a run is."""
    shown = io.StringIO()
    monkeypatch.setattr(sys, "stderr", shown)

    async def briefly() -> None:
        runs: asyncio.Queue[Run] = asyncio.Queue()
        runs.put_nowait(run)
        showing = asyncio.ensure_future(show(runs))
        await asyncio.sleep(0.1)
        showing.cancel()
        await asyncio.wait({showing})

    asyncio.run(briefly())
    return shown.getvalue()


def test_steps_are_counted_and_the_last_is_shown_where_properties_are_rare(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    shutil.copytree(INPUTS / "minimal", tmp_path, dirs_exist_ok=True)
    case = load_case(tmp_path)
    file = tmp_path / case.config.ipi.input
    ipi, dynamics = read_input(file), read_dynamics(file)
    service = Service(build_for_local_workers(case, tmp_path, str(tmp_path)))
    run = Run(tmp_path, case, ipi, dynamics, service, Snapshots(service, case, tmp_path))
    tail = run.properties_tail()
    run.snapshots.steps = Steps(tail, 0, ipi.total_steps, True, dynamics.steps_evaluated_once)
    (tmp_path / f"{ipi.prefix}.{ipi.properties}").write_text("# column 1 --> step : steps\n0\n")
    try:
        service.parts.recorder.latest = Report(evaluation=2)
        run.stage = "running"
        assert f"running  step 2/{ipi.total_steps}" in _step_line(monkeypatch, run)
        (tmp_path / "RESTART").write_text(
            f"<simulation><step>{ipi.total_steps}</step></simulation>"
        )
        run.stage = "done"
        total = ipi.total_steps
        assert f"done  step {total}/{total}" in _step_line(monkeypatch, run)
    finally:
        service.parts.recorder.close()


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
