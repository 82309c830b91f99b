"""The cheap potential: lines, files and inputs become cheap.in, with the files beside it."""

from __future__ import annotations

from pathlib import Path

import pytest

from mixserver.core.errors import ConfigError
from mixserver.new_case.potential import read_potential, write_potential


def test_lines_are_split_and_files_renamed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my.sw").write_text("Si Si Si 1")
    made = read_potential("pair_style sw; pair_coeff * * my.sw Si", ["Si"])
    assert made.lines == ["pair_style sw", "pair_coeff * * potential/my.sw Si"]
    case = tmp_path / "case"
    case.mkdir()
    write_potential(made, case, "copy")
    assert (case / "potential/my.sw").read_text() == "Si Si Si 1"
    assert "pair_style sw\n" in (case / "cheap.in").read_text()


def test_includes_are_taken_along_with_their_files(tmp_path: Path) -> None:
    inner = tmp_path / "inner"
    inner.mkdir()
    (inner / "a.table").write_text("numbers")
    (inner / "part.lmp").write_text("pair_style table linear 10\npair_coeff 1 1 a.table X\n")
    (tmp_path / "pot.in").write_text("labelmap atom 1 Si\ninclude inner/part.lmp\n")
    made = read_potential(str(tmp_path / "pot.in"), ["Si"])
    assert made.lines == ["labelmap atom 1 Si", "include potential/part.lmp"]
    assert "pair_coeff 1 1 a.table X" in made.texts["part.lmp"]
    assert set(made.files) == {"a.table"}


def test_only_the_potential_of_an_input_is_taken(tmp_path: Path) -> None:
    file = tmp_path / "in.lmp"
    file.write_text(
        "units metal\nvariable T equal 300\nvariable w index W\nread_data a.data\n"
        "pair_style eam/alloy # old\npair_coeff * * &\n  W_zhou.eam.alloy ${w}\nfix 1 all nve\n"
        "run 5\n"
    )
    made = read_potential(str(file), ["W"])
    assert made.lines[0] == "variable w index W"  # T is used by none of them
    assert len(made.lines) == 3
    assert "not units, read_data, fix, run" in made.notes[0]


@pytest.mark.parametrize(
    ("units", "said"), [("units real\n", "in units real"), ("", "in units lj")]
)
def test_parameters_in_other_units_are_refused(tmp_path: Path, units: str, said: str) -> None:
    file = tmp_path / "in.lmp"
    file.write_text(f"{units}read_data a.data\npair_style lj/cut 8\npair_coeff * * 1 1\n")
    with pytest.raises(ConfigError, match=said):
        read_potential(str(file), ["Ar"])


@pytest.mark.lammps
@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("Si.sw", "pair_coeff * * Si.sw Si"),
        ("Si.tersoff.mod", "pair_coeff * * Si.tersoff.mod Si"),
        ("Cu_mishin1.eam.alloy", "pair_coeff * * Cu_mishin1.eam.alloy Cu"),
        ("W_2940_2017_2.snap", "include W_2940_2017_2.snap"),
    ],
)
def test_potentials_that_come_with_lammps_by_their_name(name: str, line: str) -> None:
    made = read_potential(name, ["Cu" if name.startswith("Cu") else "Si"])
    assert made.lines[-1] == line
    assert not made.files


def test_two_files_of_one_name_are_refused(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "x.table").write_text(folder)
    (tmp_path / "pot.in").write_text(
        "pair_style table linear 9\npair_coeff 1 1 a/x.table A\npair_coeff 1 2 b/x.table A\n"
    )
    with pytest.raises(ConfigError, match="have one name"):
        read_potential(str(tmp_path / "pot.in"), ["Si"])
