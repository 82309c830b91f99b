"""The silicon case as it is, for longer: it holds its temperature and never loses the vacancy."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from mixserver.analysis.records import read_reports
from mixserver.analysis.run_properties import read_properties

pytestmark = [pytest.mark.physics, pytest.mark.timeout(1800)]
CASE = Path(__file__).parents[2] / "inputs/silicon_vacancy"
STEPS, EQUILIBRATION = 600, 200


def test_the_thermostat_holds_and_the_region_stays(tmp_path: Path) -> None:
    folder = tmp_path / "silicon_vacancy"
    (tmp_path / "silicon_distill").symlink_to(CASE.parent / "silicon_distill")
    shutil.copytree(CASE, folder, ignore=shutil.ignore_patterns("runs"))
    mixserver = Path(sys.executable).with_name("mixserver")
    subprocess.run([mixserver, "run", folder, "--quiet", "--steps", str(STEPS)], check=True)
    table = read_properties([folder / "runs/latest"], ("step", "temperature"))
    steps, kelvin = table.step, table.columns["temperature"]
    assert steps[-1] == STEPS
    # one reading scatters by 600 K sqrt(2/3N) = 15.5 K; a friction time of 0.1 ps leaves about
    # four independent ones in 0.4 ps
    assert abs(kelvin[steps >= EQUILIBRATION].mean() - 600.0) < 3 * 15.5
    reports = read_reports(folder / "runs/latest")
    assert all(r.blend > 50 for r in reports)
    assert np.mean([r.core > 0 for r in reports]) > 0.9
    assert max(r.mismatch_rms for r in reports) < 0.5
