"""Velocities of a structure are carried over where their unit is known, else left out in words."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from ase import Atoms, units
from ase.build import bulk
from mixserver_worker.engines.lammps.set_up import execute_set_up

from mixserver.core.errors import ConfigError
from mixserver.ipi.start import read_initial_state
from mixserver.new_case.start import kinetic_temperature, read_start, write_start
from mixserver.wire.lammps_input import LammpsState

XML = """<simulation><ffsocket name='m' mode='unix'><address> a </address></ffsocket><system>
<initialize nbeads='1'>
<file mode='ase' units='angstrom' cell_units='angstrom'> init.extxyz </file>
<velocities mode='xyz' units='atomic_unit'> velocities.xyz </velocities>
</initialize>
<forces><force forcefield='m'/></forces><motion mode='dynamics'><dynamics mode='nve'/></motion>
</system></simulation>"""


def moving(temperature: float = 600.0) -> Atoms:
    atoms = bulk("Si", "diamond", a=5.457, cubic=True) * (2, 2, 2)
    atoms.set_masses([28.0855] * 63 + [30.0])
    random = np.random.default_rng(3).normal(size=(64, 3))
    atoms.set_velocities(random * np.sqrt(units.kB * temperature / atoms.get_masses())[:, None])
    return atoms


def as_contcar(atoms: Atoms, folder: Path, header: str, rows: np.ndarray) -> Path:
    """As VASP writes it: velocities below the positions and one line."""
    file = folder / "CONTCAR"
    atoms.write(file, format="vasp", direct=True)
    plain = file.read_text().splitlines()[: 8 + len(atoms)]
    lines = [*plain, header, *(" ".join(f"{value:.10e}" for value in row) for row in rows)]
    file.write_text("\n".join(lines) + "\n")
    return file


@pytest.mark.parametrize("turned", [False, True])
def test_momenta_of_extxyz_become_velocities(tmp_path: Path, turned: bool) -> None:
    atoms = moving()
    if turned:
        atoms.rotate(37.0, (1, 2, 3), rotate_cell=True)
        atoms.set_momenta(bulk_rotated(atoms))
    atoms.write(tmp_path / "hot.extxyz")
    start = read_start(tmp_path / "hot.extxyz")
    assert start.velocities is not None
    assert start.masses is not None
    assert kinetic_temperature(start) == pytest.approx(
        2.0 * atoms.get_kinetic_energy() / (3 * 64) / units.kB, rel=1e-5
    )
    # the same components along the lattice vectors, however the cell was turned
    found = start.velocities @ start.frame.cell.T
    expected = atoms.get_velocities() * units.fs @ np.asarray(atoms.cell).T
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-7)
    write_start(start, tmp_path)
    (tmp_path / "input.xml").write_text(XML)
    state = read_initial_state(tmp_path / "input.xml", 0)
    np.testing.assert_allclose(state.masses, atoms.get_masses(), rtol=1e-6)


def bulk_rotated(atoms: Atoms) -> np.ndarray:
    """Momenta turned with the atoms: ASE turns positions and cell alone."""
    cell = np.asarray(bulk("Si", "diamond", a=5.457, cubic=True).cell) * 2
    return atoms.get_momenta() @ (np.linalg.inv(cell) @ np.asarray(atoms.cell))


@pytest.mark.parametrize("header", ["", "Cartesian"])
def test_velocities_of_a_contcar(tmp_path: Path, header: str) -> None:
    atoms = moving()
    in_fs = atoms.get_velocities() * units.fs
    start = read_start(as_contcar(atoms, tmp_path, header, in_fs))
    assert start.velocities is not None
    np.testing.assert_allclose(start.velocities, in_fs, rtol=1e-8)


def test_zeros_are_no_velocities(tmp_path: Path) -> None:
    start = read_start(as_contcar(moving(), tmp_path, "", np.zeros((64, 3))))
    assert start.velocities is None
    assert start.notes == ()


def test_velocities_in_an_unknown_unit_are_left_out_in_words(tmp_path: Path) -> None:
    atoms = moving()
    start = read_start(as_contcar(atoms, tmp_path, "Direct", np.full((64, 3), 1e-3)))
    assert start.velocities is None
    assert "direct coordinates per timestep" in start.notes[-1]
    still = bulk("Si", "diamond", a=5.457, cubic=True) * (2, 2, 2)
    still.new_array("velo", np.ones((64, 3)))
    still.write(tmp_path / "quip.extxyz")
    start = read_start(tmp_path / "quip.extxyz")
    assert start.velocities is None
    assert "column velo is not carried over" in start.notes[-1]


def with_data_in(folder: Path, said: str, units_: str) -> LammpsState:
    head = f"LAMMPS data file via write_data, timestep = 0{said}"
    (folder / "a.data").write_text(
        f"{head}\n\n1 atoms\n1 atom types\n0 9 xlo xhi\n0 9 ylo yhi\n0 9 zlo zhi\n\n"
        "Masses\n\n1 28.0855\n\nAtoms # atomic\n\n1 1 1 1 1\n\nVelocities\n\n1 5 0 0\n"
    )
    file = folder / "in.lmp"
    file.write_text(f"units {units_}\natom_style atomic\nread_data a.data\npair_style zero 3\n")
    return execute_set_up(file)


@pytest.mark.lammps
def test_a_data_file_in_other_units_than_its_input_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"in\.lmp:3: .*a\.data says units = metal.*units real"):
        with_data_in(tmp_path, ", units = metal", "real")
    assert with_data_in(tmp_path, ", units = real", "real").velocities[0][0] == pytest.approx(5.0)
    assert with_data_in(tmp_path, "", "real").units == "real"
