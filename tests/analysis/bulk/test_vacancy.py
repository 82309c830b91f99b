"""Vacancies and curves: against pair energies and against ASE."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from ase.build import bulk
from ase.optimize import FIRE
from evaluators import (
    ALUMINIUM,
    LJ,
    SIC,
    CountingEvaluator,
    atoms_of,
    fcc_sum,
    frame_of,
    lammps_engine,
)
from mixserver_worker.engines.toy import ToyEngine

from mixserver.analysis.bulk.elasticity import elastic_constants, equation_of_state
from mixserver.analysis.bulk.force_constants import force_constants
from mixserver.analysis.bulk.relaxation import relax_crystal
from mixserver.analysis.bulk.vacancy import relaxed_vacancy
from mixserver.core import units
from mixserver.core.errors import ConfigError


async def test_pair_forces_want_the_cohesive_energy_and_a_little_less() -> None:
    ask = CountingEvaluator(ToyEngine(**LJ))
    crystal = await relax_crystal(ask, frame_of(bulk("Ar", "fcc", a=5.3, cubic=True)))
    formation_energy, relaxed = await relaxed_vacancy(ask, crystal)
    assert len(relaxed) == 255
    cohesive = -(await ask(crystal)).energy / 4.0  # of pairs: what an unrelaxed vacancy costs
    assert 0.9 * cohesive < formation_energy < cohesive


@pytest.mark.lammps
async def test_a_relaxed_vacancy_is_that_of_ase(tmp_path: Path) -> None:
    engine = lammps_engine(tmp_path, ALUMINIUM)
    ask = CountingEvaluator(engine)
    crystal = await relax_crystal(ask, frame_of(bulk("Al", a=4.05, cubic=True)))
    ask.count = 0
    found, _ = await relaxed_vacancy(ask, crystal, atoms=100)
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
    ask = CountingEvaluator(engine)
    crystal = await relax_crystal(ask, frame_of(bulk("SiC", "zincblende", a=4.3)))
    (cost, one), (cost_of_other, other) = [
        await relaxed_vacancy(ask, crystal, atoms=60, atom=i) for i in (0, 1)
    ]
    assert sorted(one.topology.numbers)[0] == 6
    assert (one.topology.numbers == 14).sum() + 1 == (one.topology.numbers == 6).sum()
    assert (other.topology.numbers == 6).sum() + 1 == (other.topology.numbers == 14).sum()
    assert abs(cost - cost_of_other) > 0.1
    engine.close()


async def test_an_atom_that_does_not_exist_is_refused() -> None:
    ask = CountingEvaluator(ToyEngine(**LJ))
    crystal = frame_of(bulk("Ar", "fcc", a=5.3))
    with pytest.raises(ConfigError, match="no atom 1 to remove from a crystal of 1"):
        await relaxed_vacancy(ask, crystal, atom=1)
    with pytest.raises(ConfigError, match="leaves nothing"):
        await relaxed_vacancy(ask, crystal, atoms=1)


async def test_the_curve_is_the_lattice_sum_with_the_bulk_modulus() -> None:
    ask = CountingEvaluator(ToyEngine(**LJ))
    crystal = await relax_crystal(ask, frame_of(bulk("Ar", "fcc", a=5.3)), stress=1e-9)
    found = await equation_of_state(ask, crystal)
    assert ask.at_once == 13
    np.testing.assert_allclose(found.volume / crystal.volume, np.linspace(0.94, 1.06, 13))
    expected = [fcc_sum((4.0 * volume) ** (1 / 3)) for volume in found.volume]
    np.testing.assert_allclose(found.energy, expected, atol=1e-9)
    assert found.energy.argmin() == 6
    near = await equation_of_state(ask, crystal, by=4e-3, points=3)
    step = 4e-3 * crystal.volume
    curved = (near.energy[0] - 2.0 * near.energy[1] + near.energy[2]) / step**2
    modulus = (await elastic_constants(ask, crystal, strain=5e-4)).bulk_modulus
    assert curved * crystal.volume / units.GIGAPASCAL == pytest.approx(modulus, rel=3e-3)


@pytest.mark.lammps
async def test_atoms_relax_along_the_curve_if_they_can(tmp_path: Path) -> None:
    engine = lammps_engine(tmp_path, SIC)
    ask = CountingEvaluator(engine)
    crystal = await relax_crystal(ask, frame_of(bulk("SiC", "wurtzite", a=3.1, c=5.0)))
    still = await equation_of_state(ask, crystal, points=5)
    springs = await force_constants(ask, crystal)
    relaxed = await equation_of_state(ask, crystal, points=5, constants=springs)
    assert relaxed.energy[2] == pytest.approx(still.energy[2], abs=1e-9)
    assert (relaxed.energy[[0, 4]] <= still.energy[[0, 4]]).all()
    engine.close()


async def test_a_range_that_makes_no_curve_is_refused() -> None:
    ask = CountingEvaluator(ToyEngine(**LJ))
    crystal = frame_of(bulk("Ar", "fcc", a=5.3))
    for nonsense in ({"by": 0.7}, {"points": 2}):
        with pytest.raises(ConfigError, match="an equation of state needs 3 points"):
            await equation_of_state(ask, crystal, **nonsense)
