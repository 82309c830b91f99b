"""Processor time of running processes, all threads and children, from Linux's /proc.

On a machine with other work it tells more than the wall time: a process that waits for a core uses
none.
"""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Final, NamedTuple

from mixserver.core.processes import read_proc_stat

_PROC: Final = Path("/proc")
_RENEW: Final = 16
"""Readings after which the children are looked up again."""


class Spent(NamedTuple):
    """What one evaluation took, seconds."""

    wall: float
    processor: float | None
    """Of all threads and processes together; None if it is not known or has no meaning."""


class ProcessorClock:
    """Processor time that a process and all that it started have used so far.

    Args:
        pid: the process.
    """

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._readings = 0
        self._family: list[int] = []

    def read(self) -> float | None:
        """Seconds; differences count, because what has ended is not in it. None if unknown."""
        if self._readings % _RENEW == 0:
            self._family = family(self._pid)
        self._readings += 1
        nanoseconds, known = 0, False
        for pid in self._family:
            for thread in (_PROC / str(pid)).glob("task/*/schedstat"):
                with contextlib.suppress(OSError, ValueError, IndexError):
                    nanoseconds += int(thread.read_text(encoding="ascii").split()[0])
                    known = True
        return 1e-9 * nanoseconds if known else None


def family(pid: int) -> list[int]:
    """A process, its children, their children and so on; empty where there is no /proc."""
    children: dict[int, list[int]] = {}
    for entry in _PROC.glob("[0-9]*"):
        with contextlib.suppress(OSError, ValueError, IndexError):
            children.setdefault(int(read_proc_stat(entry)[1]), []).append(int(entry.name))
    found = [pid] if (_PROC / str(pid)).exists() else []
    for one in found:  # grows meanwhile
        found += children.get(one, [])
    return found


def spent(wall: float, before: float | None, after: float | None) -> Spent:
    """What an evaluation took, from two readings of a clock."""
    return Spent(wall, None if before is None or after is None else max(0.0, after - before))
