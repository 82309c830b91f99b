"""Lambda by atom index."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from cells import frame_of, frames, silicon
from hypothesis import given
from hypothesis import strategies as st
from region_models import advance, divide

from mixserver.core.errors import ConfigError
from mixserver.core.frame import Frame
from mixserver.region import (
    AtomSeeds,
    CylinderSeeds,
    FixedRegion,
    RegionModel,
    Seeds,
    ShellRegion,
    SlabSeeds,
    SmoothRegion,
    SphereSeeds,
)


@given(frames(), st.integers(0, 2**32 - 1))
def test_atoms_keep_their_lambda_wherever_they_go(frame: Frame, seed: int) -> None:
    region_model = ShellRegion(AtomSeeds([0]), core_radius=2.0, blend_width=2.0)
    fixed = FixedRegion.at(region_model, frame)
    wanted = divide(region_model, frame)
    rng = np.random.default_rng(seed)
    for bead in range(3):
        moved = frame_of(
            frame.positions + rng.normal(0.0, 3.0, frame.positions.shape),
            frame.cell * rng.uniform(0.9, 1.1),
            frame.topology.pbc,
            bead=bead,
        )
        region = divide(fixed, moved)
        np.testing.assert_array_equal(region.lambda_, wanted.lambda_)
        np.testing.assert_array_equal(region.seeds, wanted.seeds)
        assert region.gradient is None
        assert region.before is None


@pytest.mark.parametrize(
    "region_model",
    [
        ShellRegion(SphereSeeds((5.0, 5.0, 5.0), 3.0), core_radius=1.0, blend_width=2.0),
        ShellRegion(CylinderSeeds(2, (5.0, 5.0, 0.0), 3.0), core_radius=1.0, blend_width=2.0),
        ShellRegion(SlabSeeds(1, 0.4, 0.6), core_radius=0.0, blend_width=3.0, measure_from="core"),
        SmoothRegion(AtomSeeds([0, 9]), core_radius=1.0, blend_width=3.0),
    ],
    ids=["sphere", "cylinder", "slab", "following"],
)
def test_every_kind_of_region_can_be_fixed(region_model: RegionModel) -> None:
    frame = silicon(3)
    region = divide(FixedRegion.at(region_model, frame), frame)
    assert region.blend
    np.testing.assert_array_equal(region.lambda_, divide(region_model, frame).lambda_)


def _fixed(seeds: Seeds, frame: Frame) -> FixedRegion:
    return FixedRegion.at(ShellRegion(seeds, core_radius=1.0, blend_width=3.0), frame)


def test_a_restart_from_elsewhere_keeps_lambda() -> None:
    frame, other = silicon(2), silicon(2, seed=1)
    first, second = _fixed(AtomSeeds([0]), frame), _fixed(AtomSeeds([30]), other)
    wanted = divide(first, frame)
    second.restore(json.loads(json.dumps(first.state())))
    region = divide(second, other)
    np.testing.assert_array_equal(region.lambda_, wanted.lambda_)
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
    fixed = _fixed(AtomSeeds([0]), silicon(2))
    before = fixed.state()
    with pytest.raises(ConfigError):
        fixed.restore({**before, **wrong})
    assert fixed.state() == before


def test_the_state_of_another_kind_of_region_is_refused() -> None:
    frame = silicon(2)
    region_model = ShellRegion(
        AtomSeeds([0]), core_radius=1.0, blend_width=1.0, hysteresis=(2.0, 2.0)
    )
    advance(region_model, frame)
    fixed = _fixed(AtomSeeds([0]), frame)
    following = SmoothRegion(AtomSeeds([0]), core_radius=1.0, blend_width=1.0)
    with pytest.raises(ConfigError, match="fixed"):
        fixed.restore(region_model.state())
    with pytest.raises(ConfigError, match="fixed"):
        fixed.restore(following.state())
    with pytest.raises(ConfigError, match="not the state of a region"):
        region_model.restore(fixed.state())
    with pytest.raises(ConfigError, match="another kind"):
        following.restore(fixed.state())
    following.restore({})


def test_another_number_of_atoms_is_refused() -> None:
    fixed = _fixed(AtomSeeds([0]), silicon(2))
    with pytest.raises(ConfigError, match="fixed for 64 atoms, but there are 8"):
        divide(fixed, silicon(1))


@pytest.mark.parametrize(
    ("expensive", "seeds"),
    [([0.5, 1.5], [0]), ([0.5, float("nan")], [0]), ([[0.5]], [0]), ([0.5], [1]), ([0.5], [-1])],
)
def test_nonsense_is_refused(expensive: list[float], seeds: list[int]) -> None:
    with pytest.raises(ConfigError):
        FixedRegion(np.array(expensive), np.array(seeds))


def test_a_fixed_region_is_read_only() -> None:
    mine = np.array([0.0, 0.5])
    fixed = FixedRegion(mine, np.array([1]))
    mine[0] = 1.0
    region = divide(fixed, frame_of(np.zeros((2, 3)), np.eye(3)))
    np.testing.assert_array_equal(region.lambda_, [0.0, 0.5])
    with pytest.raises(ValueError, match="read-only"):
        region.lambda_[0] = 1.0
