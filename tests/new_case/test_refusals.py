"""What cannot become a case is refused in words, and leaves nothing behind."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
from ase.build import bulk

from mixserver.core.errors import ConfigError
from mixserver.new_case.build import make_case
from mixserver.new_case.decisions import Wishes

INPUTS = Path(__file__).parents[2] / "inputs"
W_MACE = str(INPUTS / "w_he/model/w_he_mace.model")
SI_MACE = str(INPUTS / "silicon_vacancy/model/si_mace.model")


@pytest.fixture
def wishes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """A vacancy in 249 atoms of tungsten, as it would be accepted."""
    atoms = bulk("W", "bcc", a=3.1776, cubic=True) * (5, 5, 5)
    del atoms[100]
    atoms.write(tmp_path / "POSCAR", direct=True)
    (tmp_path / "in.lmp").write_text("units metal\nread_data w.data\npair_style snap\n")
    monkeypatch.chdir(tmp_path)
    return {
        "folder": tmp_path / "case",
        "structure": Path("POSCAR"),
        "cheap": "W_2940_2017_2.snap",
        "expensive": W_MACE,
        "core": 3.5,
    }


def refused(wishes: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        make_case(Wishes(**wishes))
    assert not wishes["folder"].exists()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"cheap": None}, "--cheap is missing"),
        ({"cheap": "nothing.sw"}, "none of the potentials that come with LAMMPS"),
        ({"cheap": "POSCAR"}, "cannot be told from its name"),
        ({"expensive": SI_MACE}, "the structure has W too"),
        ({"expensive": "nothing.model"}, "is no file here"),
        ({"expensive": "POSCAR"}, "is no archive of torch"),
        ({"expensive": "nequip"}, "nequip what"),
        ({"core": 8.0}, "the cell is too small"),
        ({"core": -1.0}, "are radii"),
        ({"timestep": "1"}, "has no unit"),
        ({"length": "5"}, "has no unit"),
        ({"pressure": "1GPa"}, "is for --ensemble npt"),
        ({"seeds": "atoms 5000"}, "counted from 0"),
        ({"structure": Path("POSCAT")}, "did you mean POSCAR"),
        (
            {"structure": Path("in.lmp")},
            "--from-lammps in.lmp .*; or give the file of its read_data",
        ),
        ({"expensive": "POSCARR"}, "is no file here; did you mean POSCAR"),
        ({"cheap": "in.lammps"}, "begins with pair_style; did you mean in.lmp"),
        ({"structure": None}, "either --structure FILE or --from-lammps INPUT"),
        ({"lammps_input": Path("POSCAR")}, "either --structure FILE or --from-lammps INPUT"),
    ],
)
def test_without_lammps(wishes: dict[str, Any], options: dict[str, Any], said: str) -> None:
    refused(wishes | options, said)


@pytest.mark.lammps
@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"cheap": "Si.sw"}, "LAMMPS refuses the potential.*missing an entry for: W W W"),
        ({"cheap": "pair_style sw; pair_coeff * * Si.sw Si"}, "knows Si, and the structure has W"),
        ({"cheap": "pair_style sw"}, "does not end in element names"),
        ({"mixing": "force", "ensemble": "nve"}, "needs one potential energy"),
        ({"seeds": "coordination", "ensemble": "minimize"}, "needs one energy surface"),
    ],
)
def test_with_lammps(wishes: dict[str, Any], options: dict[str, Any], said: str) -> None:
    refused(wishes | options, said)


def test_an_existing_folder_is_not_touched(wishes: dict[str, Any]) -> None:
    wishes["folder"].mkdir()
    with pytest.raises(ConfigError, match="exists already"):
        make_case(Wishes(**wishes))
    assert list(wishes["folder"].iterdir()) == []


def test_an_installation_without_workers_says_what_to_install(
    wishes: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", str(wishes["folder"] / "bin/python"))
    monkeypatch.setenv("PATH", "")
    refused(wishes, "pip install")


def test_a_structure_in_bohr_or_without_a_cell(wishes: dict[str, Any], tmp_path: Path) -> None:
    far = bulk("W", "bcc", a=30.0, cubic=True) * (2, 2, 2)
    far.write(tmp_path / "far.extxyz")
    refused(wishes | {"structure": Path("far.extxyz")}, "expected were lengths in Å")
    far.write(tmp_path / "plain.xyz", format="xyz")
    refused(wishes | {"structure": Path("plain.xyz")}, "has no cell")
