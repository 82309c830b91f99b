"""Vacancies and curves: against pair energies and against ASE."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from ase.build import bulk
from ase.optimize import FIRE
from asked import ALUMINIUM, LJ, SIC, Asked, atoms_of, fcc_sum, frame_of, lammps_engine

from clients.engines.toy import ToyEngine
from mixserver import units
from mixserver.crystal.curve import energy_curve
from mixserver.crystal.elasticity import elastic_constants
from mixserver.crystal.inside import force_constants
from mixserver.crystal.lattice import relaxed_crystal
from mixserver.crystal.vacancy import relaxed_vacancy, vacancy_formation_energy
from mixserver.errors import ConfigError


async def test_pair_forces_want_the_cohesive_energy_and_a_little_less() -> None:
    ask = Asked(ToyEngine(**LJ))
    crystal = await relaxed_crystal(ask, frame_of(bulk("Ar", "fcc", a=5.3, cubic=True)))
    found = await relaxed_vacancy(ask, crystal)
    assert len(found.frame) == 255
    assert found.unrelaxed == pytest.approx(-(await ask(crystal)).energy / 4.0, abs=1e-8)
    assert 0.9 * found.unrelaxed < found.formation_energy < found.unrelaxed


@pytest.mark.lammps
async def test_a_relaxed_vacancy_is_that_of_ase(tmp_path: Path) -> None:
    engine = lammps_engine(tmp_path, ALUMINIUM)
    ask = Asked(engine)
    crystal = await relaxed_crystal(ask, frame_of(bulk("Al", a=4.05, cubic=True)))
    ask.count = 0
    found = await vacancy_formation_energy(ask, crystal, atoms=100)
    assert ask.count < 40
    atoms = atoms_of(crystal, engine).repeat((3, 3, 3))
    energy = atoms_of(crystal, engine).get_potential_energy() / 4.0
    del atoms[0]
    atoms.calc = atoms_of(crystal, engine).calc
    FIRE(atoms, logfile=None).run(fmax=1e-4)
    assert found == pytest.approx(atoms.get_potential_energy() - 107 * energy, abs=1e-4)
    engine.close()


@pytest.mark.lammps
async def test_which_atom_is_taken_out_matters_in_a_compound(tmp_path: Path) -> None:
    engine = lammps_engine(tmp_path, SIC)
    ask = Asked(engine)
    crystal = await relaxed_crystal(ask, frame_of(bulk("SiC", "zincblende", a=4.3)))
    one, other = [await relaxed_vacancy(ask, crystal, atoms=60, atom=i) for i in (0, 1)]
    assert sorted(one.frame.topology.numbers)[0] == 6
    assert (one.frame.topology.numbers == 14).sum() + 1 == (one.frame.topology.numbers == 6).sum()
    assert (other.frame.topology.numbers == 6).sum() + 1 == (
        other.frame.topology.numbers == 14
    ).sum()
    assert abs(one.formation_energy - other.formation_energy) > 0.1
    engine.close()


async def test_what_cannot_be_taken_out_is_refused() -> None:
    ask = Asked(ToyEngine(**LJ))
    crystal = frame_of(bulk("Ar", "fcc", a=5.3))
    with pytest.raises(ConfigError, match="no atom 1 to take out of a crystal of 1"):
        await vacancy_formation_energy(ask, crystal, atom=1)
    with pytest.raises(ConfigError, match="leaves nothing"):
        await vacancy_formation_energy(ask, crystal, atoms=1)


async def test_the_curve_is_the_lattice_sum_with_the_bulk_modulus() -> None:
    ask = Asked(ToyEngine(**LJ))
    crystal = await relaxed_crystal(ask, frame_of(bulk("Ar", "fcc", a=5.3)), stress=1e-9)
    found = await energy_curve(ask, crystal)
    assert ask.at_once == 13
    np.testing.assert_allclose(found.volume / crystal.volume, np.linspace(0.94, 1.06, 13))
    expected = [fcc_sum((4.0 * volume) ** (1 / 3)) for volume in found.volume]
    np.testing.assert_allclose(found.energy, expected, atol=1e-9)
    assert found.energy.argmin() == 6
    near = await energy_curve(ask, crystal, by=4e-3, points=3)
    step = 4e-3 * crystal.volume
    curved = (near.energy[0] - 2.0 * near.energy[1] + near.energy[2]) / step**2
    modulus = (await elastic_constants(ask, crystal, strain=5e-4)).bulk_modulus
    assert curved * crystal.volume / units.GIGAPASCAL == pytest.approx(modulus, rel=3e-3)


@pytest.mark.lammps
async def test_atoms_relax_along_the_curve_if_they_can(tmp_path: Path) -> None:
    engine = lammps_engine(tmp_path, SIC)
    ask = Asked(engine)
    crystal = await relaxed_crystal(ask, frame_of(bulk("SiC", "wurtzite", a=3.1, c=5.0)))
    still = await energy_curve(ask, crystal, points=5)
    springs = await force_constants(ask, crystal)
    relaxed = await energy_curve(ask, crystal, points=5, constants=springs)
    assert relaxed.energy[2] == pytest.approx(still.energy[2], abs=1e-9)
    assert (relaxed.energy[[0, 4]] <= still.energy[[0, 4]]).all()
    engine.close()


async def test_no_curve_is_refused() -> None:
    ask = Asked(ToyEngine(**LJ))
    crystal = frame_of(bulk("Ar", "fcc", a=5.3))
    for nonsense in ({"by": 0.7}, {"points": 2}):
        with pytest.raises(ConfigError, match="a curve takes 3 points or more"):
            await energy_curve(ask, crystal, **nonsense)
