"""A study with real i-PI and workers: killed at any point, it goes on to the same results."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from limits import HANG_S

ROOT = Path(__file__).parents[2]


@pytest.fixture
def script(tmp_path: Path) -> Path:
    for name in ("mix.toml", "input.xml", "init.xyz"):
        shutil.copy(ROOT / "inputs/minimal" / name, tmp_path)
    shutil.copy(ROOT / "tests/studies/argon_study.py", tmp_path / "study.py")
    return tmp_path / "study.py"


def study(script: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(script), *words],
        capture_output=True,
        text=True,
        timeout=HANG_S,
        check=False,
    )


def appeared(file: Path, process: subprocess.Popen[bytes]) -> None:
    until = time.monotonic() + HANG_S
    while not file.exists():
        assert process.poll() is None
        assert time.monotonic() < until
        time.sleep(0.02)


def test_a_study_that_was_killed_finds_the_same(script: Path) -> None:
    done = study(script, "run", "--at-once", "1")
    assert done.returncode == 0, done.stdout + done.stderr
    runs = script.parent / "runs/small"
    wanted = {file.name: file.read_bytes() for file in runs.glob("table.*")}
    assert len(json.loads(wanted["table.json"])["tables"][0]["rows"]) == 2
    assert (runs / "energies.png").stat().st_size > 1000

    killed = subprocess.Popen(
        [sys.executable, str(script), "run", "--runs", "again", "--at-once", "1"],
        cwd=script.parent,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    # in the second segment of the first task: i-PI has made steps of it
    appeared(script.parent / "again/small/energy/case/runs/0002/simulation.out", killed)
    os.kill(killed.pid, signal.SIGKILL)
    killed.wait()
    told = study(script, "status", "--runs", str(script.parent / "again")).stdout
    assert "0 of 2 done" in told
    done = study(script, "run", "--runs", str(script.parent / "again"), "--at-once", "1")
    assert done.returncode == 0, done.stdout + done.stderr
    for name, content in wanted.items():
        assert (script.parent / "again/small" / name).read_bytes() == content
    told = study(script, "status").stdout
    assert "2 of 2 done" in told


def test_failures_are_told_once_and_the_rest_goes_on(script: Path) -> None:
    done = study(script, "run", "--size", "paper", "bad", "worse", "all-cheap")
    assert done.returncode == 1
    assert done.stdout.count("this task always fails") == 1
    assert "failed: bad, worse: this task always fails" in done.stdout
    assert "| all-cheap |" in done.stdout
    assert "1 of 4 tasks are done" in done.stdout
    told = study(script, "status", "--size", "paper").stdout
    assert told.count("failed") == 2
    assert "waits" in told
    assert "no task 'none'" in study(script, "run", "none").stderr


def test_a_study_that_is_stopped_ends_in_order(script: Path) -> None:
    stopped = subprocess.Popen(
        [sys.executable, str(script), "run", "--quiet"], cwd=script.parent, stdout=subprocess.PIPE
    )
    appeared(script.parent / "runs/small/energy/case/runs/0001/simulation.out", stopped)
    stopped.send_signal(signal.SIGINT)
    out, _ = stopped.communicate(timeout=HANG_S)
    assert stopped.returncode == 130
    assert b"the same command goes on" in out
