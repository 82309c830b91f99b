"""Lambda that is held between a criterion's choices, and the work its updates do."""

from __future__ import annotations

import itertools
import json
from typing import Any

import numpy as np
import pytest
from cells import frame_of
from hypothesis import given
from hypothesis import strategies as st
from region_models import advance, divide

from mixserver.core.errors import ConfigError, NoAnswer
from mixserver.core.frame import Frame
from mixserver.region import AtomSeeds, CriterionSeeds, Region, ShellRegion
from mixserver.region.hysteresis import arrive, follow

ATOMS = 12


def _selector(hysteresis: tuple[float, float] | None = None, **settings: Any) -> ShellRegion:
    return ShellRegion(
        CriterionSeeds("x", low=0.5, **{"every": 4, **settings}),
        core_radius=1.0,
        blend_width=4.0,
        hysteresis=hysteresis,
        held=True,
        atoms=ATOMS,
    )


def _frame(n: int, bead: int = 0) -> Frame:
    rng = np.random.default_rng([n, bead])
    return frame_of(rng.uniform(0.0, 9.0, (ATOMS, 3)), np.eye(3) * 9.0, bead=bead)


def _values(n: int, bead: int = 0) -> np.ndarray:
    return (np.arange(ATOMS) == (5 * n + bead) % ATOMS).astype(float)


def _begin(region_model: ShellRegion, frame: Frame, values: np.ndarray) -> tuple[Any, Region]:
    """An evaluation that is not committed yet, and its region."""
    evaluation = region_model.evaluation(frame)
    if evaluation.selects:
        evaluation.record_criterion(values)
    region = evaluation.region()
    if evaluation.criterion and not evaluation.selects:
        evaluation.record_criterion(values)
    return evaluation, region


def _lambda_work(region_model: ShellRegion, bead: int = 0) -> float:
    """The committed work, in eV."""
    return region_model.bead(bead).work


def _work(region: Region) -> float:
    """Some energy jump that only depends on how lambda changed; 0.0 where it did not."""
    if region.before is None:
        return 0.0
    return float((region.lambda_ - region.before) @ np.linspace(0.3, 1.7, ATOMS))


def _walk(region_model: ShellRegion, start: int, stop: int, bead: int = 0) -> list[Region]:
    regions = []
    for n in range(start, stop):
        frame = _frame(n, bead)
        regions.append(advance(region_model, frame, _values(n, bead), _work))
    return regions


def test_atoms_that_move_keep_their_lambda_until_the_next_choice() -> None:
    free = ShellRegion(CriterionSeeds("x", low=0.5, every=4), core_radius=1.0, blend_width=4.0)
    regions = _walk(_selector(), 0, 12)
    moving = _walk(free, 0, 12)
    for n, region in enumerate(regions):
        np.testing.assert_array_equal(region.lambda_, moving[n - n % 4].lambda_)
        np.testing.assert_array_equal(region.seeds, moving[n].seeds)
        if n % 4 == 0 and n > 0:
            np.testing.assert_array_equal(region.before, regions[n - 1].lambda_)
        else:
            assert region.before is None
    assert any((a.lambda_ != b.lambda_).any() for a, b in zip(regions, moving, strict=True))


def test_a_choice_that_changes_nothing_is_no_jump() -> None:
    region_model, frame = _selector(every=1), _frame(0)
    outside = advance(region_model, frame, _values(0)).lambda_ == 0.0
    assert outside.any()
    for n in range(1, 4):
        positions = frame.positions + 1e-3 * n * outside[:, None]
        region = advance(region_model, frame_of(positions, frame.cell), _values(0))
        assert region.before is None
    assert region_model.bead(0).evaluations == 4


def test_initial_seeds_are_aimed_at_from_the_first_frame() -> None:
    regions = _walk(_selector(initial=(3,)), 0, 5)
    wanted = divide(ShellRegion(AtomSeeds([3]), core_radius=1.0, blend_width=4.0), _frame(0))
    for region in regions[:4]:
        np.testing.assert_array_equal(region.lambda_, wanted.lambda_)
        np.testing.assert_array_equal(region.seeds, [3])
        assert region.before is None
    np.testing.assert_array_equal(regions[4].before, wanted.lambda_)


def test_lambda_ramps_towards_what_was_chosen() -> None:
    targets = [region.lambda_ for region in _walk(_selector(), 0, 12)]
    regions = _walk(_selector((2.0, 3.0)), 0, 12)
    share = targets[0]
    np.testing.assert_array_equal(regions[0].lambda_, share)
    assert regions[0].before is None
    for region, target in zip(regions[1:], targets[1:], strict=True):
        before, share = share, arrive(follow(share, target, 2.0, 3.0), target)
        np.testing.assert_array_equal(region.lambda_, share)
        if (share == before).all():
            assert region.before is None
        else:
            np.testing.assert_array_equal(region.before, before)
    assert sum(region.before is not None for region in regions) == 8  # all after the second choice


