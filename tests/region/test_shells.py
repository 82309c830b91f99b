"""From positions to lambda."""

from __future__ import annotations

import json
from typing import Literal

import numpy as np
import pytest
from cells import brute_distances, frame_of, frames, silicon
from hypothesis import given
from hypothesis import strategies as st
from region_models import advance, divide, seen_anew

from mixserver.core.errors import ConfigError
from mixserver.core.frame import Frame
from mixserver.region import (
    AtomSeeds,
    CriterionSeeds,
    CylinderSeeds,
    Seeds,
    ShellRegion,
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
    region_model = ShellRegion(AtomSeeds([0]), core_radius=2.0, blend_width=4.0, profile="linear")
    region = divide(region_model, _line(0.0, 1.9, 2.0, 3.0, 5.0, 6.0, 7.0))
    np.testing.assert_allclose(region.lambda_, [1, 1, 1, 0.75, 0.25, 0, 0], atol=SHARE)
    assert (region.core, region.blend) == (3, 2)
    np.testing.assert_array_equal(region.seeds, [0])


def test_the_shells_measured_from_the_core() -> None:
    region_model = ShellRegion(
        AtomSeeds([0]), core_radius=2.0, blend_width=4.0, profile="linear", measure_from="core"
    )
    region = divide(region_model, _line(0.0, 1.5, 2.0, 3.0, 5.0, 6.0))
    # the core ends at the atom at 1.5: the atom at 2.0 is not strictly inside
    np.testing.assert_allclose(
        region.lambda_, [1, 1, 1 - 0.5 / 4, 1 - 1.5 / 4, 1 - 3.5 / 4, 0], atol=SHARE
    )


@given(frames(smallest=4.0), st.integers(1, 8), widths, widths, measured)
def test_lambda_is_brute_force(
    frame: Frame, share: int, core: float, blend: float, measure_from: Literal["seed", "core"]
) -> None:
    seeds = np.arange(0, len(frame), share)
    region_model = ShellRegion(
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
    np.testing.assert_allclose(divide(region_model, frame).lambda_, wanted, atol=SHARE)


@given(frames(smallest=4.0), widths, widths, measured, st.integers(0, 2**32 - 1))
def test_moving_rotating_or_renumbering_changes_nothing(
    frame: Frame, core: float, blend: float, measure_from: Literal["seed", "core"], seed: int
) -> None:
    rng = np.random.default_rng(seed)

    def region_model(seeds: np.ndarray) -> ShellRegion:
        return ShellRegion(
            AtomSeeds(seeds), core_radius=core, blend_width=blend, measure_from=measure_from
        )

    here = divide(region_model(np.array([0])), frame).lambda_
    rotation = np.linalg.qr(rng.normal(size=(3, 3)))[0]
    turned = _moved(frame, frame.positions @ rotation, frame.cell @ rotation)
    shifted = _moved(frame, frame.positions + rng.uniform(-30.0, 30.0, 3))
    turns = rng.integers(-3, 4, frame.positions.shape) * frame.topology.pbc
    elsewhere = _moved(frame, frame.positions + turns @ frame.cell)
    for other in (turned, shifted, elsewhere):
        there = divide(region_model(np.array([0])), other).lambda_
        np.testing.assert_allclose(there, here, atol=1e-8)
    order = rng.permutation(len(frame))
    renumbered = divide(
        region_model(np.flatnonzero(order == 0)), _moved(frame, frame.positions[order])
    )
    np.testing.assert_allclose(renumbered.lambda_, here[order], atol=SHARE)


def test_seeds_alone_are_core_when_both_widths_are_nought() -> None:
    for measure_from in origins:
        region_model = ShellRegion(
            AtomSeeds([3]), core_radius=0.0, blend_width=0.0, measure_from=measure_from
        )
        np.testing.assert_array_equal(divide(region_model, silicon(1)).active, [3])


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
    region = divide(
        ShellRegion(
            seeds, core_radius=1.0, blend_width=2.0, profile="linear", measure_from=measure_from
        ),
        frame,
    )
    outside = inside(frame.positions)
    np.testing.assert_array_equal(region.lambda_ == 1.0, outside < 1.0)
    assert not len(region.seeds)
    if measure_from == "seed":
        blend = (outside >= 1.0) & (outside < 3.0)
        np.testing.assert_allclose(region.lambda_[blend], 1.5 - outside[blend] / 2, atol=SHARE)
        assert region.blend == blend.sum()


@pytest.mark.parametrize("measure_from", origins)
def test_a_body_of_no_size_without_core_is_empty(measure_from: Literal["seed", "core"]) -> None:
    region_model = ShellRegion(
        SphereSeeds((1.3, 1.3, 1.3), 0.0),
        core_radius=0.0,
        blend_width=2.0,
        measure_from=measure_from,
    )
    frame = silicon(2, rattle=0.0)
    assert divide(region_model, frame).core == 0


def test_hysteresis_delays_both_ways_and_not_the_first_time() -> None:
    region_model = ShellRegion(
        AtomSeeds([0]), core_radius=1.0, blend_width=0.0, hysteresis=(2.0, 4.0)
    )
    near, far = _line(0.0, 0.5, 5.0), _line(0.0, 5.0, 0.5)
    frames = (near, far, seen_anew(far), near)
    seen = [advance(region_model, frame).lambda_[1:] for frame in frames]
    np.testing.assert_allclose(
        seen, [[1, 0], [0.75, 0.5], [0.5625, 0.75], [0.78125, 0.5625]], atol=1e-12
    )


def test_beads_remember_apart() -> None:
    region_model = ShellRegion(
        AtomSeeds([0]), core_radius=1.0, blend_width=0.0, hysteresis=(4.0, 4.0)
    )
    advance(region_model, frame_of(_line(0.0, 5.0).positions, np.eye(3) * 60.0, bead=0))
    other = advance(region_model, frame_of(_line(0.0, 0.5).positions, np.eye(3) * 60.0, bead=1))
    assert other.lambda_[1] == 1.0


def _criterion(**settings: object) -> ShellRegion:
    seeds = CriterionSeeds("coord/atom cutoff 2.9", low=0.5, high=3.5, **settings)  # type: ignore[arg-type]
    return ShellRegion(seeds, core_radius=1.0, blend_width=0.0)


def test_a_criterion_selects_at_the_first_evaluation() -> None:
    region_model, frame = _criterion(every=3), _line(0.0, 10.0, 20.0)
    assert region_model.next_criterion(0) == "coord/atom cutoff 2.9"
    evaluation = region_model.evaluation(frame)
    assert (evaluation.criterion, evaluation.selects) == ("coord/atom cutoff 2.9", True)
    with pytest.raises(RuntimeError, match=r"record_criterion\(\) comes before region"):
        evaluation.region()
    region = advance(region_model, frame, np.array([4.0, 3.0, 4.0]))
    np.testing.assert_array_equal(region.seeds, [1])
    for _ in range(2):
        again = seen_anew(frame)
        evaluation = region_model.evaluation(again)
        assert (evaluation.criterion, evaluation.selects) == ("", False)
        assert region_model.next_criterion(0) == ""
        with pytest.raises(RuntimeError, match="needs its values once"):
            evaluation.record_criterion(np.zeros(3))
        np.testing.assert_array_equal(advance(region_model, again).active, [1])
    assert region_model.evaluation(seen_anew(frame)).selects
    other = frame_of(frame.positions, frame.cell, bead=1)
    assert region_model.evaluation(other).selects  # another bead starts for itself


@pytest.mark.parametrize("late", [False, True], ids=["recorded before", "recorded after"])
def test_a_selection_uses_the_mean_of_its_samples(late: bool) -> None:
    region_model, frame = (
        _criterion(every=4, samples=2, sample_every=2, initial=(2,)),
        _line(0, 10, 20),
    )
    samples = {2: np.array([1.0, 0.0, 9.0]), 4: np.array([0.0, 9.0, 0.0])}
    for number in range(5):
        with region_model.evaluation(seen_anew(frame)) as evaluation:
            wanted = "coord/atom cutoff 2.9" if number in samples else ""
            assert (evaluation.criterion, evaluation.selects) == (wanted, number == 4)
            if wanted and (evaluation.selects or not late):
                evaluation.record_criterion(samples[number])
            region = evaluation.region()
            if wanted and late and not evaluation.selects:
                evaluation.record_criterion(samples[number])
            evaluation.commit()
        np.testing.assert_array_equal(region.seeds, [2] if number < 4 else [0])


def test_a_criterion_that_finds_nothing_leaves_everything_cheap() -> None:
    for region_model in (
        _criterion(),
        ShellRegion(
            CriterionSeeds("x", low=0.5), core_radius=3.0, blend_width=2.0, measure_from="core"
        ),
    ):
        region = advance(region_model, _line(0.0, 10.0, 20.0), np.zeros(3))
        assert not len(region.active)
        assert not len(region.seeds)


def test_a_restart_goes_on_where_it_stopped() -> None:
    def make() -> ShellRegion:
        return ShellRegion(
            CriterionSeeds("x", low=0.5, every=4, samples=2),
            core_radius=6.0,
            blend_width=6.0,
            hysteresis=(5.0, 5.0),
        )

    def walk(region_model: ShellRegion, start: int, stop: int) -> list[np.ndarray]:
        seen = []
        for n in range(start, stop):
            frame = _line(0.0, 2.0 + n, 9.0, 20.0)
            seen.append(advance(region_model, frame, np.array([1.0, 0.0, n / 10, 0.0])).lambda_)
        return seen

    straight = walk(make(), 0, 12)
    first, second = make(), make()
    broken = walk(first, 0, 7)
    second.restore(json.loads(json.dumps(first.state())))
    broken += walk(second, 7, 12)
    np.testing.assert_array_equal(straight, broken)


@pytest.mark.parametrize("state", [{"x": {}}, {"0": {}}, {"0": None}, []])
def test_a_wrong_state_is_refused_and_changes_nothing(state: object) -> None:
    region_model = ShellRegion(
        AtomSeeds([0]), core_radius=1.0, blend_width=1.0, hysteresis=(2.0, 2.0)
    )
    advance(region_model, silicon(1))
    before = region_model.state()
    assert before
    with pytest.raises(ConfigError):
        region_model.restore(state)  # type: ignore[arg-type]
    assert region_model.state() == before


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
    region_model = ShellRegion(AtomSeeds([0]), core_radius=1.0, blend_width=1.0, atoms=8)
    region_model.restore({"0": _SOUND})
    with pytest.raises(ConfigError):
        region_model.restore({"0": {**_SOUND, **wrong}})
    assert region_model.state() == {"0": _SOUND}


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
        ShellRegion(AtomSeeds([0]), **{**sound, **settings})  # type: ignore[arg-type]
