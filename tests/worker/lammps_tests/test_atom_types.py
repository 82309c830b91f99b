"""Atom types for site weights, without LAMMPS."""

from __future__ import annotations

import itertools
from unittest import mock

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mixserver_worker.engines.lammps.mpi import RankJob
from mixserver_worker.engines.lammps.weighting import atom_types, visibility
from mixserver_worker.engines.lammps.weighting.atom_types import (
    AtomTypes,
    ExcessTypes,
    TooManyWeights,
    elements_of_types,
)
from mixserver_worker.engines.lammps.weighting.visibility import (
    EVALUATED,
    INVISIBLE,
    NEIGHBOUR,
    Visibility,
)

REACH = 2.0
ELEMENTS = (14, 6)


def job_of(positions: np.ndarray, numbers: np.ndarray, cell: np.ndarray, pbc: tuple) -> RankJob:
    return RankJob(0, positions, numbers.astype(np.int32), cell, pbc, False, "")


def sees_a_site(job: RankJob, site: np.ndarray) -> np.ndarray:
    """Which atoms have a weighted atom (or its image) within reach, by looking at all images."""
    images = [range(-2, 3) if axis else range(1) for axis in job.pbc]
    found = np.zeros(len(site), bool)
    for image in itertools.product(*images):
        apart = job.positions[None, site] + np.array(image) @ job.cell
        distance = np.linalg.norm(apart - job.positions[:, None], axis=2)
        found |= (distance < REACH).any(axis=1)
    return found


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1), st.tuples(*[st.booleans()] * 3))
def test_every_weight_has_a_type_and_every_neighbour_is_visible(
    seed: int, pbc: tuple[bool, bool, bool]
) -> None:
    with mock.patch.object(visibility, "_FEW", 2):
        check_a_walk_of_weights(np.random.default_rng(seed), pbc)


def check_a_walk_of_weights(dice: np.random.Generator, pbc: tuple[bool, bool, bool]) -> None:
    n = int(dice.integers(1, 60))
    cell = np.eye(3) * dice.uniform(6, 20) + dice.normal(scale=1.0, size=(3, 3))
    positions = dice.random((n, 3)) @ cell
    numbers = dice.choice([14, 6, 74], n)
    weights = dice.choice([0.0, 0.0, 1.0, 0.25, 0.5], n)
    types = AtomTypes(ELEMENTS, numbers, weights, REACH)
    for _ in range(6):
        job = job_of(positions, numbers, cell, pbc)
        got = types.assign(job, weights)
        seen = np.isin(numbers, ELEMENTS)
        np.testing.assert_array_equal(got.scale[got.types[seen]], weights[seen])
        assert (got.types[~seen] == 1).all()
        needed = sees_a_site(job, seen & (weights != 0)) & seen & (weights == 0)
        assert (got.classes[seen & (weights != 0)] == EVALUATED).all()
        assert (got.types[needed] != 1).all()
        assert ((got.types == 1) == (got.classes == INVISIBLE)).all()
        elements = np.array(elements_of_types(types.room))
        np.testing.assert_array_equal(
            np.array(ELEMENTS)[elements[got.types[got.types > 1] - 2]], numbers[got.types > 1]
        )
        strain = np.eye(3) + dice.normal(scale=0.01, size=(3, 3))
        cell = cell @ strain
        positions = (positions + dice.normal(scale=0.2, size=(n, 3))) @ strain
        if dice.random() < 0.3:
            weights = dice.choice([0.0, 0.0, 1.0, 0.25, 0.5], n)


def test_atoms_of_weight_zero_far_from_sites_are_invisible() -> None:
    grid = np.stack(np.meshgrid(*[np.arange(22.0)] * 3, indexing="ij"), -1).reshape(-1, 3)
    weights = (np.linalg.norm(grid - 10.5, axis=1) > 10.0).astype(float)
    numbers = np.full(len(grid), 14)
    types = AtomTypes(ELEMENTS, numbers, weights, REACH)
    got = types.assign(job_of(grid, numbers, np.eye(3) * 22, (True,) * 3), weights)
    hidden = np.linalg.norm(grid[got.types == 1] - 10.5, axis=1)
    assert len(hidden) > 8
    assert hidden.max() < 10.0 - REACH


