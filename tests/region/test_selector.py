"""From positions to lambda."""

from __future__ import annotations

import json
from typing import Literal

import numpy as np
import pytest
from cells import brute_distances, frame_of, frames, silicon
from hypothesis import given
from hypothesis import strategies as st

from mixserver.errors import ConfigError
from mixserver.frame import Frame
from mixserver.region import (
    AtomSeeds,
    CriterionSeeds,
    CylinderSeeds,
    Due,
    Seeds,
    Selector,
    SlabSeeds,
    SphereSeeds,
)

SHARE = 1e-9
"""Rounding of lambda: distances to 1e-10 Å over a blend of 0.5 Å or more."""

widths = st.floats(0.5, 5.0)
origins: tuple[Literal["seed", "core"], ...] = ("seed", "core")
measured = st.sampled_from(origins)


def _line(*places: float) -> Frame:
    positions = np.zeros((len(places), 3))
    positions[:, 0] = places
    return frame_of(positions, np.eye(3) * 60.0)


def _moved(frame: Frame, positions: np.ndarray, cell: np.ndarray | None = None) -> Frame:
    return frame_of(positions, frame.cell if cell is None else cell, frame.topology.pbc)


def test_the_shells_measured_from_the_seed() -> None:
    selector = Selector(AtomSeeds([0]), core_radius=2.0, blend_width=4.0, profile="linear")
    region = selector.select(_line(0.0, 1.9, 2.0, 3.0, 5.0, 6.0, 7.0))
    np.testing.assert_allclose(region.expensive, [1, 1, 1, 0.75, 0.25, 0, 0], atol=SHARE)
    assert (region.core, region.blend) == (3, 2)
    np.testing.assert_array_equal(region.seeds, [0])


def test_the_shells_measured_from_the_core() -> None:
    selector = Selector(
        AtomSeeds([0]), core_radius=2.0, blend_width=4.0, profile="linear", measure_from="core"
    )
    region = selector.select(_line(0.0, 1.5, 2.0, 3.0, 5.0, 6.0))
    # the core ends at the atom at 1.5: the atom at 2.0 is not strictly inside
    np.testing.assert_allclose(
        region.expensive, [1, 1, 1 - 0.5 / 4, 1 - 1.5 / 4, 1 - 3.5 / 4, 0], atol=SHARE
    )


@given(frames(smallest=4.0), st.integers(1, 8), widths, widths, measured)
def test_lambda_is_brute_force(
    frame: Frame, share: int, core: float, blend: float, measure_from: Literal["seed", "core"]
) -> None:
    seeds = np.arange(0, len(frame), share)
    selector = Selector(
        AtomSeeds(seeds),
        core_radius=core,
        blend_width=blend,
        profile="cubic",
        measure_from=measure_from,
    )
    distance = brute_distances(frame, frame.positions, core + blend)
    inside = distance[:, seeds].min(axis=1) < core
    depth = (
        distance[:, seeds].min(axis=1) - core
        if measure_from == "seed"
        else distance[:, inside].min(axis=1)
    )
    t = np.clip(depth / blend, 0.0, 1.0)
    wanted = np.where(inside, 1.0, 1.0 - (3.0 * t**2 - 2.0 * t**3))
    np.testing.assert_allclose(selector.select(frame).expensive, wanted, atol=SHARE)


@given(frames(smallest=4.0), widths, widths, measured, st.integers(0, 2**32 - 1))
def test_moving_rotating_or_renumbering_changes_nothing(
    frame: Frame, core: float, blend: float, measure_from: Literal["seed", "core"], seed: int
) -> None:
    rng = np.random.default_rng(seed)

    def selector(seeds: np.ndarray) -> Selector:
        return Selector(
            AtomSeeds(seeds), core_radius=core, blend_width=blend, measure_from=measure_from
        )

    here = selector(np.array([0])).select(frame).expensive
    rotation = np.linalg.qr(rng.normal(size=(3, 3)))[0]
    turned = _moved(frame, frame.positions @ rotation, frame.cell @ rotation)
    shifted = _moved(frame, frame.positions + rng.uniform(-30.0, 30.0, 3))
    turns = rng.integers(-3, 4, frame.positions.shape) * frame.topology.pbc
    elsewhere = _moved(frame, frame.positions + turns @ frame.cell)
    for other in (turned, shifted, elsewhere):
        there = selector(np.array([0])).select(other).expensive
        np.testing.assert_allclose(there, here, atol=1e-8)
    order = rng.permutation(len(frame))
    renumbered = selector(np.flatnonzero(order == 0)).select(_moved(frame, frame.positions[order]))
    np.testing.assert_allclose(renumbered.expensive, here[order], atol=SHARE)


