"""The barrier of a vacancy's step in silicon: mixed by energies, against MACE alone, by i-PI's NEB.

The study as it is, but with one image between the ends, which starts halfway between them.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [
    pytest.mark.physics,
    pytest.mark.mace,
    pytest.mark.lammps,
    pytest.mark.timeout(3600),
]
INPUTS = Path(__file__).parents[2] / "inputs"
MEV = 1e-3


def test_the_mixed_barrier_is_that_of_mace(tmp_path: Path) -> None:
    for name in ("silicon_vacancy", "silicon_vacancy_neb", "silicon_distill"):
        shutil.copytree(
            INPUTS / name, tmp_path / name, ignore=shutil.ignore_patterns("runs", "distilled")
        )
    case = tmp_path / "silicon_vacancy_neb"
    script = case / "study.py"
    text = script.read_text()
    assert '"images": 5' in text
    script.write_text(text.replace('"images": 5', '"images": 3'))
    done = subprocess.run(
        [sys.executable, "study.py", "run", "--at-once", "2", "all-expensive", "energy"],
        cwd=case,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    found = {
        name: json.loads((case / "runs/small" / name / "result.json").read_text())["values"]
        for name in ("all-expensive", "energy")
    }
    for one in found.values():
        assert 0.12 < one["barrier"] < 0.16
        assert one["steps"] > 5  # the image in between was not there yet
        # the step and its inversion are the same, in the mixed potential too: lambda and dead loads
        # are of the structure halfway
        assert abs(one["barrier"] - one["back"]) < 0.5 * MEV
        # forces belong to the energies, along a whole path
        assert abs(one["barrier"] - one["work"]) < 0.5 * MEV
    assert abs(found["energy"]["barrier"] - found["all-expensive"]["barrier"]) < 2.0 * MEV
    assert "| energy |" in (case / "runs/small/table.md").read_text()
