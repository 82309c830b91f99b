"""Cases whose regions remember, and waiting for what a run writes."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from subprocess import Popen
from typing import Any

from command_line import edit
from limits import HANG_S

from mixserver.analysis.records import read_reports
from mixserver.analysis.run_properties import RunProperties, read_properties
from mixserver.ipi.input import read_step
from mixserver.server.records.report import Report
from mixserver.server.runs import run_chain

CRITERION = """
seeds = { kind = "criterion", compute = "coord/atom cutoff 3.6", low = 3.0, every = 6, samples = 2 }
hysteresis = { time_in = 5.0, time_out = 5.0 }
"""
HYSTERESIS = """
seeds = { kind = "sphere", centre = [10.0, 10.0, 10.0], radius = 2.0 }
hysteresis = { time_in = 7.0, time_out = 20.0 }
"""


def remembering(case: Path, kind: str) -> None:
    """Give a case a region with memory, and models that differ by half."""
    edit(case / "mix.toml", "follow = true", "")
    edit(case / "mix.toml", '"0.0120"', '"0.0156"')
    region = CRITERION if kind == "energy" else HYSTERESIS
    edit(case / "mix.toml", 'seeds = { kind = "atoms", indices = [132] }', region)
    edit(case / "mix.toml", 'kind = "energy"', f'kind = "{kind}"')
    with (case / "mix.toml").open("a") as settings:  # such a region has most atoms and does work
        settings.write("\n[warnings]\nregion = 1.0\nwork = inf\n")


def reports(run: Path) -> list[Report]:
    """All reports of a run so far."""
    return read_reports(run) if wrote(run, 1) else []


def until(there: Callable[[], bool], process: Popen[Any] | None = None) -> None:
    deadline = time.monotonic() + HANG_S
    while not there():
        assert process is None or process.poll() is None, "ended early"
        assert time.monotonic() < deadline, "it never came"
        time.sleep(0.01)


def wrote(run: Path, lines: int) -> bool:
    file = run / "mixserver.jsonl"
    return file.exists() and file.read_bytes().count(b"\n") >= lines


def joined(run: Path) -> RunProperties:
    """i-PI's properties over a run and those that it continues."""
    return read_properties(run_chain(run))


def step_of(restart: Path) -> int:
    """Steps that a RESTART has made, once it is written to its end."""
    until(lambda: restart.exists() and "</simulation>" in restart.read_text())
    return read_step(restart)