def test_seeds_alone_are_core_when_both_widths_are_nought() -> None:
    for measure_from in origins:
        selector = Selector(
            AtomSeeds([3]), core_radius=0.0, blend_width=0.0, measure_from=measure_from
        )
        np.testing.assert_array_equal(selector.select(silicon(1)).active, [3])


@pytest.mark.parametrize("measure_from", origins)
@pytest.mark.parametrize(
    ("seeds", "inside"),
    [
        (SphereSeeds((8.0, 8.0, 8.0), 3.0), lambda x: np.linalg.norm(x - 8.0, axis=1) - 3.0),
        (
            CylinderSeeds(2, (8.0, 8.0, 0.0), 3.0),
            lambda x: np.linalg.norm(x[:, :2] - 8.0, axis=1) - 3.0,
        ),
        (SlabSeeds(1, 0.4, 0.6), lambda x: np.abs(x[:, 1] - 10.86) - 0.1 * 21.72),
    ],
    ids=["sphere", "cylinder", "slab"],
)
def test_a_body_has_its_core_around_its_surface(
    seeds: Seeds,
    inside,
    measure_from: Literal["seed", "core"],
) -> None:
    frame = silicon(4)
    region = Selector(
        seeds, core_radius=1.0, blend_width=2.0, profile="linear", measure_from=measure_from
    ).select(frame)
    outside = inside(frame.positions)
    np.testing.assert_array_equal(region.expensive == 1.0, outside < 1.0)
    assert not len(region.seeds)
    if measure_from == "seed":
        blend = (outside >= 1.0) & (outside < 3.0)
        np.testing.assert_allclose(region.expensive[blend], 1.5 - outside[blend] / 2, atol=SHARE)
        assert region.blend == blend.sum()


@pytest.mark.parametrize("measure_from", origins)
def test_a_body_of_no_size_without_core_is_empty(measure_from: Literal["seed", "core"]) -> None:
    selector = Selector(
        SphereSeeds((1.3, 1.3, 1.3), 0.0),
        core_radius=0.0,
        blend_width=2.0,
        measure_from=measure_from,
    )
    frame = silicon(2, rattle=0.0)
    assert selector.select(frame).core == 0


def test_hysteresis_delays_both_ways_and_not_the_first_time() -> None:
    selector = Selector(AtomSeeds([0]), core_radius=1.0, blend_width=0.0, hysteresis=(2.0, 4.0))
    near, far = _line(0.0, 0.5, 5.0), _line(0.0, 5.0, 0.5)
    seen = [selector.select(frame).expensive[1:] for frame in (near, far, far, near)]
    np.testing.assert_allclose(
        seen, [[1, 0], [0.75, 0.5], [0.5625, 0.75], [0.78125, 0.5625]], atol=1e-12
    )


def test_beads_remember_apart() -> None:
    selector = Selector(AtomSeeds([0]), core_radius=1.0, blend_width=0.0, hysteresis=(4.0, 4.0))
    selector.select(frame_of(_line(0.0, 5.0).positions, np.eye(3) * 60.0, bead=0))
    other = selector.select(frame_of(_line(0.0, 0.5).positions, np.eye(3) * 60.0, bead=1))
    assert other.expensive[1] == 1.0


def _criterion(**settings: object) -> Selector:
    seeds = CriterionSeeds("coord/atom cutoff 2.9", low=0.5, high=3.5, **settings)  # type: ignore[arg-type]
    return Selector(seeds, core_radius=1.0, blend_width=0.0)


def test_a_criterion_chooses_at_the_first_evaluation() -> None:
    selector, frame = _criterion(every=3), _line(0.0, 10.0, 20.0)
    assert selector.due(0) == selector.due(0) == Due("coord/atom cutoff 2.9", choose=True)
    with pytest.raises(RuntimeError, match=r"observe\(\) before select"):
        selector.select(frame)
    selector.observe(0, np.array([4.0, 3.0, 4.0]))
    np.testing.assert_array_equal(selector.select(frame).seeds, [1])
    for _ in range(2):
        assert selector.due(0) == Due()
        np.testing.assert_array_equal(selector.select(frame).active, [1])
    assert selector.due(0).choose
    assert selector.due(1).choose  # another bead starts for itself


