"""Force constants and relaxation of atoms at fixed cell."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from ase.build import bulk
from ase.optimize import BFGS
from evaluators import LJ, SIC, SNAP, CountingEvaluator, atoms_of, frame_of, lammps_engine, single
from mixserver_worker.engines.toy import ToyEngine

from mixserver.analysis.bulk.force_constants import compliance, force_constants
from mixserver.analysis.bulk.relaxation import relax_atoms
from mixserver.core.errors import ConfigError
from mixserver.core.frame import Frame
from mixserver.core.strain import strain_from_voigt, strained

CRYSTALS = {
    "silicon": (SNAP, bulk("Si", a=5.47, cubic=True)),
    "sic": (SIC, bulk("SiC", "wurtzite", a=3.1, c=5.0)),
}
SHEAR = np.array([0.004, -0.006, 0.002, 0.01, -0.008, 0.006])


def _moved(frame: Frame, by: np.ndarray) -> Frame:
    return frame.topology.frame(frame.positions + by, frame.cell)


@pytest.mark.lammps
@pytest.mark.parametrize("name", CRYSTALS)
async def test_force_constants_are_second_derivatives(tmp_path: Path, name: str) -> None:
    text, atoms = CRYSTALS[name]
    engine = lammps_engine(tmp_path, text)
    ask, crystal = CountingEvaluator(engine), frame_of(atoms)
    constants = await force_constants(ask, crystal)
    assert ask.at_once == ask.count == 6 * len(crystal)
    np.testing.assert_allclose(constants, constants.T, atol=1e-12)
    np.testing.assert_allclose(constants @ np.tile(np.eye(3), (len(crystal), 1)), 0.0, atol=1e-12)
    move = np.random.default_rng(1).normal(scale=0.01, size=crystal.positions.shape)
    energies = [(await ask(_moved(crystal, by * move))).energy for by in (-1, 0, 1)]
    curved = energies[0] - 2.0 * energies[1] + energies[2]
    assert move.ravel() @ constants @ move.ravel() == pytest.approx(curved, rel=2e-3)
    softness = compliance(constants)
    free = move - move.mean(axis=0)
    np.testing.assert_allclose(softness @ constants @ move.ravel(), free.ravel(), atol=1e-10)
    engine.close()


@pytest.mark.lammps
@pytest.mark.parametrize("name", CRYSTALS)
async def test_strained_cells_relax_as_in_ase_in_a_few_evaluations(
    tmp_path: Path, name: str
) -> None:
    text, atoms = CRYSTALS[name]
    engine = lammps_engine(tmp_path, text)
    ask, crystal = CountingEvaluator(engine), frame_of(atoms)
    constants = await force_constants(ask, crystal)
    start = strained(crystal, strain_from_voigt(SHEAR))
    ask.count = 0
    found = await relax_atoms(ask, start, constants)
    assert ask.count <= 8
    assert np.linalg.norm((await ask(found)).forces, axis=1).max() <= 1e-6
    np.testing.assert_array_equal(found.cell, start.cell)
    reference = atoms_of(start, engine)
    BFGS(reference, logfile=None).run(fmax=1e-6)
    theirs = reference.positions - reference.positions.mean(axis=0)
    np.testing.assert_allclose(found.positions - found.positions.mean(axis=0), theirs, atol=1e-6)
    unknown = await relax_atoms(ask, start)
    np.testing.assert_allclose(unknown.positions, found.positions, atol=1e-5)
    engine.close()


@pytest.mark.lammps
async def test_single_precision_ends_at_its_noise(tmp_path: Path) -> None:
    engine = lammps_engine(tmp_path, SNAP)
    crystal = frame_of(bulk("Si", a=5.47, cubic=True))
    ask = CountingEvaluator(single(engine))
    constants = await force_constants(ask, crystal)
    ask.count = 0
    found = await relax_atoms(ask, strained(crystal, strain_from_voigt(SHEAR)), constants)
    assert ask.count < 25
    assert np.abs((await CountingEvaluator(engine)(found)).forces).max() < 2e-5
    engine.close()


async def test_one_atom_has_nothing_to_relax() -> None:
    ask = CountingEvaluator(ToyEngine(**LJ))
    crystal = frame_of(bulk("Ar", "fcc", a=5.3))
    constants = await force_constants(ask, crystal)
    np.testing.assert_allclose(constants, 0.0, atol=1e-12)
    found = await relax_atoms(ask, strained(crystal, strain_from_voigt(SHEAR)), constants)
    np.testing.assert_array_equal(found.positions, crystal.positions)


async def test_force_constants_that_do_not_fit_are_refused() -> None:
    ask = CountingEvaluator(ToyEngine(**LJ))
    crystal = frame_of(bulk("Ar", "fcc", a=5.3, cubic=True))
    with pytest.raises(ConfigError, match=r"shape \(12, 12\), not \(3, 3\)"):
        await relax_atoms(ask, crystal, np.zeros((3, 3)))
    with pytest.raises(ConfigError, match="not stable in this model"):
        await relax_atoms(ask, crystal, -np.eye(12))
    assert ask.count == 0


async def test_a_relaxation_that_does_not_converge_reports_the_remaining_force() -> None:
    ask = CountingEvaluator(ToyEngine(**LJ))
    crystal = frame_of(bulk("Ar", "fcc", a=5.3, cubic=True))
    rattled = _moved(crystal, np.random.default_rng(2).normal(scale=0.2, size=(4, 3)))
    with pytest.raises(ConfigError, match="4 atoms does not come to rest within 3 evaluations"):
        await relax_atoms(ask, rattled, steps=3)
