"""Phonons: against dynamical matrices of pair forces, and against ASE's."""

from __future__ import annotations

from pathlib import Path

import ase.units
import numpy as np
import pytest
from ase.build import bulk
from ase.data import atomic_masses
from ase.phonons import Phonons as AsePhonons
from evaluators import (
    LJ,
    SIC,
    SNAP,
    AseOf,
    CountingEvaluator,
    atoms_of,
    fcc_neighbours,
    frame_of,
    lammps_engine,
    phi,
    single,
)
from mixserver_worker.engines.toy import ToyEngine

from mixserver.analysis.bulk.elasticity import elastic_constants
from mixserver.analysis.bulk.phonons import phonons, special_points, supercell_force_constants
from mixserver.analysis.bulk.relaxation import relax_crystal
from mixserver.core import units
from mixserver.core.frame import Frame

THZ = ase.units._e / ase.units._hplanck / 1e12
"""Per eV."""


def test_the_unit_of_frequency_is_that_of_ase() -> None:
    omega = np.sqrt(ase.units._e / 1e-20 / ase.units._amu)
    assert pytest.approx(omega / (2e12 * np.pi), rel=1e-6) == units.TERAHERTZ


async def _argon(**shape: object) -> tuple[CountingEvaluator, Frame]:
    ask = CountingEvaluator(ToyEngine(**LJ))
    return ask, await relax_crystal(ask, frame_of(bulk("Ar", "fcc", a=5.3, **shape)), stress=1e-9)


async def test_every_special_point_of_fcc_is_that_of_its_pair_forces() -> None:
    """The supercell is wider than twice the cutoff, so K and U, which do not fit it, are exact."""
    ask, crystal = await _argon()
    found = await phonons(ask, crystal, length=14.5)
    assert ask.at_once == 6
    x = fcc_neighbours((4.0 * crystal.volume / len(crystal)) ** (1 / 3))
    r, h = np.linalg.norm(x, axis=1), 1e-3
    first = (phi(r + h) - phi(r - h)) / (2 * h)
    second = (phi(r + h) - 2 * phi(r) + phi(r - h)) / h**2
    unit = x / r[:, None]
    along = unit[:, :, None] * unit[:, None]
    blocks = along * second[:, None, None] + (np.eye(3) - along) * (first / r)[:, None, None]
    assert set(found) == {"G", "K", "L", "U", "W", "X"}
    for name, q in special_points(crystal).items():
        wave = 2.0 * np.pi * np.linalg.inv(crystal.cell) @ q
        matrix = (blocks * (1.0 - np.cos(x @ wave))[:, None, None]).sum(axis=0)
        squares = np.linalg.eigvalsh(matrix) / atomic_masses[18]
        expected = np.sqrt(np.maximum(squares, 0.0)) * units.TERAHERTZ
        np.testing.assert_allclose(found[name], expected, atol=2e-3)
    assert min(f.min() for f in found.values()) > -1e-4


@pytest.mark.lammps
@pytest.mark.parametrize("name", ["silicon", "sic"])
async def test_points_that_fit_the_supercell_are_those_of_ase(tmp_path: Path, name: str) -> None:
    text, start = {
        "silicon": (SNAP, bulk("Si", a=5.47)),
        "sic": (SIC, bulk("SiC", "zincblende", a=4.32)),
    }[name]
    engine = lammps_engine(tmp_path, text)
    ask = CountingEvaluator(engine)
    crystal = await relax_crystal(ask, frame_of(start), stress=1e-9)
    found = await supercell_force_constants(ask, crystal, (2, 2, 2))
    theirs = AsePhonons(
        atoms_of(crystal, engine),
        AseOf(engine),
        supercell=(2, 2, 2),
        delta=0.01,
        name=str(tmp_path / "phonons"),
    )
    theirs.run()
    theirs.read(acoustic=True)
    for point in ([0.0, 0, 0], [0.5, 0, 0.5], [0.5, 0.5, 0.5], [0.5, 0, 0]):
        expected = np.sort(theirs.band_structure([point])[0]) * THZ
        if not any(point):
            expected[:3] = 0.0  # ASE's rule leaves 0.1 THz in a compound
        np.testing.assert_allclose(found.frequencies(np.array(point)), expected, atol=2e-3)
    engine.close()


