"""Workers of a real run whose engine returns wrong numbers: they are found and named."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from command_line import edit, minimal_case, mixserver, mixserver_done

LIAR = """
import os, pathlib
import numpy as np
from mixserver_worker.engine import EngineResult
from mixserver_worker.engines.toy import ToyEngine
honest, asked = ToyEngine.evaluate, 0
lied = pathlib.Path(__file__).with_name("lied")
def evaluate(self, job):
    global asked
    asked += 1
    done = honest(self, job)
    forces = done.forces.copy()
    if os.environ["TEST_LIE"] == "a little":
        forces *= 1.01
    elif asked > 5 and not lied.exists():
        lied.touch()
        forces[3] = np.nan
    return EngineResult(done.energy, forces, done.virial, done.energies, done.values)
ToyEngine.evaluate = evaluate
"""


@pytest.fixture
def case(tmp_path: Path) -> Path:
    """The minimal case with few steps, and a second expensive worker."""
    folder = minimal_case(tmp_path)
    edit(folder / "input.xml", "<total_steps> 100", "<total_steps> 14")
    (tmp_path / "sitecustomize.py").write_text(LIAR)
    return folder


def add_liar(case: Path, lie: str, workers: str) -> None:
    with (case / "mix.toml").open("a") as file:
        file.write(
            f'environment = {{ PYTHONPATH = "{case.parent}", TEST_LIE = "{lie}" }}\n'
            f"[workers]\n{workers}\n"
        )


def test_a_difference_in_a_spot_check_ends_the_run_and_both_results_are_kept(case: Path) -> None:
    with (case / "mix.toml").open("a") as file:  # an honest one beside it
        file.write(
            '[[local]]\nrole = "expensive"\n'
            'command = ["toy", "--epsilon", "0.0120", "--sigma", "3.4", "--cutoff", "7.0"]\n'
        )
    add_liar(case, "a little", "audit = 5")
    done = mixserver("run", case, "--quiet")
    assert done.returncode == 1, done.stderr
    said = done.stderr
    for words in (
        "spot check: the expensive workers expensive-",
        "in float64, but differ in their forces by",
        "rounding explains",
        "Both results are saved: ",
        "spot-check.npz",
    ):
        assert words in said
    kept = np.load(case / "runs/0001/spot-check.npz")
    pair = sorted((kept["first_forces"], kept["second_forces"]), key=lambda f: np.abs(f).max())
    np.testing.assert_allclose(pair[1], 1.01 * pair[0])
    assert {str(kept["first_worker"]), str(kept["second_worker"])} == {
        "expensive-1-0",
        "expensive-2-0",
    }
    assert (case / "runs/0001/RESTART").exists()


def test_a_worker_with_wrong_results_is_replaced_and_the_run_is_the_same(case: Path) -> None:
    mixserver_done("run", case, "--quiet")
    add_liar(case, "not a number", "audit = 10")
    mixserver_done("run", case, "--quiet")
    outputs = [
        [
            line
            for line in (case / run / "simulation.out").read_text().splitlines()
            if line[0] != "#"
        ]
        for run in ("runs/0001", "runs/0002")
    ]
    assert outputs[0] == outputs[1]
    log = (case / "runs/0002/server.log").read_text()
    assert "1 forces that are not finite (first: atom 3)" in log
    assert "starting it again" in log
    assert log.count("no spot check") == 2, "a role has one worker only, which is said once"
