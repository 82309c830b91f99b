"""Whole runs with mixed energies: real i-PI at constant energy, real workers."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from command_here import mixserver_here
from command_line import edit, minimal_case
from limits import HANG_S

from mixserver.analysis.records import read_reports
from mixserver.analysis.run_properties import read_properties
from mixserver.core.arrays import Scalars

MIXSERVER = Path(sys.executable).parent / "mixserver"
CRITERION = """
seeds = { kind = "criterion", compute = "coord/atom cutoff 3.6", low = 3.0, every = 10 }
hysteresis = { time_in = 5.0, time_out = 5.0 }
"""


@pytest.fixture
def case(tmp_path: Path) -> Path:
    """The minimal case at constant energy; its two models differ by half."""
    folder = minimal_case(tmp_path)
    edit(folder / "input.xml", "mode='nvt' splitting='baoab'", "mode='nve'")
    edit(folder / "input.xml", "> 5.0 </timestep>", "> 2.0 </timestep>")
    edit(folder / "mix.toml", '"0.0120"', '"0.0156"')
    return folder


def _run(case: Path, *arguments: str) -> Path:
    done = subprocess.run(
        [MIXSERVER, "run", case, "--quiet", *arguments],
        capture_output=True,
        text=True,
        timeout=HANG_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return max((case / "runs").glob("[0-9]*"))


def _conserved(run: Path) -> Scalars:
    """(n,) eV, of each step."""
    table = read_properties([run], ("step", "conserved"))
    return table.columns["conserved"]


@pytest.mark.physics
def test_energy_is_conserved_where_mixed_forces_do_not(case: Path) -> None:
    following = np.ptp(_conserved(_run(case)))
    edit(case / "mix.toml", "follow = true", "follow = false")
    frozen = np.ptp(_conserved(_run(case)))
    edit(case / "mix.toml", 'kind = "energy"', 'kind = "force"')
    by_force = np.ptp(_conserved(_run(case)))
    assert max(following, frozen) < 0.1 * by_force


def test_a_restart_goes_on_with_the_same_potential(case: Path) -> None:
    edit(case / "mix.toml", "follow = true", "follow = false")
    first = _run(case, "--steps", "50")
    before = _conserved(first)
    edit(case / "init.xyz", "\nAr ", "\nAr  ")  # the same atoms and places
    second = _run(case, "--restart", "--steps", "100")
    assert (second / "mixing.json").read_text() == (first / "mixing.json").read_text()
    assert (second / "region.json").read_text() == (first / "region.json").read_text()
    after = _conserved(second)
    assert abs(after[0] - before[-1]) < np.ptp(before) + 1e-6
    assert np.ptp(np.concatenate((before, after))) < 2.0 * np.ptp(before)


def test_a_restart_with_another_potential_is_refused(case: Path) -> None:
    _run(case, "--steps", "5")
    edit(case / "mix.toml", "blend_width = 3.0", "blend_width = 3.5")
    done = mixserver_here("run", case, "--quiet", "--restart", "--steps", "10")
    assert done.returncode == 1
    assert "the potential would change in the middle of a run" in done.stderr


def test_what_a_criterion_changes_is_told_as_work(case: Path) -> None:
    edit(case / "mix.toml", "follow = true", "")
    edit(case / "mix.toml", 'seeds = { kind = "atoms", indices = [132] }', CRITERION)
    run = _run(case)
    work = np.array([report.work for report in read_reports(run)])
    conserved = _conserved(run)
    assert len(work) == len(conserved)
    assert np.ptp(work) > 1e-3
    assert np.ptp(conserved - work) < 0.1 * np.ptp(conserved)


@pytest.mark.physics
def test_a_killed_worker_changes_nothing(case: Path) -> None:
    whole = _conserved(_run(case, "--steps", "60"))
    running = subprocess.Popen(
        [MIXSERVER, "run", case, "--quiet", "--steps", "60"], stderr=subprocess.DEVNULL
    )
    log, reports = case / "runs/0002/server.log", case / "runs/0002/mixserver.jsonl"
    deadline = time.monotonic() + HANG_S
    while not (reports.exists() and len(reports.read_bytes().splitlines()) > 10):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    started = [json.loads(line) for line in log.read_text().splitlines()]
    for entry in started:
        if entry["event"] == "started" and entry["process"].startswith("expensive"):
            os.kill(entry["pid"], signal.SIGKILL)
    assert running.wait(120) == 0
    np.testing.assert_array_equal(_conserved(case / "runs/0002"), whole)
