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

from mixserver.errors import ConfigError
from mixserver.frame import Frame
from mixserver.region import AtomSeeds, CriterionSeeds, Region, Selector
from mixserver.region.memory import arrive, follow

ATOMS = 12


def _selector(hysteresis: tuple[float, float] | None = None, **settings: Any) -> Selector:
    return Selector(
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


def _ask(selector: Selector, frame: Frame, values: np.ndarray) -> Region:
    """An evaluation up to its answer."""
    selector.begin(frame)
    due = selector.due(frame.bead)
    if due.choose:
        selector.observe(frame.bead, values)
    region = selector.select(frame)
    if due.criterion and not due.choose:
        selector.observe(frame.bead, values)
    return region


def _work(region: Region) -> float:
    """Some energy jump that only depends on how lambda changed; 0.0 where it did not."""
    if region.before is None:
        return 0.0
    return float((region.expensive - region.before) @ np.linspace(0.3, 1.7, ATOMS))


def _walk(selector: Selector, start: int, stop: int, bead: int = 0) -> list[Region]:
    regions = []
    for n in range(start, stop):
        frame = _frame(n, bead)
        regions.append(_ask(selector, frame, _values(n, bead)))
        selector.done(frame, _work(regions[-1]))
    return regions


def test_atoms_that_move_keep_their_lambda_until_the_next_choice() -> None:
    free = Selector(CriterionSeeds("x", low=0.5, every=4), core_radius=1.0, blend_width=4.0)
    regions = _walk(_selector(), 0, 12)
    moving = _walk(free, 0, 12)
    for n, region in enumerate(regions):
        np.testing.assert_array_equal(region.expensive, moving[n - n % 4].expensive)
        np.testing.assert_array_equal(region.seeds, moving[n].seeds)
        if n % 4 == 0 and n > 0:
            np.testing.assert_array_equal(region.before, regions[n - 1].expensive)
        else:
            assert region.before is None
    assert any((a.expensive != b.expensive).any() for a, b in zip(regions, moving, strict=True))


def test_a_choice_that_changes_nothing_is_no_jump() -> None:
    selector, frame = _selector(every=1), _frame(0)
    for _ in range(3):
        region = _ask(selector, Frame(frame.topology, frame.positions, frame.cell), _values(0))
        assert region.before is None


def test_initial_seeds_are_aimed_at_from_the_first_frame() -> None:
    regions = _walk(_selector(initial=(3,)), 0, 5)
    wanted = Selector(AtomSeeds([3]), core_radius=1.0, blend_width=4.0).select(_frame(0))
    for region in regions[:4]:
        np.testing.assert_array_equal(region.expensive, wanted.expensive)
        np.testing.assert_array_equal(region.seeds, [3])
        assert region.before is None
    np.testing.assert_array_equal(regions[4].before, wanted.expensive)


def test_lambda_ramps_towards_what_was_chosen() -> None:
    targets = [region.expensive for region in _walk(_selector(), 0, 12)]
    regions = _walk(_selector((2.0, 3.0)), 0, 12)
    share = targets[0]
    np.testing.assert_array_equal(regions[0].expensive, share)
    assert regions[0].before is None
    for region, target in zip(regions[1:], targets[1:], strict=True):
        before, share = share, arrive(follow(share, target, 2.0, 3.0), target)
        np.testing.assert_array_equal(region.expensive, share)
        if (share == before).all():
            assert region.before is None
        else:
            np.testing.assert_array_equal(region.before, before)
    assert sum(region.before is not None for region in regions) == 8  # all after the second choice


def test_a_ramp_comes_to_rest() -> None:
    targets = [region.expensive for region in _walk(_selector(every=60), 0, 120)]
    regions = _walk(_selector((5.0, 9.0), every=60), 0, 120)
    jumping = [n for n, region in enumerate(regions) if region.before is not None]
    assert jumping == list(range(60, jumping[-1] + 1))
    assert 15 < len(jumping) < 45  # 0.8**20 = 0.01, (8/9)**39 = 0.01
    np.testing.assert_array_equal(regions[-1].expensive, targets[-1])
    for before, after in itertools.pairwise(regions[60:]):
        left = np.abs(after.expensive - targets[-1])
        assert (left <= np.abs(before.expensive - targets[-1])).all()


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
            _ask(troubled, _frame(n), _values(n))  # no answer: i-PI asks once more
        if event == "again":
            before = troubled.work(0)
            region = _ask(troubled, frame, _values(n))
            troubled.done(frame, _work(region))
            troubled.done(frame, _work(region))  # said twice
            frame = _frame(n)  # the answer got lost on its way
        region = _ask(troubled, frame, _values(n))
        np.testing.assert_array_equal(region.expensive, wanted.expensive)
        assert (region.before is None) == (wanted.before is None)
        if event == "again":
            assert troubled.work(0) == before
        troubled.done(frame, _work(region))
        assert troubled.work(0) == straight.work(0)
    assert troubled.state() == straight.state()


def test_work_is_summed_per_bead_over_a_restart() -> None:
    straight = _selector((3.0, 3.0))
    sums = {bead: sum(map(_work, _walk(straight, 0, 11, bead))) for bead in (0, 2)}
    assert sums[0] != sums[2]
    first, second = _selector((3.0, 3.0)), _selector((3.0, 3.0))
    for bead in sums:
        _walk(first, 0, 6, bead)
        _ask(first, _frame(6, bead), _values(6, bead))  # unanswered: must not be in the state
    second.restore(json.loads(json.dumps(first.state())))
    for bead, total in sums.items():
        _walk(second, 6, 11, bead)
        assert second.work(bead) == pytest.approx(total, abs=1e-14)
        assert second.work(bead) == straight.work(bead)
    assert second.state() == straight.state()
    assert second.work(1) == 0.0
    assert "1" not in second.state()  # asking makes no bead


def test_a_state_from_before_lambda_could_be_held_is_taken_up() -> None:
    """Lambda goes on from where it was, towards what is now around the seeds of the last choice."""
    old = Selector(
        CriterionSeeds("x", low=0.5, every=4),
        core_radius=1.0,
        blend_width=4.0,
        hysteresis=(2.0, 2.0),
    )
    last = _walk(old, 0, 3)[-1]
    state = old.state()
    for key in ("target", "targeted", "work"):
        del state["0"][key]
    selector = _selector((2.0, 2.0))
    selector.restore(state)
    assert selector.work(0) == 0.0
    (region,) = _walk(selector, 3, 4)
    np.testing.assert_array_equal(region.before, last.expensive)
    target = Selector(AtomSeeds(last.seeds), core_radius=1.0, blend_width=4.0).select(_frame(3))
    wanted = arrive(follow(last.expensive, target.expensive, 2.0, 2.0), target.expensive)
    np.testing.assert_array_equal(region.expensive, wanted)


def test_lambda_that_is_not_held_jumps_nowhere() -> None:
    selector = Selector(
        CriterionSeeds("x", low=0.5), core_radius=1.0, blend_width=4.0, hysteresis=(2.0, 2.0)
    )
    assert all(region.before is None for region in _walk(selector, 0, 4))


def test_only_a_criterion_is_held() -> None:
    with pytest.raises(ConfigError, match="criterion"):
        Selector(AtomSeeds([0]), core_radius=1.0, blend_width=1.0, held=True)