def test_classes_are_kept_while_a_region_moves_a_little() -> None:
    grid = np.stack(np.meshgrid(*[np.arange(20.0)] * 3, indexing="ij"), -1).reshape(-1, 3)
    numbers, cell = np.full(len(grid), 14), np.eye(3) * 20
    visible, found = Visibility(np.ones(len(grid), bool), REACH), []
    for step in range(20):
        sites = np.linalg.norm(grid - [6.0 + 0.3 * step, 10, 10], axis=1) < 3.2
        job = job_of(grid, numbers, cell, (False,) * 3)
        found.append(visible.classes(job, sites))
        assert (found[-1][sites] == EVALUATED).all()
        assert (found[-1][sees_a_site(job, sites)] != INVISIBLE).all()
    assert np.count_nonzero(found[0] == INVISIBLE) > 1000
    assert np.count_nonzero(found[0] == NEIGHBOUR) > 100
    assert 2 <= len({id(classes) for classes in found}) <= 5
    none = Visibility(np.ones(len(grid), bool), REACH).classes(job, np.zeros(len(grid), bool))
    assert (none == INVISIBLE).all()


@pytest.mark.parametrize("thickness", [0.0, 1e-7])
def test_a_flat_sheet_with_an_open_axis_has_classes(thickness: float) -> None:
    flat = np.stack(np.meshgrid(np.arange(30.0), np.arange(30.0), [0.0, 1.0]), -1).reshape(-1, 3)
    grid, numbers = flat * [1.0, 1.0, thickness], np.full(len(flat), 14)
    sites = np.linalg.norm(grid[:, :2] - 14.5, axis=1) < 4.0
    job = job_of(grid, numbers, np.eye(3) * 30, (True, True, False))
    classes = Visibility(np.ones(len(grid), bool), REACH).classes(job, sites)
    assert (classes[sees_a_site(job, sites)] != INVISIBLE).all()
    assert (classes == INVISIBLE).sum() > 200


def test_a_growing_blend_uses_spare_types_and_then_raises() -> None:
    numbers = np.full(200, 14)
    positions = np.random.default_rng(0).random((200, 3)) * 9
    job = job_of(positions, numbers, np.eye(3) * 9, (True,) * 3)
    weights = np.ones(200)
    weights[:40] = np.linspace(0.1, 0.9, 40)
    types = AtomTypes(ELEMENTS, numbers, weights, REACH)
    assert types.room == (52, 16)
    weights[40:52] = np.linspace(0.15, 0.85, 12)
    types.assign(job, weights)
    weights[60:80] = np.linspace(0.01, 0.05, 20)
    with pytest.raises(TooManyWeights):
        types.assign(job, weights)


@given(st.lists(st.tuples(st.integers(1, 400), st.integers(1, 400)), max_size=30))
def test_excess_types_persist_only_after_many_evaluations_in_a_row(
    notes: list[tuple[int, int]],
) -> None:
    excess = ExcessTypes()
    for room, wanted in notes:
        excess.count(room, wanted)
    assert not excess.persistent  # not for so few
    for _ in range(atom_types.SHRINK_AFTER - 1):
        excess.count(100, 30)
    excess.count(100, 34)
    assert not excess.persistent
    for at in range(atom_types.SHRINK_AFTER):
        assert not excess.persistent, at
        excess.count(100, 33)
    assert excess.persistent


@given(st.integers(0, 150), st.integers(0, 150))
def test_wanted_types_are_those_of_a_new_instance(first: int, then: int) -> None:
    numbers = np.resize(np.array([14, 14, 6]), 300)
    positions = np.random.default_rng(0).random((300, 3)) * 9
    job = job_of(positions, numbers, np.eye(3) * 9, (True,) * 3)

    def weights(count: int) -> np.ndarray:
        made = np.ones(300)
        made[:count] = np.linspace(0.1, 0.9, count)
        return made

    types = AtomTypes(ELEMENTS, numbers, weights(first), REACH)
    assert types.wanted == sum(types.room)
    fresh = AtomTypes(ELEMENTS, numbers, weights(then), REACH)
    try:
        types.assign(job, weights(then))
    except TooManyWeights:
        assert then > first
    else:
        assert types.wanted == sum(fresh.room)
