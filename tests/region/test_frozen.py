"""Lambda by atom index."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from cells import frame_of, frames, silicon
from hypothesis import given
from hypothesis import strategies as st

from mixserver.errors import ConfigError
from mixserver.frame import Frame
from mixserver.region import (
    AtomSeeds,
    CylinderSeeds,
    Following,
    Frozen,
    Seeds,
    Selecting,
    Selector,
    SlabSeeds,
    SphereSeeds,
)


@given(frames(), st.integers(0, 2**32 - 1))
def test_atoms_keep_their_lambda_wherever_they_go(frame: Frame, seed: int) -> None:
    selector = Selector(AtomSeeds([0]), core_radius=2.0, blend_width=2.0)
    frozen = Frozen.at(selector, frame)
    wanted = selector.select(frame)
    rng = np.random.default_rng(seed)
    for bead in range(3):
        moved = frame_of(
            frame.positions + rng.normal(0.0, 3.0, frame.positions.shape),
            frame.cell * rng.uniform(0.9, 1.1),
            frame.topology.pbc,
            bead=bead,
        )
        region = frozen.select(moved)
        np.testing.assert_array_equal(region.expensive, wanted.expensive)
        np.testing.assert_array_equal(region.seeds, wanted.seeds)
        assert region.pull is None
        assert region.before is None


@pytest.mark.parametrize(
    "selector",
    [
        Selector(SphereSeeds((5.0, 5.0, 5.0), 3.0), core_radius=1.0, blend_width=2.0),
        Selector(CylinderSeeds(2, (5.0, 5.0, 0.0), 3.0), core_radius=1.0, blend_width=2.0),
        Selector(SlabSeeds(1, 0.4, 0.6), core_radius=0.0, blend_width=3.0, measure_from="core"),
        Following(AtomSeeds([0, 9]), core_radius=1.0, blend_width=3.0),
    ],
    ids=["sphere", "cylinder", "slab", "following"],
)
def test_every_kind_of_region_can_be_frozen(selector: Selecting) -> None:
    frame = silicon(3)
    region = Frozen.at(selector, frame).select(frame)
    assert region.blend
    np.testing.assert_array_equal(region.expensive, selector.select(frame).expensive)


def _frozen(seeds: Seeds, frame: Frame) -> Frozen:
    return Frozen.at(Selector(seeds, core_radius=1.0, blend_width=3.0), frame)


def test_a_restart_from_elsewhere_keeps_lambda() -> None:
    frame, other = silicon(2), silicon(2, seed=1)
    first, second = _frozen(AtomSeeds([0]), frame), _frozen(AtomSeeds([30]), other)
    wanted = first.select(frame)
    second.restore(json.loads(json.dumps(first.state())))
    region = second.select(other)
    np.testing.assert_array_equal(region.expensive, wanted.expensive)
    np.testing.assert_array_equal(region.seeds, [0])
    assert second.state() == first.state()


@pytest.mark.parametrize(
    "wrong",
    [
        {"atoms": 65},
        {"atoms": None},
        {"active": [64], "expensive": [1.0]},
        {"active": [-1], "expensive": [1.0]},
        {"active": [[0]], "expensive": [[1.0]]},
        {"active": [0, 1], "expensive": [1.0]},
        {"active": [0], "expensive": [1.5]},
        {"active": [0], "expensive": [float("nan")]},
        {"seeds": [64]},
        {"seeds": "x"},
    ],
)
def test_a_wrong_state_is_refused_and_changes_nothing(wrong: dict[str, Any]) -> None:
    frozen = _frozen(AtomSeeds([0]), silicon(2))
    before = frozen.state()
    with pytest.raises(ConfigError):
        frozen.restore({**before, **wrong})
    assert frozen.state() == before


def test_the_memory_of_another_kind_of_region_is_refused() -> None:
    frame = silicon(2)
    selector = Selector(AtomSeeds([0]), core_radius=1.0, blend_width=1.0, hysteresis=(2.0, 2.0))
    selector.select(frame)
    frozen = _frozen(AtomSeeds([0]), frame)
    following = Following(AtomSeeds([0]), core_radius=1.0, blend_width=1.0)
    with pytest.raises(ConfigError, match="frozen"):
        frozen.restore(selector.state())
    with pytest.raises(ConfigError, match="frozen"):
        frozen.restore(following.state())
    with pytest.raises(ConfigError, match="no state of a region"):
        selector.restore(frozen.state())
    with pytest.raises(ConfigError, match="another kind"):
        following.restore(frozen.state())
    following.restore({})


def test_another_number_of_atoms_is_refused() -> None:
    frozen = _frozen(AtomSeeds([0]), silicon(2))
    with pytest.raises(ConfigError, match="frozen for 64 atoms, but there are 8"):
        frozen.select(silicon(1))


@pytest.mark.parametrize(
    ("expensive", "seeds"),
    [([0.5, 1.5], [0]), ([0.5, float("nan")], [0]), ([[0.5]], [0]), ([0.5], [1]), ([0.5], [-1])],
)
def test_nonsense_is_refused(expensive: list[float], seeds: list[int]) -> None:
    with pytest.raises(ConfigError):
        Frozen(np.array(expensive), np.array(seeds))


def test_nobody_can_change_what_is_frozen() -> None:
    mine = np.array([0.0, 0.5])
    frozen = Frozen(mine, np.array([1]))
    mine[0] = 1.0
    region = frozen.select(frame_of(np.zeros((2, 3)), np.eye(3)))
    np.testing.assert_array_equal(region.expensive, [0.0, 0.5])
    with pytest.raises(ValueError, match="read-only"):
        region.expensive[0] = 1.0
