"""The dipole of screw dislocations of inputs/w_screw, and what finds them in a structure."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

SCRIPT = Path(__file__).parents[2] / "inputs/w_screw/dipole.py"
LATTICE = 3.18


@pytest.fixture(scope="module")
def module() -> ModuleType:
    spec = importlib.util.spec_from_file_location("w_screw_dipole", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    found = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = found
    spec.loader.exec_module(found)
    return found


@pytest.mark.parametrize("hard", [False, True])
@pytest.mark.parametrize("repeats", [(1, 4, 6), (3, 6, 4)])
def test_two_dislocations_are_where_they_were_put(
    module: ModuleType, repeats: tuple[int, int, int], hard: bool
) -> None:
    made = module.dipole("W", LATTICE, repeats, hard=hard)
    assert len(made.atoms) == 6 * np.prod(repeats)
    found = module.Finder(made.perfect, LATTICE).cores(
        made.atoms.positions, np.array(made.atoms.cell)[1:, 0]
    )
    assert found.shape == (2, repeats[0], 2)
    for which in range(2):
        np.testing.assert_allclose(found[which] - made.centres[which], 0.0, atol=1e-3)  # Å


def test_neighbours_are_as_far_apart_as_in_the_crystal_but_near_the_cores(
    module: ModuleType,
) -> None:
    made = module.dipole("W", LATTICE, (1, 6, 10))
    atoms = made.atoms.copy()
    distances = atoms.get_all_distances(mic=True)
    np.fill_diagonal(distances, 9.0)
    nearest = distances.min(axis=1)
    perfect = LATTICE * np.sqrt(3.0) / 2.0
    assert nearest.min() > 0.9 * perfect
    # also across the boundary of the tilted cell: only atoms near the cores are displaced much
    assert (np.abs(nearest - perfect) > 0.03 * perfect).mean() < 0.15


@pytest.fixture(scope="module")
def small(module: ModuleType) -> Any:
    return module.dipole("W", LATTICE, (2, 4, 6))


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 1000), slip=st.integers(-3, 3), shift=st.floats(-5.0, 5.0))
def test_charges_do_not_depend_on_shaking_images_or_origin(
    module: ModuleType, small: Any, seed: int, slip: int, shift: float
) -> None:
    made = small
    finder = module.Finder(made.perfect, LATTICE)
    tilt = np.array(made.atoms.cell)[1:, 0]
    positions = made.atoms.positions.copy()
    rng = np.random.default_rng(seed)
    positions += rng.normal(0.0, 0.05, positions.shape)
    positions[:, 0] += shift + slip * module.burgers(LATTICE) * rng.integers(0, 2, len(positions))
    np.testing.assert_array_equal(
        finder.charges(positions, tilt), finder.charges(made.atoms.positions, tilt)
    )


def test_a_perfect_crystal_has_none(module: ModuleType, small: Any) -> None:
    made = small
    finder = module.Finder(made.perfect, LATTICE)
    assert not finder.charges(made.perfect.positions, np.zeros(2)).any()
    assert np.isnan(finder.cores(made.perfect.positions, np.zeros(2))).all()


def test_an_odd_number_of_cells_is_refused(module: ModuleType) -> None:
    with pytest.raises(ValueError, match="even along y and z"):
        module.dipole("W", LATTICE, (1, 5, 6))
