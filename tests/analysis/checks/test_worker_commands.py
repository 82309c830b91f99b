"""Commands of local workers that cannot run are found before anything is started."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner
from command_here import mixserver_here
from mixserver_worker.cli import main as worker

from mixserver.analysis.checks.findings import Finding
from mixserver.analysis.checks.worker_commands import worker_command_findings
from mixserver.config import load_case
from mixserver.core.structures import read_structure
from mixserver.wire.worker_validation import WorkerValidation, from_json

INPUTS = Path(__file__).parents[3] / "inputs"


def validated(*words: str) -> WorkerValidation:
    done = CliRunner().invoke(worker, ["validate", "--", *words])
    assert done.exit_code == 0, done.output
    return from_json(done.stdout.splitlines()[-1].encode())


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["mcae", "a.model"], "'mcae' is no engine; did you mean mace?"),
        (["untrained", "a.model"], "is no engine; there are lammps"),
        (["mace", "a.model", "--dtyp", "float64"], "No such option '--dtyp'"),
        (["mace", "a.model", "--dtype", "float65"], "'float65' is not one of"),
        (["mace"], "Missing argument 'MODEL'"),
        (["lammps", "nowhere.in"], "'nowhere.in' does not exist"),
        (["toy", "--epsilon", "x"], "'x' is not a valid float"),
        (["toy", "--help"], "an option that prints something"),
    ],
)
def test_what_is_no_command_is_told(words: list[str], said: str) -> None:
    assert said in validated(*words).problem


def test_a_command_that_is_one_is_not_started() -> None:
    assert validated("toy", "--epsilon", "0.5") == WorkerValidation()
    assert validated("mace", "a.model", "--device", "cuda") == WorkerValidation()


def _case(folder: Path, commands: str) -> Path:
    case = folder / "case"
    shutil.copytree(INPUTS / "minimal", case, ignore=shutil.ignore_patterns("runs"))
    (case / "cheap.in").write_text(commands)
    text = (case / "mix.toml").read_text()
    kept = text[: text.index("[[local]]")]
    (case / "mix.toml").write_text(
        f'{kept}[[local]]\nrole = "cheap"\ncommand = ["lammps", "cheap.in"]\n'
        '[[local]]\nrole = "expensive"\ncommand = ["toy"]\n'
    )
    return case


def _found(folder: Path, commands: str) -> list[Finding]:
    case = load_case(_case(folder, commands))
    return worker_command_findings(case, read_structure(case.structure)[0])


LJ = "labelmap atom 1 {0}\npair_style lj/cut 7.0\npair_coeff 1 1 0.01 3.4\n"


def test_a_potential_is_read_with_its_elements(tmp_path: Path) -> None:
    (fine,) = _found(tmp_path / "a", LJ.format("Ar"))
    assert (fine.level, fine.what, fine.figure) == ("ok", "cheap potential", 7.0)
    (wrong,) = _found(tmp_path / "b", LJ.format("Ne"))
    assert wrong.level == "error"
    assert "knows Ne, and the structure has Ar too" in wrong.message


def test_a_file_that_is_not_there_is_an_error_of_the_quick_check(tmp_path: Path) -> None:
    text = "pair_style eam/alloy\npair_coeff * * gone.eam.alloy Ar\n"
    done = mixserver_here("check", "--quick", _case(tmp_path, text))
    assert done.returncode == 1
    assert "gone.eam.alloy" in done.stdout
    assert "[[local]] command lammps cheap.in" in done.stdout
