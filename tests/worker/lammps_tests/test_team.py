"""Threads share the tasks of compiled code: each once, results in order, errors to the caller."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mixserver_worker.conformance import evaluate
from mixserver_worker.engines.lammps.compiled.team import Team, shares
from mixserver_worker.engines.lammps.engine import LammpsEngine
from mixserver_worker.engines.threads import threads_of_environment
from test_compiled import ALLOY, DISTILLED, same
from test_eam_tables import crystal

from mixserver.core.errors import ConfigError

pytestmark = pytest.mark.lammps


@given(threads=st.integers(1, 4), count=st.integers(0, 40))
def test_every_task_is_done_once(threads: int, count: int) -> None:
    team, done = Team(threads), []

    def task(number: int) -> Callable[[], int]:
        return lambda: done.append(number) or number

    results, own = team.run_beside([task(k) for k in range(count)], threading.get_ident)
    team.close()
    assert results == list(range(count))
    assert sorted(done) == results
    assert own == threading.get_ident()


def test_threads_compute_at_the_same_time() -> None:
    team, meeting = Team(2), threading.Barrier(2, timeout=60.0)
    team.run_beside([meeting.wait], meeting.wait)  # alone, either waits
    team.close()


@pytest.mark.parametrize("at", ["task", "own"])
def test_an_error_reaches_the_caller_after_all_threads_have_stopped(at: str) -> None:
    team, running = Team(3), []

    def fail() -> None:
        raise ValueError("no")

    def work() -> None:
        running.append(1)
        running.pop()

    tasks = [work, fail if at == "task" else work, *[work] * 20]
    with pytest.raises(ValueError, match="no"):
        team.run_beside(tasks, fail if at == "own" else work)
    assert not running
    assert team.run([lambda: 1]) == [1]
    team.close()


@given(low=st.integers(0, 50), size=st.integers(0, 100), count=st.integers(1, 9))
def test_shares_are_equal_but_for_one(low: int, size: int, count: int) -> None:
    sizes = np.diff(shares(low, low + size, count))
    assert sizes.sum() == size
    assert sizes.max() - sizes.min() <= 1


@pytest.mark.parametrize("text", [DISTILLED.read_text(), ALLOY], ids=["silicon", "alloy"])
def test_any_number_of_threads_gives_the_same(
    engine: Callable[..., LammpsEngine], distilled: Path, text: str
) -> None:
    one, three = (
        engine(text, folder=distilled, kernels="compiled", threads=threads) for threads in (1, 3)
    )
    system = crystal(one, copies=3)
    n, dice = len(system.positions), np.random.default_rng(4)
    system = replace(system, positions=system.positions[dice.permutation(n)])
    for weight in (None, np.where(dice.random(n) < 0.4, 0.0, dice.random(n))):
        for _ in range(3):
            system = replace(system, positions=system.positions + dice.normal(0.0, 0.2, (n, 3)))
            got = evaluate(three, system, weight=weight)
            same(got, evaluate(one, system, weight=weight), 1e-12)
            # the same list, the same bits, whichever thread does what (LAMMPS wraps some atoms
            # in the first two)
            _, again, once_more = (evaluate(three, system, weight=weight) for _ in range(3))
            assert np.array_equal(once_more.forces, again.forces)
            assert np.array_equal(once_more.virial, again.virial)


def test_pairs_closer_than_the_tables_with_threads(engine: Callable[..., LammpsEngine]) -> None:
    one, two = (engine(ALLOY, kernels="compiled", threads=threads) for threads in (1, 2))
    system = crystal(one, copies=3)
    weight = np.full(len(system.positions), 0.5)
    close = system.positions.copy()
    close[1] = close[0] + [0.3, 0.1, 0.0]
    near = replace(system, positions=close)
    same(evaluate(two, near, weight=weight), evaluate(one, near, weight=weight), 1e-12)


def test_fewer_than_one_thread_is_refused(engine: Callable[..., LammpsEngine]) -> None:
    with pytest.raises(ConfigError, match="threads must be 1 or more, got 0"):
        engine(ALLOY, threads=0)


@pytest.mark.parametrize(
    ("text", "threads"), [(None, 1), ("", 1), ("3", 3), ("4,2", 4), ("0", 1), ("many", 1)]
)
def test_threads_of_the_environment(
    text: str | None, threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    if text is not None:
        monkeypatch.setenv("OMP_NUM_THREADS", text)
    assert threads_of_environment() == threads
