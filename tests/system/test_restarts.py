"""`mixserver run --restart` as people use it: after changes, after failures, after kills."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

INPUTS = Path(__file__).parents[2] / "inputs"
MIXSERVER = Path(sys.executable).parent / "mixserver"


@pytest.fixture
def case(tmp_path: Path) -> Path:
    """A copy of the minimal case."""
    folder = tmp_path / "case"
    shutil.copytree(INPUTS / "minimal", folder, ignore=shutil.ignore_patterns("runs"))
    return folder


def edit(file: Path, old: str, new: str) -> None:
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new))


def mixserver(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [MIXSERVER, *arguments], capture_output=True, text=True, timeout=100, check=False
    )


def ran(*arguments: str | Path) -> None:
    done = mixserver(*arguments)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("kind", ["energy", "force"])
def test_another_potential_is_refused_every_time_and_the_right_one_goes_on(
    case: Path, kind: str
) -> None:
    if kind == "force":
        edit(case / "mix.toml", 'kind = "energy"', 'kind = "force"')
        edit(case / "mix.toml", "follow = true", "")
    ran("run", case, "--quiet", "--steps", "10")
    for old, new, said in (
        ("core_radius = 4.0", "core_radius = 4.5", "region.core_radius: 4.0 -> 4.5"),
        ("0.0120", "0.0121", "the expensive model: toy-lj"),
    ):
        edit(case / "mix.toml", old, new)
        for _ in range(2):
            done = mixserver("run", case, "--quiet", "--restart", "--steps", "20")
            assert done.returncode == 1
            assert said in done.stderr
            assert "0001 was made with other" in done.stderr
        edit(case / "mix.toml", new, old)
    ran("run", case, "--quiet", "--restart", "--steps", "20")
    about = json.loads((case / "runs/latest/run.json").read_text())
    assert about["restarted_from"] == {"run": "../0001", "file": "RESTART", "step": 10}
    assert np.loadtxt(case / "runs/latest/simulation.out")[:, 0].tolist() == list(range(11, 21))


def test_a_named_checkpoint_is_gone_on_from(case: Path) -> None:
    edit(case / "input.xml", "stride='100' filename='chk' overwrite='true'", CHECKPOINTS)
    edit(case / "input.xml", "<total_steps> 100", "<!-- <total_steps> 7 --> <total_steps> 100")
    ran("run", case, "--quiet", "--steps", "9")
    checkpoint = case / "runs/0001/simulation.chk_1"  # the second, after step 5
    ran("run", case, "--quiet", "--from", checkpoint, "--steps", "9")
    first, second = (np.loadtxt(case / f"runs/{n}/simulation.out") for n in ("0001", "0002"))
    np.testing.assert_allclose(second, first[6:], rtol=1e-6)
    done = mixserver("run", case, "--restart", "--from", checkpoint)
    assert done.returncode == 1
    assert "give one" in done.stderr


CHECKPOINTS = "stride='5' filename='chk' overwrite='false'"
