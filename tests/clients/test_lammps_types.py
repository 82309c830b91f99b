"""Which atom type stands for which site weight. Needs no LAMMPS."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clients.engines import lammps_types
from clients.engines.lammps_mpi import Order
from clients.engines.lammps_types import Crowded, Slack, Types

REACH = 2.0
ELEMENTS = (14, 6)


def order_of(positions: np.ndarray, numbers: np.ndarray, cell: np.ndarray, pbc: tuple) -> Order:
    return Order(0, positions, numbers.astype(np.int32), cell, pbc, False, "")


def sees_a_site(order: Order, site: np.ndarray) -> np.ndarray:
    """Which atoms have a weighted atom (or its image) within reach, by looking at all images."""
    images = [range(-2, 3) if axis else range(1) for axis in order.pbc]
    found = np.zeros(len(site), bool)
    for image in itertools.product(*images):
        apart = order.positions[None, site] + np.array(image) @ order.cell
        distance = np.linalg.norm(apart - order.positions[:, None], axis=2)
        found |= (distance < REACH).any(axis=1)
    return found


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1), st.tuples(*[st.booleans()] * 3))
def test_every_weight_has_its_type_and_no_neighbour_is_hidden(
    seed: int, pbc: tuple[bool, bool, bool]
) -> None:
    dice = np.random.default_rng(seed)
    n = int(dice.integers(1, 60))
    cell = np.eye(3) * dice.uniform(6, 14) + dice.normal(scale=1.0, size=(3, 3))
    positions = dice.random((n, 3)) @ cell
    numbers = dice.choice([14, 6, 74], n)
    weights = dice.choice([0.0, 0.0, 1.0, 0.25, 0.5], n)
    types = Types(ELEMENTS, numbers, weights, REACH)
    for _ in range(6):
        order = order_of(positions, numbers, cell, pbc)
        got = types.assign(order, weights)
        seen = np.isin(numbers, ELEMENTS)
        np.testing.assert_array_equal(got.scale[got.kinds[seen]], weights[seen])
        assert (got.kinds[~seen] == 1).all()
        needed = sees_a_site(order, seen & (weights != 0)) & seen & (weights == 0)
        assert (got.kinds[needed] != 1).all()
        for number, zero in zip(ELEMENTS, (2, 4), strict=True):
            assert (got.kinds[needed & (numbers == number)] == zero).all()
        strain = np.eye(3) + dice.normal(scale=0.01, size=(3, 3))
        cell = cell @ strain
        positions = (positions + dice.normal(scale=0.2, size=(n, 3))) @ strain
        if dice.random() < 0.3:
            weights = dice.choice([0.0, 0.0, 1.0, 0.25, 0.5], n)


def test_the_deep_inside_of_a_core_is_hidden() -> None:
    grid = np.stack(np.meshgrid(*[np.arange(12.0)] * 3, indexing="ij"), -1).reshape(-1, 3)
    weights = (np.linalg.norm(grid - 5.5, axis=1) > 5.0).astype(float)
    numbers = np.full(len(grid), 14)
    types = Types(ELEMENTS, numbers, weights, REACH)
    got = types.assign(order_of(grid, numbers, np.eye(3) * 12, (True,) * 3), weights)
    hidden = np.linalg.norm(grid[got.kinds == 1] - 5.5, axis=1)
    assert len(hidden) > 8
    assert hidden.max() < 5.0 - REACH


def test_a_growing_blend_has_head_room_and_then_says_so() -> None:
    numbers = np.full(200, 14)
    positions = np.random.default_rng(0).random((200, 3)) * 9
    order = order_of(positions, numbers, np.eye(3) * 9, (True,) * 3)
    weights = np.ones(200)
    weights[:40] = np.linspace(0.1, 0.9, 40)
    types = Types(ELEMENTS, numbers, weights, REACH)
    assert types.room == (52, 16)
    weights[40:52] = np.linspace(0.15, 0.85, 12)
    types.assign(order, weights)
    weights[60:80] = np.linspace(0.01, 0.05, 20)
    with pytest.raises(Crowded):
        types.assign(order, weights)


@given(st.lists(st.tuples(st.integers(1, 400), st.integers(1, 400)), max_size=30))
def test_room_is_given_back_only_if_it_was_far_too_much_each_time(
    notes: list[tuple[int, int]],
) -> None:
    slack = Slack()
    for room, wanted in notes:
        slack.note(room, wanted)
    assert not slack.long  # not for so few
    for _ in range(lammps_types._LONG - 1):
        slack.note(100, 30)
    slack.note(100, 34)
    assert not slack.long
    for at in range(lammps_types._LONG):
        assert not slack.long, at
        slack.note(100, 33)
    assert slack.long


@given(st.integers(0, 150), st.integers(0, 150))
def test_what_is_wanted_is_what_would_be_made(first: int, then: int) -> None:
    numbers = np.resize(np.array([14, 14, 6]), 300)
    positions = np.random.default_rng(0).random((300, 3)) * 9
    order = order_of(positions, numbers, np.eye(3) * 9, (True,) * 3)

    def weights(count: int) -> np.ndarray:
        made = np.ones(300)
        made[:count] = np.linspace(0.1, 0.9, count)
        return made

    types = Types(ELEMENTS, numbers, weights(first), REACH)
    assert types.wanted == sum(types.room)
    fresh = Types(ELEMENTS, numbers, weights(then), REACH)
    try:
        types.assign(order, weights(then))
    except Crowded:
        assert then > first
    else:
        assert types.wanted == sum(fresh.room)
