"""Processes whose results were wrong: they get no more jobs, a new process may."""

from __future__ import annotations

from typing import Final

from mixserver.dispatch.scheduling.events import WorkerJoined

_REMEMBERED: Final = 1000
"""Processes; the oldest is forgotten first."""


class Quarantine:
    """Remembers processes, each with what was wrong with it."""

    def __init__(self) -> None:
        self._reasons: dict[str, str] = {}

    def add(self, process: str, reason: str) -> None:
        """A process returned a wrong result; one that is not known cannot be remembered."""
        if process:
            self._reasons[process] = reason
            if len(self._reasons) > _REMEMBERED:
                del self._reasons[next(iter(self._reasons))]

    def error(self, joined: WorkerJoined) -> str:
        """Why a worker cannot join again; "" if it may."""
        reason = self._reasons.get(joined.process)
        if reason is None:
            return ""
        return (
            f"worker {joined.worker} was dropped ({reason}), so its process "
            f"{process_label(joined.process)} gets no more jobs; start a new one"
        )


def process_label(process: str) -> str:
    """The HOST:PID of a process for messages, without the time of its start."""
    return process.partition("@")[0] or "unknown"
