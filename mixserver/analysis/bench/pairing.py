"""Measures several contestants in turn on the same frames, and makes ratios of their times.

In every round each contestant evaluates the same frame once, in an order that rotates from round to
round: slow changes of the machine's speed meet all of them alike, and a ratio of one round compares
times that are seconds apart.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

from mixserver.analysis.bench.machine import load
from mixserver.analysis.bench.processor_time import Spent
from mixserver.analysis.bench.report import LeftOut, Row, Side
from mixserver.core.errors import MixserverError

FEWEST: Final = 3
"""Pairs that are measured however long they take."""
Times = NDArray[np.float64]
"""(rounds, 2) seconds: wall time and processor time, which is nan where it is not known."""


class Contestant(Protocol):
    """A way of computing forces."""

    @property
    def name(self) -> str:
        """Which engine or program, and how; no other contestant of a measurement has it."""

    @property
    def model(self) -> str:
        """Which model."""

    async def measure(self, frame: int) -> Spent:
        """Evaluate a frame of the workload; what it took.

        Raises:
            MixserverError: it could not be evaluated.
        """


@dataclass(frozen=True, slots=True)
class Block:
    """A contestant whose times are means of some frames, beside one that runs blocks of steps."""

    one: Contestant
    frames: int

    @property
    def name(self) -> str:
        """As of the contestant."""
        return self.one.name

    @property
    def model(self) -> str:
        """As of the contestant."""
        return self.one.model

    async def measure(self, frame: int) -> Spent:
        """Evaluate a block of frames; what one took."""
        first = frame * self.frames
        all_ = [await self.one.measure(first + at) for at in range(self.frames)]
        busy = [one.processor for one in all_ if one.processor is not None]
        wall = sum(one.wall for one in all_) / self.frames
        return Spent(wall, sum(busy) / self.frames if len(busy) == self.frames else None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Effort:
    """How much is measured."""

    pairs: int = 7
    warm_up: int = 2
    """Rounds that do not count: buffers, neighbour lists, compilers."""
    limit_s: float = 120.0
    """After so long, and `FEWEST` pairs, a measurement ends."""
    processor_times: bool = True
    """False where a GPU computes: processor time is then that of waiting."""


@dataclass(slots=True)
class Board:
    """Where a suite puts rows and what it leaves out, and shows how far it is."""

    effort: Effort
    on_row: Callable[[Row], None] = lambda row: None
    on_progress: Callable[[str, int, int], None] = lambda what, done, total: None
    rows: list[Row] = field(default_factory=list)
    left_out: list[LeftOut] = field(default_factory=list)

    def add(self, row: Row) -> None:
        """Add a row."""
        self.rows.append(row)
        self.on_row(row)

    def without_processor_times(self) -> None:
        """Measure no processor times, because a GPU computes."""
        self.effort = replace(self.effort, processor_times=False)

    def leave_out(self, name: str, reason: object) -> None:
        """Note what could not be measured; the same only once."""
        one = LeftOut(name, " ".join(str(reason).split()))
        if one not in self.left_out:
            self.left_out.append(one)


async def measure_in_turn(
    contestants: Sequence[Contestant], board: Board, what: str
) -> dict[str, Times]:
    """Measure contestants in turn.

    One that fails is left out, with its reason on the board, and the others go on.

    Args:
        contestants: with different names.
        board: how much to measure; shows progress.
        what: for the progress.

    Returns:
        What each took by name, round by round; without those that failed.
    """
    effort = board.effort
    times: dict[str, list[tuple[float, float]]] = {one.name: [] for one in contestants}
    alive = list(contestants)
    total = effort.warm_up + effort.pairs
    until = time.monotonic() + effort.limit_s
    for turn in range(total):
        board.on_progress(what, turn, total)
        counted = turn - effort.warm_up
        if counted >= FEWEST and time.monotonic() > until:
            break
        at = turn % max(1, len(alive))
        for one in alive[at:] + alive[:at]:
            try:
                took = await one.measure(turn)
            except MixserverError as error:
                board.leave_out(f"{one.name}, {what}", error)
                alive.remove(one)
                del times[one.name]
            else:
                if counted >= 0:
                    busy = took.processor if effort.processor_times else None
                    times[one.name].append((took.wall, np.nan if busy is None else busy))
    board.on_progress(what, total, total)
    return {name: np.array(some).reshape(-1, 2) for name, some in times.items()}


def make_row(
    fast: Contestant,
    slow: Contestant,
    times: dict[str, Times],
    *,
    suite: str,
    system: str,
    atoms: int,
    sites: int,
    command: str,
    details: dict[str, float] | None = None,
) -> Row:
    """The row of two contestants that were measured in turn."""
    (a, a_busy), (b, b_busy) = times[fast.name].T, times[slow.name].T
    ratios = b / a
    known = np.isfinite(a_busy).all() and np.isfinite(b_busy).all() and (a_busy > 0.0).all()
    return Row(
        suite=suite,
        system=system,
        atoms=atoms,
        sites=sites,
        fast=_side(fast, times[fast.name]),
        slow=_side(slow, times[slow.name]),
        pairs=len(ratios),
        ratio=float(np.median(ratios)),
        ratio_quartiles=_quartiles(ratios),
        ratio_of_fastest=float(b.min() / a.min()),
        ratio_of_processor_time=float(np.median(b_busy / a_busy)) if known else None,
        load=load(),
        command=command,
        details=details or {},
    )


def _side(one: Contestant, times: Times) -> Side:
    ms, busy = 1e3 * times.T
    return Side(
        name=one.name,
        model=one.model,
        ms=float(np.median(ms)),
        ms_quartiles=_quartiles(ms),
        ms_fastest=float(ms.min()),
        ms_processor=float(np.median(busy)) if np.isfinite(busy).all() else None,
    )


def _quartiles(values: NDArray[np.float64]) -> tuple[float, float]:
    low, high = np.percentile(values, [25.0, 75.0])
    return float(low), float(high)
