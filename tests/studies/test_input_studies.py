"""The studies in inputs/: their tasks, and that a run would refuse none of their arms."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from limits import HANG_S

from mixserver.studies.study import Study

INPUTS = Path(__file__).parents[2] / "inputs"
SCRIPTS = sorted(INPUTS.glob("*/study.py"))


@pytest.fixture
def study(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """The module of a script, which imports others from its folder."""
    script: Path = request.param
    before = set(sys.modules)
    monkeypatch.syspath_prepend(str(script.parent))
    spec = importlib.util.spec_from_file_location(f"study_{script.parent.name}", script)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, module)
    spec.loader.exec_module(module)
    yield module
    for name in set(sys.modules) - before:
        if str(INPUTS) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]  # another study has a module of this name


@pytest.mark.parametrize("study", SCRIPTS, ids=lambda script: script.parent.name, indirect=True)
def test_every_study_has_the_same_tasks_at_every_call(study: ModuleType) -> None:
    found: Study = study.STUDY
    for size in ("small", "paper"):
        tasks = found.tasks(size)
        assert len(tasks) > 2
        assert tasks == found.tasks(size)


@pytest.mark.parametrize("study", [INPUTS / "si_bond/study.py"], ids=["si_bond"], indirect=True)
def test_the_tension_of_a_bond_is_read_over_segments(study: ModuleType, tmp_path: Path) -> None:
    study.write_crystal(tmp_path / "init.xyz", 3, 2.9)
    rows = (tmp_path / "init.xyz").read_text().splitlines()[2:4]
    one, other = (np.array(row.split()[1:], dtype=float) for row in rows)
    along = (other - one) / 2.9
    assert np.linalg.norm(along) == pytest.approx(1.0, abs=1e-7)
    rng = np.random.default_rng(2)
    tensions = rng.normal(5.0, 1.0, 7)
    for number, steps in enumerate((range(4), range(3, 7)), start=1):
        folder = tmp_path / f"{number:04d}"
        folder.mkdir()
        with (folder / "simulation.bond").open("w") as out:
            for step in steps:
                across = np.cross(along, rng.standard_normal(3))
                first = 0.5 * tensions[step] * along + across
                forces = [*first, *(across - 0.5 * tensions[step] * along)]
                out.write(f"{step} " + " ".join(f"{force:.12e}" for force in forces) + "\n")
    runs = [tmp_path / "0001", tmp_path / "0002"]
    assert study.tensions(runs, tmp_path / "init.xyz", 6) == pytest.approx(tensions[1:])
    with pytest.raises(study.ConfigError, match="no forces of step 7"):
        study.tensions(runs, tmp_path / "init.xyz", 7)


@pytest.mark.lammps
@pytest.mark.mace
def test_no_arm_of_the_bond_would_be_refused() -> None:
    done = subprocess.run(
        [sys.executable, str(INPUTS / "si_bond/study.py"), "check"],
        capture_output=True,
        text=True,
        timeout=HANG_S,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "12 arms" in done.stdout
