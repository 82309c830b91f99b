"""Crystals at rest: against lattice sums, against ASE, and what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from ase.build import bulk, surface
from ase.filters import FrechetCellFilter
from ase.geometry import cell_to_cellpar
from ase.optimize import BFGS
from evaluators import (
    LJ,
    SIC,
    SNAP,
    CountingEvaluator,
    atoms_of,
    fcc_sum,
    frame_of,
    lammps_engine,
    single,
)
from mixserver_worker.engines.toy import ToyEngine
from scipy.optimize import minimize_scalar

from mixserver.analysis.bulk.relaxation import relax_crystal
from mixserver.core.errors import ConfigError


@pytest.mark.parametrize("cubic", [True, False])
async def test_an_fcc_crystal_is_that_of_the_lattice_sum(cubic: bool) -> None:
    a0 = minimize_scalar(fcc_sum, (5.0, 5.4), tol=1e-10).x
    ask = CountingEvaluator(ToyEngine(**LJ))
    found = await relax_crystal(ask, frame_of(bulk("Ar", "fcc", a=5.6, cubic=cubic)))
    assert found.volume / len(found) == pytest.approx(a0**3 / 4.0, abs=2e-3)
    assert ask.count < 15
    if cubic:
        np.testing.assert_allclose(cell_to_cellpar(found.cell), [a0] * 3 + [90.0] * 3, atol=2e-4)
    else:
        assert cell_to_cellpar(found.cell)[3:] == pytest.approx((60, 60, 60))


@pytest.mark.lammps
@pytest.mark.parametrize("structure", ["wurtzite", "zincblende", "rocksalt"])
async def test_cells_and_positions_are_those_of_ase(tmp_path: Path, structure: str) -> None:
    engine = lammps_engine(tmp_path, SIC)
    if structure == "wurtzite":
        start = bulk("SiC", "wurtzite", a=3.15, c=5.1)
        start.positions[2:, 2] += 0.03
    else:
        start = bulk("SiC", structure, a=4.5, cubic=True)
    found = await relax_crystal(CountingEvaluator(engine), frame_of(start), force=1e-6, stress=1e-8)
    atoms = atoms_of(frame_of(start), engine)
    BFGS(FrechetCellFilter(atoms), logfile=None).run(fmax=1e-6)
    np.testing.assert_allclose(found.cell, atoms.cell, atol=1e-5)
    apart = found.positions - found.positions[0]
    np.testing.assert_allclose(apart, atoms.positions - atoms.positions[0], atol=1e-5)
    engine.close()


async def test_a_crystal_keeps_its_symmetry(tmp_path: Path) -> None:
    ask = CountingEvaluator(ToyEngine(**LJ))
    found = await relax_crystal(ask, frame_of(bulk("Ar", "hcp", a=4.0, c=6.0)))
    first, second = cell_to_cellpar(found.cell)[:2]
    assert first == pytest.approx(second, rel=1e-12)
    assert cell_to_cellpar(found.cell)[3:] == pytest.approx((90, 90, 120), abs=1e-9)
    third = (found.positions[1] - found.positions[0]) @ np.linalg.inv(found.cell)
    np.testing.assert_allclose(third, (1 / 3, 2 / 3, 1 / 2), atol=1e-12)
    assert ask.count < 30


async def test_a_relaxed_crystal_is_not_changed() -> None:
    ask = CountingEvaluator(ToyEngine(**LJ))
    once = await relax_crystal(ask, frame_of(bulk("Ar", "fcc", a=5.3)))
    ask.count = 0
    again = await relax_crystal(ask, once)
    np.testing.assert_array_equal(again.cell, once.cell)
    assert ask.count == 1


@pytest.mark.lammps
async def test_single_precision_is_enough(tmp_path: Path) -> None:
    engine = lammps_engine(tmp_path, SNAP)
    start = frame_of(bulk("Si", a=5.6, cubic=True))
    exact = await relax_crystal(CountingEvaluator(engine), start)
    rough = await relax_crystal(CountingEvaluator(single(engine)), start)
    np.testing.assert_allclose(rough.cell, exact.cell, atol=2e-5)
    engine.close()


async def test_a_structure_that_is_no_bulk_crystal_is_refused() -> None:
    ask = CountingEvaluator(ToyEngine(**LJ))
    crystal = bulk("Ar", "fcc", a=5.3, cubic=True)
    crystal.pbc = (True, True, False)
    with pytest.raises(ConfigError, match="repeats along all three"):
        await relax_crystal(ask, frame_of(crystal))
    slab = surface(bulk("Ar", "fcc", a=5.3, cubic=True), (0, 0, 1), 2, vacuum=3.3)
    slab.pbc = True
    with pytest.raises(ConfigError, match=r"across lattice vector 3 there are 6\.6 Å without"):
        await relax_crystal(ask, frame_of(slab))
    hollow = bulk("Ar", "fcc", a=5.3, cubic=True) * (2, 2, 2)
    del hollow[hollow.get_distances(0, range(32), mic=True) < 4.0]
    with pytest.raises(ConfigError, match="there is no atom within 4"):
        await relax_crystal(ask, frame_of(hollow))
    assert ask.count == 0
    with pytest.raises(ConfigError, match="its volume changes"):
        await relax_crystal(ask, frame_of(bulk("Ar", "fcc", a=5.9)))


async def test_a_crystal_that_disintegrates_is_refused() -> None:
    repulsive = CountingEvaluator(ToyEngine(epsilon=-0.02, sigma=3.4, cutoff=6.0))
    with pytest.raises(ConfigError, match="no bulk crystal of this model"):
        await relax_crystal(repulsive, frame_of(bulk("Ar", "fcc", a=5.3)))
