"""The studies in inputs/: their tasks, and that a run would refuse none of their arms."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from limits import HANG_S

SCRIPTS = sorted((Path(__file__).parents[2] / "inputs").glob("*/study.py"))


def study(script: Path, *words: str) -> str:
    done = subprocess.run(
        [sys.executable, str(script), *words],
        capture_output=True,
        text=True,
        timeout=HANG_S,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.parent.name)
@pytest.mark.parametrize("size", ["small", "paper"])
def test_every_study_has_tasks_of_both_sizes(script: Path, size: str, tmp_path: Path) -> None:
    rows = study(script, "status", "--size", size, "--runs", str(tmp_path)).splitlines()
    assert rows[-1] == f"0 of {len(rows) - 2} done"
    assert len(rows) > 4
    assert all(row.split()[1] == "waits" for row in rows[1:-1])


@pytest.mark.lammps
@pytest.mark.mace
def test_no_arm_of_the_bond_would_be_refused() -> None:
    (script,) = (script for script in SCRIPTS if script.parent.name == "si_bond")
    assert "12 arms" in study(script, "check")
