"""`mixserver align` and `mixserver check` on a toy case, with the processes a user has."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest
from command_here import mixserver_here
from limits import HANG_S
from PIL import Image

from mixserver.analysis.checks.findings import Finding
from mixserver.config import load_case
from mixserver.core.structures import read_structure
from mixserver.mixing.energy_reference import read_energy_reference

INPUTS = Path(__file__).parents[2] / "inputs"
BIN = Path(sys.executable).parent


TOY = """
[upstream]
address = "unix:minimal"
structure = "init.xyz"
[region]
core_radius = 4.0
blend_width = 3.0
seeds = { kind = "atoms", indices = [132] }
[mixing]
kind = "energy"
[models.cheap]
[models.expensive]
[[local]]
role = "cheap"
command = ["toy", "--epsilon", "0.5", "--sigma", "3.4", "--cutoff", "7.0"]
[[local]]
role = "expensive"
command = ["toy", "--epsilon", "0.9", "--sigma", "3.4", "--cutoff", "7.0"]
"""


@pytest.fixture
def case(tmp_path: Path) -> Path:
    """The minimal case's atoms, with potentials whose ghost forces are large."""
    folder = tmp_path / "case"
    folder.mkdir()
    for name in ("init.xyz", "input.xml"):
        shutil.copy(INPUTS / "minimal" / name, folder)
    (folder / "mix.toml").write_text(TOY)
    return folder


def _edit(folder: Path, old: str, new: str) -> None:
    text = (folder / "mix.toml").read_text()
    assert old in text
    (folder / "mix.toml").write_text(text.replace(old, new))


def _mixserver(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [BIN / "mixserver", *arguments], capture_output=True, text=True, timeout=HANG_S, check=False
    )


def test_zeros_are_aligned_and_then_used(case: Path) -> None:
    done = _mixserver("align", case)
    assert done.returncode == 0, done.stderr
    header, argon, loads, written = done.stdout.splitlines()
    assert header.split()[0] == "element"
    assert argon.split()[0] == "Ar"
    assert argon.endswith("bulk-like")
    assert written == f"written: {case / 'mixing.json'}"
    topology, _ = read_structure(load_case(case).structure)
    state = read_energy_reference(case / "mixing.json", topology)
    assert float(argon.split()[1]) == pytest.approx(state.zeros["Ar"].value, abs=1e-6)
    assert state.loads is not None
    assert f"on {len(state.loads.atoms)} atoms" in loads

    figure = case / "ghosts.png"
    checked = _mixserver("check", case, "--json", "--figure", figure)
    assert checked.returncode == 0, checked.stderr
    assert "not_used" not in checked.stderr  # the state fits
    found = [Finding(**finding) for finding in json.loads(checked.stdout)]
    warned = {finding.what for finding in found if finding.level != "ok"}
    # one model is nearly twice the other, and strained; how long these toys take is noise
    assert warned - {"speed"} == {"bulk elastic", "bulk forces", "pressure"}
    figures = {finding.what: finding.figure for finding in found}
    assert figures["zero"] == state.zeros["Ar"].value
    assert abs(figures["ghost forces"] or 1.0) < 1e-10
    assert {"forces of the mixed energy", "virial of the mixed energy", "halo", "speed"} <= set(
        figures
    )
    with Image.open(figure) as image:
        assert np.asarray(image).std() > 1.0


def test_where_lambda_follows_the_size_of_grad_lambda_forces_is_reported(case: Path) -> None:
    _edit(case, "core_radius", "follow = true\ncore_radius")
    done = mixserver_here("align", case / "mix.toml", "--json")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["dead_loads"] is None
    # quintic: 15/8 over the blend's width
    spread = told["zeros"]["Ar"]["spread"]
    assert told["pull"] == pytest.approx(spread * 1.875 / 3.0)


def test_forces_have_no_zeros(case: Path) -> None:
    _edit(case, 'kind = "energy"', 'kind = "force"')
    done = mixserver_here("align", case)
    assert done.returncode == 1
    (line,) = done.stderr.strip().splitlines()
    assert "mixes forces, which need no energy offsets" in line
    assert "set mixing.kind = 'energy'" in line
    assert not (case / "mixing.json").exists()


def test_without_local_workers_nothing_is_evaluated(case: Path) -> None:
    text = (case / "mix.toml").read_text()
    (case / "mix.toml").write_text(text[: text.index("[[local]]")])
    done = mixserver_here("align", case)
    assert done.returncode == 1
    assert "has no [[local]] workers" in done.stderr


def test_a_worker_that_cannot_start_is_quoted_and_no_removed_file_is_named(case: Path) -> None:
    _edit(case, '["toy", "--epsilon", "0.5"', '["toy", "--epsilon", "x"')
    done = mixserver_here("check", case)
    assert done.returncode == 1
    assert "'x' is not a valid float" in done.stdout
    assert tempfile.gettempdir() + "/" not in done.stdout.replace(str(case), "") + done.stderr


def test_findings_about_files_come_before_the_models_are_evaluated(case: Path) -> None:
    command = [BIN / "mixserver", "check", case]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as check:
        assert check.stdout is not None
        first = check.stdout.readline()
        assert check.poll() is None
        rest = check.stdout.read().splitlines()
    assert first.startswith("ok       structure            256 atoms: 256 Ar")
    assert any(line.startswith("ok       cheap ") for line in rest)
    assert rest[-1].startswith(f"{len(rest)} things looked at")


CALCULATOR = """
from ase.calculators.lj import LennardJones

class Calc(LennardJones):
    pass
"""


def test_a_calculator_in_the_folder_of_the_case_is_found_as_the_error_says(case: Path) -> None:
    (case / "my.py").write_text(CALCULATOR)
    _edit(
        case,
        '["toy", "--epsilon", "0.9", "--sigma", "3.4", "--cutoff", "7.0"]',
        '["ase", "my.Calc"]',
    )
    _edit(case, '"energy"', '"force"')
    lost = mixserver_here("check", case)
    assert lost.returncode == 1
    assert "No module named 'my'" in lost.stdout
    cure = 'environment = { PYTHONPATH = "." }'
    assert cure in " ".join(lost.stdout.split())
    _edit(case, '"my.Calc"]', f'"my.Calc"]\n{cure}')
    found = json.loads(mixserver_here("check", case, "--json").stdout)
    said = {one["what"]: one["message"] for one in found}
    assert said["expensive"].startswith("my.Calc (")
    assert "workers" not in said


def test_a_job_that_no_worker_can_do_is_reported_once(case: Path) -> None:
    lines = (case / "init.xyz").read_text().splitlines()
    lines[3] = lines[2]  # two atoms at one place
    (case / "init.xyz").write_text("\n".join(lines) + "\n")
    done = mixserver_here("check", case)
    assert done.returncode == 1
    assert done.stdout.count("overlap") == 1
    with (case / "mix.toml").open("a") as file:
        file.write("\n[limits]\nshortest_pair = 0\n")  # let the models say it
    done = mixserver_here("check", case)
    assert done.returncode == 1
    assert "job failed" not in done.stderr
    assert " ".join(done.stdout.split()).count("cannot be evaluated") == 1


def test_a_picture_needs_models_and_a_folder(case: Path) -> None:
    done = mixserver_here("check", case, "--quick", "--figure", "a.png")
    assert done.returncode == 2
    assert "leave --quick out" in done.stderr
    done = mixserver_here("check", case, "--figure", case / "nowhere" / "a.png")
    assert done.returncode == 2
    assert "is not a folder" in done.stderr
