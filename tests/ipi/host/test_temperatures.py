"""Temperatures of groups of atoms count the components that can move."""

from __future__ import annotations

import numpy as np
from tolerance import ROUND_TRIP

from mixserver.ipi.host.temperatures import COLUMNS, group_temperatures, header
from mixserver.ipi.output import header_columns

MASSES = np.array([1.0, 4.0, 9.0, 16.0, 25.0])
LAMBDAS = np.array([1.0, 1.0, 0.5, 0.0, 0.0])
FREE = np.ones((5, 3), dtype=np.bool_)


def _momenta(*kT: float) -> np.ndarray:
    """Momenta with exactly this kinetic temperature of each atom."""
    return np.sqrt(MASSES * np.array(kT))[:, None] * np.array([1.0, -1.0, 1.0])


def test_each_group_has_its_own() -> None:
    found, atoms = group_temperatures(
        _momenta(2.0, 4.0, 5.0, 7.0, 8.0), MASSES, LAMBDAS, FREE, fixed_centre=False
    )
    np.testing.assert_allclose(found, [3.0, 5.0, 7.5], rtol=ROUND_TRIP)
    assert atoms.tolist() == [2, 1, 2]


def test_fixed_components_carry_no_heat() -> None:
    free = FREE.copy()
    free[1] = False
    free[3, 0] = False
    free[2] = False
    momenta = np.where(free, _momenta(2.0, 4.0, 5.0, 7.0, 7.0), 0.0)
    found, atoms = group_temperatures(momenta, MASSES, LAMBDAS, free, fixed_centre=False)
    np.testing.assert_allclose(found[[0, 2]], [2.0, 7.0], rtol=ROUND_TRIP)
    assert np.isnan(found[1])  # has an atom, but none that moves
    assert atoms.tolist() == [2, 1, 2]


def test_an_empty_group_has_none() -> None:
    found, atoms = group_temperatures(
        _momenta(2.0, 2.0, 2.0, 2.0, 2.0), MASSES, np.zeros(5), FREE, fixed_centre=False
    )
    assert np.isnan(found[:2]).all()
    assert atoms.tolist() == [0, 0, 5]


def test_a_fixed_centre_is_shared_by_mass() -> None:
    """Momenta drawn at kT = 1 with their total taken away have kT = 1 in every group."""
    rng = np.random.default_rng(4)
    kT = []
    for _ in range(4000):
        p = rng.normal(size=(5, 3)) * np.sqrt(MASSES)[:, None]
        p -= MASSES[:, None] * p.sum(axis=0) / MASSES.sum()
        kT.append(group_temperatures(p, MASSES, LAMBDAS, FREE, fixed_centre=True)[0])
    mean, error = np.mean(kT, axis=0), np.std(kT, axis=0) / np.sqrt(len(kT))
    assert (np.abs(mean - 1.0) < 4.0 * error).all(), (mean, error)
    assert (error < 0.02).all()


def test_the_header_is_one_of_ipi() -> None:
    found = header_columns(header().splitlines())
    assert list(found) == [name.partition("{")[0] for name, _ in COLUMNS]
    assert [column.at for column in found.values()] == list(range(8))