@pytest.mark.parametrize("late", [False, True], ids=["observed before", "observed after"])
def test_a_choice_uses_the_mean_of_its_samples(late: bool) -> None:
    selector, frame = _criterion(every=4, samples=2, sample_every=2, initial=(2,)), _line(0, 10, 20)
    samples = {2: np.array([1.0, 0.0, 9.0]), 4: np.array([0.0, 9.0, 0.0])}
    for evaluation in range(5):
        due = selector.due(0)
        assert due == (
            Due("coord/atom cutoff 2.9", choose=evaluation == 4) if evaluation in samples else Due()
        )
        if due.criterion and (due.choose or not late):
            selector.observe(0, samples[evaluation])
        region = selector.select(frame)
        if due.criterion and late and not due.choose:
            selector.observe(0, samples[evaluation])
        np.testing.assert_array_equal(region.seeds, [2] if evaluation < 4 else [0])


def test_a_criterion_that_finds_nothing_leaves_everything_cheap() -> None:
    for selector in (
        _criterion(),
        Selector(
            CriterionSeeds("x", low=0.5), core_radius=3.0, blend_width=2.0, measure_from="core"
        ),
    ):
        selector.observe(0, np.zeros(3))
        region = selector.select(_line(0.0, 10.0, 20.0))
        assert not len(region.active)
        assert not len(region.seeds)


def test_a_restart_goes_on_where_it_stopped() -> None:
    def make() -> Selector:
        return Selector(
            CriterionSeeds("x", low=0.5, every=4, samples=2),
            core_radius=6.0,
            blend_width=6.0,
            hysteresis=(5.0, 5.0),
        )

    def walk(selector: Selector, start: int, stop: int) -> list[np.ndarray]:
        seen = []
        for n in range(start, stop):
            frame = _line(0.0, 2.0 + n, 9.0, 20.0)
            if selector.due(0).criterion:
                selector.observe(0, np.array([1.0, 0.0, n / 10, 0.0]))
            seen.append(selector.select(frame).expensive)
        return seen

    straight = walk(make(), 0, 12)
    first, second = make(), make()
    broken = walk(first, 0, 7)
    second.restore(json.loads(json.dumps(first.state())))
    broken += walk(second, 7, 12)
    np.testing.assert_array_equal(straight, broken)


@pytest.mark.parametrize("state", [{"x": {}}, {"0": {}}, {"0": None}, []])
def test_a_wrong_state_is_refused_and_changes_nothing(state: object) -> None:
    selector = Selector(AtomSeeds([0]), core_radius=1.0, blend_width=1.0)
    selector.select(silicon(1))
    before = selector.state()
    with pytest.raises(ConfigError):
        selector.restore(state)  # type: ignore[arg-type]
    assert selector.state() == before


_SOUND = {
    "evaluations": 3,
    "active": [0, 7],
    "expensive": [1.0, 0.5],
    "chosen": [0],
    "summed": [0.0] * 8,
    "samples": 1,
    "target": [0, 5],
    "targeted": [1.0, 0.25],
    "work": -0.5,
}


@pytest.mark.parametrize(
    "wrong",
    [
        {"active": [0, 8]},
        {"active": [-1, 0]},
        {"active": [0]},
        {"active": None},
        {"expensive": [1.0, 1.5]},
        {"expensive": [1.0, float("nan")]},
        {"chosen": [8]},
        {"summed": [0.0] * 7},
        {"samples": 0},
        {"target": [0, 8]},
        {"target": None},
        {"targeted": [1.0, -0.5]},
        {"work": float("nan")},
        {"work": "much"},
    ],
)
def test_a_memory_of_other_atoms_is_refused(wrong: dict[str, object]) -> None:
    selector = Selector(AtomSeeds([0]), core_radius=1.0, blend_width=1.0, atoms=8)
    selector.restore({"0": _SOUND})
    with pytest.raises(ConfigError):
        selector.restore({"0": {**_SOUND, **wrong}})
    assert selector.state() == {"0": _SOUND}


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"core_radius": -1.0}, "core_radius"),
        ({"blend_width": float("nan")}, "blend_width"),
        ({"profile": "step"}, "profile"),
        ({"measure_from": "moon"}, "measure_from"),
        ({"hysteresis": (-1.0, 2.0)}, "hysteresis"),
    ],
)
def test_nonsense_is_refused(settings: dict[str, object], words: str) -> None:
    sound = {"core_radius": 1.0, "blend_width": 1.0}
    with pytest.raises(ConfigError, match=words):
        Selector(AtomSeeds([0]), **{**sound, **settings})  # type: ignore[arg-type]