@pytest.mark.lammps
async def test_a_cube_has_the_folded_frequencies_of_the_primitive_cell(tmp_path: Path) -> None:
    engine = lammps_engine(tmp_path, SIC)
    ask = CountingEvaluator(engine)
    found = []
    for cubic in (False, True):
        start = frame_of(bulk("SiC", "zincblende", a=4.32, cubic=cubic))
        crystal = await relax_crystal(ask, start, stress=1e-9)
        shifted = crystal.positions - 3.0 * crystal.cell[0]  # some cells away is the same crystal
        shifted[0] += 2.0 * crystal.cell[1] - crystal.cell[2]
        crystal = crystal.topology.frame(shifted, crystal.cell)
        found.append(await phonons(ask, crystal, length=8.0))
    primitive, cube = found
    folded = np.sort(np.concatenate([primitive["G"], *[primitive["X"]] * 3]))
    np.testing.assert_allclose(cube["G"], folded, atol=5e-3)
    np.testing.assert_allclose(cube["R"], np.sort(np.tile(primitive["L"], 4)), atol=5e-3)
    engine.close()


async def test_sound_is_as_fast_as_elastic_constants_say() -> None:
    ask, crystal = await _argon()
    constants = (await elastic_constants(ask, crystal, strain=5e-4)).cubic
    assert constants is not None
    found = await supercell_force_constants(ask, crystal, (6, 6, 6))
    wave = np.array([0.02, 0.0, 0.0])  # 1/Å along x
    density = atomic_masses[18] / crystal.volume
    speeds = found.frequencies(crystal.cell @ wave) / wave[0] / units.TERAHERTZ / (2.0 * np.pi)
    stiff = np.array([constants.c44, constants.c44, constants.c11]) * units.GIGAPASCAL
    np.testing.assert_allclose(speeds, np.sqrt(stiff / density), rtol=1e-2)


@pytest.mark.lammps
async def test_noise_of_single_precision_moves_frequencies_by_little(tmp_path: Path) -> None:
    engine = lammps_engine(tmp_path, SNAP)
    crystal = await relax_crystal(CountingEvaluator(engine), frame_of(bulk("Si", a=5.47)))
    exact = await supercell_force_constants(CountingEvaluator(engine), crystal, (2, 2, 2))
    rough = await supercell_force_constants(CountingEvaluator(single(engine)), crystal, (2, 2, 2))
    np.testing.assert_allclose(rough.frequencies(np.zeros(3))[:3], 0.0, atol=1e-5)
    for q in special_points(crystal).values():
        np.testing.assert_allclose(rough.frequencies(q)[3:], exact.frequencies(q)[3:], atol=1e-2)
    engine.close()


async def test_a_crystal_that_is_not_stable_has_negative_frequencies() -> None:
    ask = CountingEvaluator(ToyEngine(**LJ))
    crystal = await relax_crystal(ask, frame_of(bulk("Ar", "sc", a=3.7)))
    found = await phonons(ask, crystal, length=14.0)
    assert min(f.min() for f in found.values()) < -0.1
    np.testing.assert_allclose(found["G"], 0.0, atol=1e-4)
    assert (found["M"] < -0.1).any() or (found["R"] < -0.1).any()
    for frequencies in found.values():
        assert (np.diff(frequencies) >= 0.0).all()


async def test_frequencies_are_those_of_a_supercell_of_another_shape_in_the_limit() -> None:
    ask, crystal = await _argon()
    wide = await supercell_force_constants(ask, crystal, (6, 6, 6))
    other = await supercell_force_constants(ask, crystal, (7, 6, 5))
    for q in special_points(crystal).values():
        np.testing.assert_allclose(wide.frequencies(q), other.frequencies(q), atol=2e-2)
