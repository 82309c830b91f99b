"""`mixserver new`, as a newcomer uses it: from their files to a plotted run."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from ase import Atom, Atoms
from ase.build import bulk
from ase.io import read
from command_line import INPUTS, mixserver, mixserver_done

pytestmark = [pytest.mark.lammps, pytest.mark.mace]
SI_MACE = INPUTS / "silicon_vacancy/model/si_mace.model"
W_MACE = INPUTS / "w_he/model/w_he_mace.model"
INPUT = """# a vacancy in silicon
variable T equal 600
units metal
boundary p p p
read_data vacancy.data
pair_style sw
pair_coeff * * my.sw Si
velocity all create $(2*v_T) 4928459 mom yes dist gaussian
timestep 0.001
fix 1 all nvt temp $T $T $(100.0*dt)
fix 2 all temp/berendsen 300 300 0.1
thermo 1
run 3
"""


def silicon_vacancy(folder: Path) -> None:
    """A data file with a vacancy, an input and a potential, as a user of LAMMPS has them."""
    atoms = bulk("Si", "diamond", a=5.457, cubic=True) * (3, 3, 3)
    del atoms[100]
    atoms.write(folder / "vacancy.data", format="lammps-data", masses=True, units="metal")
    (folder / "in.vacancy").write_text(INPUT)
    numbers = "2.1683 2.0951 1.80 21.0 1.20 -0.333333333333 7.049556277 0.6022245584 4.0 0.0 0.0"
    (folder / "my.sw").write_text(f"Si Si Si {numbers}\n")


def tungsten_interstitial(folder: Path, cells: int) -> Atoms:
    """A POSCAR with a <111> dumbbell, not relaxed."""
    atoms = bulk("W", "bcc", a=3.1776, cubic=True) * (cells, cells, cells)
    site = int(np.argmin(np.linalg.norm(atoms.positions - 0.5 * atoms.cell.diagonal(), axis=1)))
    atoms.append(Atom("W", atoms.positions[site] + 0.55))
    atoms.positions[site] -= 0.55
    atoms.write(folder / "POSCAR", direct=True)
    return atoms


def run_and_plot(case: Path) -> list[list[float]]:
    """Run a case from another folder, and draw it; the table of i-PI's properties."""
    mixserver_done("run", case)
    mixserver_done("plot", case / "runs/latest")
    assert (case / "runs/latest/mixserver.png").stat().st_size > 10_000
    lines = (case / "runs/latest/simulation.out").read_text().splitlines()
    return [[float(word) for word in line.split()] for line in lines if not line.startswith("#")]


def test_a_lammps_input_and_its_data_file(tmp_path: Path) -> None:
    silicon_vacancy(tmp_path)
    case = tmp_path / "vacancy"
    done = mixserver("new", "vacancy", "--from-lammps", "in.vacancy", "--expensive", str(SI_MACE),
                     "--core", "3", folder=tmp_path)  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "seeds: 4 atoms" in done.stdout
    assert "= in.vacancy:13  run 3" in done.stdout
    assert "i-PI has no Berendsen thermostat" in done.stdout
    assert "errors 0" in done.stdout
    table = run_and_plot(case)
    assert [row[0] for row in table] == [0, 1, 2, 3]
    # LAMMPS's velocities; its temperature leaves out the centre of mass, which does not move
    assert table[0][3] == pytest.approx(1200.0 * (1.0 - 1.0 / 215), rel=1e-6)
    assert table[1][1] == pytest.approx(1e-3)  # ps


def test_a_poscar_and_a_potential_by_name(tmp_path: Path) -> None:
    atoms = tungsten_interstitial(tmp_path, 6)
    done = mixserver("new", "sia", "--structure", "POSCAR", "--cheap", "W_2940_2017_2.snap",
                     "--expensive", str(W_MACE), "--length", "2steps", "--files", "link",
                     folder=tmp_path)  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "POSCAR has none, so those of 600 K, twice the temperature, are drawn" in done.stdout
    case = tmp_path / "sia"
    assert (case / "model/w_he_mace.model").is_symlink()
    start = read(case / "init.extxyz")
    np.testing.assert_allclose(start.positions, atoms.positions, atol=1e-9)
    assert len(run_and_plot(case)) == 1


@pytest.mark.parametrize("ensemble", ["nve", "npt", "minimize"])
def test_other_ensembles_with_another_worker(tmp_path: Path, ensemble: str) -> None:
    silicon_vacancy(tmp_path)
    (tmp_path / "tersoff.in").write_text("pair_style tersoff\npair_coeff * * Si.tersoff Si\n")
    case = tmp_path / ensemble
    mixserver_done("new", case, "--structure", tmp_path / "vacancy.data", "--units", "metal",
                   "--cheap", tmp_path / "my.sw", "--expensive", f"lammps {tmp_path}/tersoff.in",
                   "--core", "2", "--blend", "2", "--ensemble", ensemble, "--length",
                   "2steps")  # fmt: skip
    mixserver_done("run", case)


@pytest.mark.physics
def test_the_interstitial_in_2001_atoms(tmp_path: Path) -> None:
    tungsten_interstitial(tmp_path, 10)
    case = tmp_path / "sia"
    mixserver_done("new", case, "--structure", tmp_path / "POSCAR", "--cheap",
                   "W_2940_2017_2.snap", "--expensive", W_MACE, "--length", "20steps")  # fmt: skip
    mixserver_done("check", case)
    assert [row[0] for row in run_and_plot(case)] == [0, 10, 20]
