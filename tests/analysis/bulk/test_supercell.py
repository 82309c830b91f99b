"""Repeated crystals."""

from __future__ import annotations

import numpy as np
import pytest
from ase.build import bulk
from ase.geometry import get_distances
from evaluators import LJ, CountingEvaluator, frame_of
from mixserver_worker.engines.toy import ToyEngine

from mixserver.analysis.bulk.supercell import repeated, repeats_for_atoms, repeats_for_length
from mixserver.core.cell import plane_spacings
from mixserver.core.errors import ConfigError

CRYSTALS = [
    bulk("Si", cubic=True),
    bulk("Si"),
    bulk("Mg"),
    bulk("NaCl", "rocksalt", a=5.6),
    bulk("W"),
]


@pytest.mark.parametrize("atoms", CRYSTALS, ids=str)
async def test_a_supercell_is_the_same_crystal(atoms: object) -> None:
    crystal = frame_of(atoms)
    whole = repeated(crystal, (2, 1, 3))
    assert len(whole) == 6 * len(crystal)
    assert whole.volume == pytest.approx(6.0 * crystal.volume)
    np.testing.assert_array_equal(whole.topology.numbers, np.tile(crystal.topology.numbers, 6))
    theirs = atoms.repeat((2, 1, 3))  # type: ignore[attr-defined]
    _, apart = get_distances(whole.positions, theirs.positions, cell=theirs.cell, pbc=True)
    np.testing.assert_allclose(apart.min(axis=1), 0.0, atol=1e-9)
    np.testing.assert_array_equal(whole.positions[: len(crystal)], crystal.positions)
    ask = CountingEvaluator(ToyEngine(**LJ | {"sigma": 2.0}))
    assert (await ask(whole)).energy == pytest.approx(6.0 * (await ask(crystal)).energy)


@pytest.mark.parametrize("atoms", CRYSTALS, ids=str)
@pytest.mark.parametrize("least", [1, 60, 200, 1000])
def test_it_has_enough_atoms_and_is_as_wide_as_long(atoms: object, least: int) -> None:
    crystal = frame_of(atoms)
    whole = repeated(crystal, repeats_for_atoms(crystal, least))
    assert least <= len(whole) <= 3 * least + 8
    width = plane_spacings(whole.cell)
    assert width.max() < 1.8 * width.min() or least == 1


def test_a_cube_stays_a_cube() -> None:
    silicon = frame_of(bulk("Si", cubic=True))
    assert repeats_for_atoms(silicon, 200) == (3, 3, 3)
    assert repeats_for_atoms(silicon, 64) == (2, 2, 2)
    assert repeats_for_atoms(frame_of(bulk("W")), 200) == (6, 6, 6)


def test_lengths_are_between_faces() -> None:
    magnesium = frame_of(bulk("Mg"))
    counts = repeats_for_length(magnesium, 10.0)
    width = plane_spacings(repeated(magnesium, counts).cell)
    assert (width >= 10.0).all()
    assert (width - plane_spacings(magnesium.cell) < 10.0).all()
    assert repeats_for_length(magnesium, 12.0, even=True) == (6, 6, 4)
    assert repeats_for_length(frame_of(bulk("W", a=3.0, cubic=True)), 9.0) == (3, 3, 3)


def test_nonsense_is_refused() -> None:
    crystal = frame_of(bulk("W"))
    with pytest.raises(ConfigError, match="1 or more times"):
        repeated(crystal, (1, 0, 1))
    with pytest.raises(ConfigError, match="supercell of 0 atoms"):
        repeats_for_atoms(crystal, 0)
    with pytest.raises(ConfigError, match="least length of a supercell is -1"):
        repeats_for_length(crystal, -1.0)