def test_a_ramp_comes_to_rest() -> None:
    targets = [region.lambda_ for region in _walk(_selector(every=60), 0, 120)]
    regions = _walk(_selector((5.0, 9.0), every=60), 0, 120)
    jumping = [n for n, region in enumerate(regions) if region.before is not None]
    assert jumping == list(range(60, jumping[-1] + 1))
    assert 15 < len(jumping) < 45  # 0.8**20 = 0.01, (8/9)**39 = 0.01
    np.testing.assert_array_equal(regions[-1].lambda_, targets[-1])
    for before, after in itertools.pairwise(regions[60:]):
        left = np.abs(after.lambda_ - targets[-1])
        assert (left <= np.abs(before.lambda_ - targets[-1])).all()


@given(
    st.lists(st.sampled_from(["answered", "lost", "again"]), min_size=1, max_size=14),
    st.sampled_from([None, (2.0, 3.0)]),
    st.sampled_from([1, 2, 3]),
)
def test_asking_again_counts_nothing_twice(
    story: list[str], hysteresis: tuple[float, float] | None, every: int
) -> None:
    straight, troubled = (_selector(hysteresis, every=every) for _ in range(2))
    for n, event in enumerate(story):
        (wanted,) = _walk(straight, n, n + 1)
        frame = _frame(n)
        if event == "lost":
            _begin(troubled, _frame(n), _values(n))  # never committed: i-PI sends it once more
        if event == "again":
            before = _lambda_work(troubled)
            advance(troubled, frame, _values(n), _work)
            frame = _frame(n)  # the reply was lost on its way
        evaluation, region = _begin(troubled, frame, _values(n))
        np.testing.assert_array_equal(region.lambda_, wanted.lambda_)
        assert (region.before is None) == (wanted.before is None)
        if event == "again":
            assert _lambda_work(troubled) == before
        evaluation.commit(_work(region))
        with pytest.raises(RuntimeError, match="twice"):
            evaluation.commit(_work(region))
        assert _lambda_work(troubled) == evaluation.work == _lambda_work(straight)
    assert troubled.state() == straight.state()


def test_work_is_summed_per_bead_over_a_restart() -> None:
    straight = _selector((3.0, 3.0))
    sums = {bead: sum(map(_work, _walk(straight, 0, 11, bead))) for bead in (0, 2)}
    assert sums[0] != sums[2]
    first, second = _selector((3.0, 3.0)), _selector((3.0, 3.0))
    for bead in sums:
        _walk(first, 0, 6, bead)
        _begin(first, _frame(6, bead), _values(6, bead))  # uncommitted: must not be in the state
    second.restore(json.loads(json.dumps(first.state())))
    for bead, total in sums.items():
        _walk(second, 6, 11, bead)
        assert _lambda_work(second, bead) == pytest.approx(total, abs=1e-14)
        assert _lambda_work(second, bead) == _lambda_work(straight, bead)
    assert second.state() == straight.state()
    assert _lambda_work(second, 1) == 0.0
    assert "1" not in second.state()  # asking makes no bead


def test_a_state_from_before_lambda_could_be_held_is_taken_up() -> None:
    """Lambda goes on from where it was, towards what is now around the seeds of the last choice."""
    old = ShellRegion(
        CriterionSeeds("x", low=0.5, every=4),
        core_radius=1.0,
        blend_width=4.0,
        hysteresis=(2.0, 2.0),
    )
    last = _walk(old, 0, 3)[-1]
    state = old.state()
    for key in ("target", "targeted", "work"):
        del state["0"][key]
    region_model = _selector((2.0, 2.0))
    region_model.restore(state)
    assert _lambda_work(region_model) == 0.0
    (region,) = _walk(region_model, 3, 4)
    np.testing.assert_array_equal(region.before, last.lambda_)
    target = divide(ShellRegion(AtomSeeds(last.seeds), core_radius=1.0, blend_width=4.0), _frame(3))
    wanted = arrive(follow(last.lambda_, target.lambda_, 2.0, 2.0), target.lambda_)
    np.testing.assert_array_equal(region.lambda_, wanted)


def test_lambda_that_is_not_held_jumps_nowhere() -> None:
    region_model = ShellRegion(
        CriterionSeeds("x", low=0.5), core_radius=1.0, blend_width=4.0, hysteresis=(2.0, 2.0)
    )
    assert all(region.before is None for region in _walk(region_model, 0, 4))


def test_only_a_criterion_is_held() -> None:
    with pytest.raises(ConfigError, match="criterion"):
        ShellRegion(AtomSeeds([0]), core_radius=1.0, blend_width=1.0, held=True)


def test_what_is_begun_ends_once_in_a_commit() -> None:
    region_model, frame = _selector(every=1), _frame(0)
    with pytest.raises(RuntimeError, match="left without commit"), region_model.evaluation(frame):
        pass
    evaluation = region_model.evaluation(frame)
    with pytest.raises(RuntimeError, match="before the frame was divided"):
        evaluation.commit()
    with pytest.raises(RuntimeError, match="values are missing"):
        evaluation.region()
    older, _ = _begin(region_model, frame, _values(0))
    newer, _ = _begin(region_model, _frame(1), _values(1))
    with pytest.raises(NoAnswer, match="begun before this one ended"):
        older.commit()
    newer.commit()
    assert region_model.state()["0"]["evaluations"] == 1
    with pytest.raises(RuntimeError, match="once"):
        newer.record_criterion(_values(1))
    with pytest.raises(RuntimeError, match="divided once"):
        newer.region()
