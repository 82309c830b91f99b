"""Threads that share tasks: compiled code releases Python's lock, so they compute side by side."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final, TypeVar

import numpy as np

from mixserver.core.arrays import Indices

_TASKS: Final = 2
"""Of each thread, so that one that was held up leaves some to the others."""
T = TypeVar("T")
S = TypeVar("S")


class Team:
    """The calling thread and others.

    Args:
        threads: in all, at least 1. Results do not depend on which thread did what, but sums are in
            another order for another number of threads.
    """

    def __init__(self, threads: int = 1) -> None:
        self.tasks = 1 if threads == 1 else _TASKS * threads
        """How many tasks to divide work into."""
        self._others = threads - 1
        self._pool = ThreadPoolExecutor(self._others, "team") if self._others else None

    def run(self, tasks: Sequence[Callable[[], T]]) -> list[T]:
        """Do some tasks; their results in the same order."""
        return self.run_beside(tasks, lambda: None)[0]

    def run_beside(
        self, tasks: Sequence[Callable[[], T]], own: Callable[[], S]
    ) -> tuple[list[T], S]:
        """Do some tasks, and one that this thread must do itself, which it begins with."""
        left = deque(enumerate(tasks))
        done: dict[int, T] = {}

        def work() -> None:
            while left:
                try:
                    at, task = left.popleft()
                except IndexError:  # another thread took the last one
                    return
                done[at] = task()

        helping = [
            self._pool.submit(work) for _ in range(min(self._others, len(tasks))) if self._pool
        ]
        try:
            mine = own()
            work()
        finally:
            left.clear()
            for one in helping:
                one.exception()  # waits
        for one in helping:
            one.result()
        return [done[at] for at in range(len(tasks))], mine

    def close(self) -> None:
        """End the other threads."""
        if self._pool is not None:
            self._pool.shutdown()


def shares(low: int, high: int, count: int) -> Indices:
    """(count + 1,) bounds of almost equal parts of a range."""
    return low + (high - low) * np.arange(count + 1) // count
