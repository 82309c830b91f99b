"""Elastic constants: against lattice sums, matscipy, and strained cells relaxed for real."""

from __future__ import annotations

from pathlib import Path

import ase.units
import numpy as np
import pytest
from ase.build import bulk
from ase.optimize import BFGS
from evaluators import (
    ALUMINIUM,
    LJ,
    SIC,
    SNAP,
    SW,
    CountingEvaluator,
    atoms_of,
    fcc_neighbours,
    frame_of,
    lammps_engine,
    phi,
    single,
)
from mixserver_worker.engines.toy import ToyEngine

from mixserver.analysis.bulk.elasticity import ElasticConstants, elastic_constants
from mixserver.analysis.bulk.force_constants import force_constants
from mixserver.analysis.bulk.relaxation import relax_atoms, relax_crystal
from mixserver.core import units
from mixserver.core.errors import ConfigError
from mixserver.core.strain import strain_from_voigt, strained


def test_the_unit_of_pressure_is_that_of_ase() -> None:
    assert pytest.approx(ase.units.GPa, rel=1e-8) == units.GIGAPASCAL


@pytest.mark.parametrize("cubic", [True, False])
async def test_fcc_with_pair_forces_has_the_constants_of_the_lattice_sum(cubic: bool) -> None:
    ask = CountingEvaluator(ToyEngine(**LJ))
    start = frame_of(bulk("Ar", "fcc", a=5.3, cubic=cubic))
    crystal = await relax_crystal(ask, start, stress=1e-9)
    found = await elastic_constants(ask, crystal, strain=5e-4)
    a = (4.0 * crystal.volume / len(crystal)) ** (1 / 3)
    x = fcc_neighbours(a)
    r, h = np.linalg.norm(x, axis=1), 1e-3
    first = (phi(r + h) - phi(r - h)) / (2 * h)
    second = (phi(r + h) - 2 * phi(r) + phi(r - h)) / h**2
    stiffness = (second - first / r) / r**2  # no term of phi' alone where there is no stress
    c11 = 0.5 * (stiffness * x[:, 0] ** 4).sum() * 4.0 / a**3 / units.GIGAPASCAL
    c12 = 0.5 * (stiffness * x[:, 0] ** 2 * x[:, 1] ** 2).sum() * 4.0 / a**3 / units.GIGAPASCAL
    assert found.cubic == pytest.approx((c11, c12, c12), rel=2e-3)
    np.testing.assert_allclose(found.matrix, found.clamped, atol=1e-6)  # every site a centre
    assert found.bulk_modulus == pytest.approx((c11 + 2.0 * c12) / 3.0, rel=2e-3)
    assert found.stable
    assert ask.at_once == 12 + 6 * len(crystal)


@pytest.mark.lammps
@pytest.mark.parametrize("cubic", [True, False])
async def test_silicon_as_published_and_as_matscipy_finds_it(tmp_path: Path, cubic: bool) -> None:
    from matscipy.elasticity import fit_elastic_constants

    engine = lammps_engine(tmp_path, SW)
    ask = CountingEvaluator(engine)
    crystal = await relax_crystal(ask, frame_of(bulk("Si", a=5.4, cubic=cubic)))
    found = await elastic_constants(ask, crystal)
    # E. R. Cowley, Phys. Rev. Lett. 60, 2379 (1988), for Stillinger-Weber silicon
    assert found.cubic == pytest.approx((151.4, 76.4, 56.4), abs=0.1)
    atoms = atoms_of(crystal, engine)
    for optimizer, ours in ((None, found.clamped), (BFGS, found.matrix)):
        theirs, _ = fit_elastic_constants(
            atoms,
            symmetry="triclinic",
            N_steps=5,
            delta=2e-3,
            optimizer=optimizer,
            fmax=1e-5,
            verbose=False,
            graphics=False,
            logfile=None,
        )
        np.testing.assert_allclose(ours, theirs / units.GIGAPASCAL, atol=0.1)
    engine.close()


CRYSTALS = {
    "snap": (SNAP, bulk("Si", a=5.47)),
    "wurtzite": (SIC, bulk("SiC", "wurtzite", a=3.1, c=5.0)),
    "hcp": (ALUMINIUM, bulk("Al", "hcp", a=2.85, c=4.7)),
}


