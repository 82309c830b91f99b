"""The barrier of a vacancy's step in silicon: mixed by energies, against MACE alone, by i-PI's NEB.

The case as it is, but with one image between the ends, which starts halfway between them.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

pytestmark = [
    pytest.mark.physics,
    pytest.mark.mace,
    pytest.mark.lammps,
    pytest.mark.timeout(3600),
]
INPUTS = Path(__file__).parents[2] / "inputs"
MEV = 1e-3


def _straight(path: Path) -> None:
    """Leave the ends of a path, and put one image in between."""
    rows = path.read_text().splitlines()
    size = int(rows[0]) + 2
    ends = [
        np.array([row.split()[1:] for row in frame[2:]], dtype=float)
        for frame in (rows[:size], rows[-size:])
    ]
    with path.open("w") as out:
        for image in (ends[0], (ends[0] + ends[1]) / 2, ends[1]):
            out.write("\n".join(rows[:2]) + "\n")
            out.writelines("Si {:.8f} {:.8f} {:.8f}\n".format(*atom) for atom in image)


def test_the_mixed_barrier_is_that_of_mace(tmp_path: Path) -> None:
    for name in ("silicon_vacancy", "silicon_vacancy_neb", "silicon_distill"):
        shutil.copytree(
            INPUTS / name, tmp_path / name, ignore=shutil.ignore_patterns("runs", "distilled")
        )
    case = tmp_path / "silicon_vacancy_neb"
    _straight(case / "path.xyz")
    done = subprocess.run(
        [sys.executable, "barriers.py", "all_mace", "mix"],
        cwd=case,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    table = {
        words[0]: [float(word) for word in words[1:]]
        for words in map(str.split, done.stdout.splitlines()[1:])
        if words and words[0] in {"all_mace", "mix"}
    }
    assert set(table) == {"all_mace", "mix"}, done.stdout
    for height, back, work, steps, _ in table.values():
        assert 0.12 < height < 0.16
        assert steps > 5  # the image in between was not there yet
        # the step and its inversion are the same, in the mixed potential too: lambda and dead loads
        # are of the structure halfway
        assert abs(height - back) < 0.5 * MEV
        # forces belong to the energies, along a whole path
        assert abs(height - work) < 0.5 * MEV
    assert abs(table["mix"][0] - table["all_mace"][0]) < 2.0 * MEV
