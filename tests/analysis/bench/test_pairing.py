"""Contestants are measured in turn, and rows compare what was measured together."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pytest

from mixserver.analysis.bench.pairing import FEWEST, Board, Effort, make_row, measure_in_turn
from mixserver.analysis.bench.processor_time import Spent
from mixserver.core.errors import WorkerFault


@dataclass
class Scripted:
    """Takes the times it was given, and fails after them."""

    name: str
    took: list[float]
    diary: list[tuple[str, int]]
    model: str = "m"
    asked: int = field(default=0)

    async def measure(self, frame: int) -> Spent:
        self.diary.append((self.name, frame))
        if self.asked == len(self.took):
            raise WorkerFault(f"{self.name} is\nout of times")
        self.asked += 1
        return Spent(self.took[self.asked - 1], 0.5 * self.took[self.asked - 1])


async def test_every_round_has_one_frame_for_all_and_the_first_one_changes() -> None:
    diary: list[tuple[str, int]] = []
    some = [Scripted(name, [1.0] * 9, diary) for name in "abc"]
    times = await measure_in_turn(some, Board(Effort(pairs=3, warm_up=1)), "w")
    assert {name: len(taken) for name, taken in times.items()} == {"a": 3, "b": 3, "c": 3}
    rounds = [diary[3 * at : 3 * at + 3] for at in range(4)]
    assert all(sorted(name for name, _ in one) == ["a", "b", "c"] for one in rounds)
    assert all({frame for _, frame in one} == {at} for at, one in enumerate(rounds))
    assert [one[0][0] for one in rounds] == ["a", "b", "c", "a"]


async def test_one_that_fails_is_left_out_in_words_and_the_others_go_on() -> None:
    diary: list[tuple[str, int]] = []
    board = Board(Effort(pairs=4, warm_up=1))
    good, bad = Scripted("good", [1.0] * 9, diary), Scripted("bad", [1.0] * 3, diary)
    times = await measure_in_turn([bad, good], board, "w")
    assert list(times) == ["good"]
    assert len(times["good"]) == 4
    (out,) = board.left_out
    assert (out.name, out.reason) == ("bad, w", "bad is out of times")


async def test_a_limit_leaves_the_fewest_pairs() -> None:
    board = Board(Effort(pairs=50, warm_up=0, limit_s=0.0))
    times = await measure_in_turn([Scripted("a", [1.0] * 60, [])], board, "w")
    assert len(times["a"]) == FEWEST


def test_a_ratio_is_the_median_of_pairs_and_not_that_of_medians() -> None:
    fast, slow = Scripted("fast", [], []), Scripted("slow", [], [])
    # the machine became four times slower in the middle: every pair still says 2
    wall = np.array([1.0, 1.0, 4.0, 4.0])
    times = {
        "fast": np.stack([wall, np.ones(4)], axis=1),
        "slow": np.stack([2.0 * wall, np.full(4, 3.0)], axis=1),
    }
    where = {"suite": "s", "system": "x", "command": "c"}
    row = make_row(fast, slow, times, atoms=2, sites=1, **where)  # type: ignore[arg-type]
    assert row.ratio == 2.0
    assert row.ratio_quartiles == (2.0, 2.0)
    assert row.ratio_of_fastest == 2.0
    assert row.ratio_of_processor_time == 3.0
    assert row.pairs == 4
    assert row.fast.ms == pytest.approx(2500.0)
    assert row.slow.ms_fastest == pytest.approx(2000.0)