@pytest.mark.lammps
@pytest.mark.parametrize("name", CRYSTALS)
async def test_the_response_is_that_of_strained_cells_relaxed(tmp_path: Path, name: str) -> None:
    text, atoms = CRYSTALS[name]
    engine = lammps_engine(tmp_path, text)
    ask = CountingEvaluator(engine)
    crystal = await relax_crystal(ask, frame_of(atoms), stress=1e-8, force=1e-6)
    springs = await force_constants(ask, crystal)
    found = await elastic_constants(ask, crystal, constants=springs)
    rest = (await ask(crystal)).energy
    for direction in np.vstack([np.eye(6)[[0, 3, 5]], [0.5, -0.3, 0.2, 0.7, 0.4, -0.6]]):
        relaxed, clamped = 0.0, 0.0
        for sign in (1.0, -1.0):
            moved = strained(crystal, strain_from_voigt(4e-3 * sign * direction))
            clamped += (await ask(moved)).energy - rest
            relaxed += (await ask(await relax_atoms(ask, moved, springs))).energy - rest
        gpa = crystal.volume * 1.6e-5 * units.GIGAPASCAL
        assert direction @ found.matrix @ direction == pytest.approx(relaxed / gpa, rel=3e-3)
        assert direction @ found.clamped @ direction == pytest.approx(clamped / gpa, rel=3e-3)
    engine.close()


@pytest.mark.lammps
async def test_atoms_that_relax_soften_shears_of_silicon(tmp_path: Path) -> None:
    engine = lammps_engine(tmp_path, SNAP)
    crystal = await relax_crystal(CountingEvaluator(engine), frame_of(bulk("Si", a=5.5)))
    found = await elastic_constants(CountingEvaluator(engine), crystal)
    assert found.cubic is not None
    clamped = found.clamped
    assert min(clamped[i, i] for i in (3, 4, 5)) > found.cubic.c44 + 20.0
    assert clamped[0, :2] == pytest.approx(found.cubic[:2], abs=0.01)
    rough = await elastic_constants(CountingEvaluator(single(engine)), crystal)
    np.testing.assert_allclose(rough.matrix, found.matrix, atol=0.2)
    engine.close()


async def test_what_is_not_cubic_is_not_called_so() -> None:
    ask = CountingEvaluator(ToyEngine(**LJ))
    crystal = await relax_crystal(ask, frame_of(bulk("Ar", "hcp", a=3.8, c=6.2)))
    found = await elastic_constants(ask, crystal)
    assert found.cubic is None
    assert found.matrix[0, 0] == pytest.approx(found.matrix[1, 1], rel=1e-3)
    assert found.matrix[5, 5] == pytest.approx(
        0.5 * (found.matrix[0, 0] - found.matrix[0, 1]), rel=1e-2
    )


async def test_a_crystal_that_a_shear_makes_fall_over_is_not_stable() -> None:
    ask = CountingEvaluator(ToyEngine(**LJ))
    crystal = await relax_crystal(ask, frame_of(bulk("Ar", "sc", a=3.7)))
    assert not (await elastic_constants(ask, crystal)).stable


async def test_a_crystal_whose_atoms_fall_elsewhere_is_refused() -> None:
    ask = CountingEvaluator(ToyEngine(**LJ))
    crystal = await relax_crystal(ask, frame_of(bulk("Ar", "sc", a=3.7) * (2, 2, 2)))
    with pytest.raises(ConfigError, match="not stable in this model"):
        await elastic_constants(ask, crystal)


def test_the_bulk_modulus_is_the_mean_of_two_bounds() -> None:
    matrix = np.diag([300.0, 200.0, 100.0, 50.0, 50.0, 50.0])
    found = ElasticConstants(matrix, matrix)
    assert found.bulk_modulus == pytest.approx(0.5 * (600 / 9 + 1 / (1 / 300 + 1 / 200 + 1 / 100)))


async def test_atoms_that_do_not_see_each_other_have_no_stiffness() -> None:
    ask = CountingEvaluator(ToyEngine(epsilon=0.01, sigma=3.4, cutoff=3.0))
    found = await elastic_constants(ask, frame_of(bulk("Ar", "fcc", a=5.3)))
    assert found.bulk_modulus == 0.0
    assert not found.stable


def test_strains_are_engineering_shears() -> None:
    strain = strain_from_voigt(np.array([1.0, 2.0, 3.0, 4.0, 5.0, 6.0]))
    np.testing.assert_array_equal(strain, [[1, 3, 2.5], [3, 2, 2], [2.5, 2, 3]])
