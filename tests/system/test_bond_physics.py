"""The force on a stretched bond: mixed with a core of 6 Å it is that of MACE, SNAP alone is not.

The study as it is, with fewer steps.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from mixserver.studies.statistics import series_mean

pytestmark = [
    pytest.mark.physics,
    pytest.mark.mace,
    pytest.mark.lammps,
    pytest.mark.timeout(3600),
]
INPUTS = Path(__file__).parents[2] / "inputs"
ARMS = ("all-expensive", "all-cheap", "energy-6")


def test_a_mixed_bond_pulls_like_that_of_mace(tmp_path: Path) -> None:
    for name in ("silicon_vacancy", "silicon_distill", "si_bond"):
        shutil.copytree(
            INPUTS / name, tmp_path / name, ignore=shutil.ignore_patterns("runs", "distilled")
        )
    case = tmp_path / "si_bond"
    script = case / "study.py"
    text = script.read_text()
    few = text.replace('"steps": 500, "skip": 100', '"steps": 150, "skip": 30')
    assert few != text
    script.write_text(few)
    done = subprocess.run(
        [sys.executable, "study.py", "run", *ARMS],
        cwd=case,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    mace, snap, mixed = (
        np.array(
            json.loads((case / f"runs/small/{arm}/result.json").read_text())["values"]["tension"]
        )
        for arm in ARMS
    )
    assert len(mace) == len(snap) == len(mixed) == 120
    cheap, apart = series_mean(snap - mace), series_mean(mixed - mace)
    # the same noise: differences are known far better than each mean
    assert cheap.error < 0.5 * series_mean(mace).error
    assert cheap.value < -0.4
    assert abs(apart.value) < 0.3 * abs(cheap.value)
    assert (case / "runs/small/tension.png").stat().st_size > 1000
