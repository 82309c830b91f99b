"""When a worker that got a signal leaves: after its job, or at once.

Bookkeeping only; the link does the sending.
"""

from __future__ import annotations

import os
from typing import Final

_SAME_S: Final = 1.0
"""Signals within this time are one: mpiexec and process groups deliver the same one twice."""


class Leaving:
    """Whether and how a worker leaves."""

    def __init__(self) -> None:
        self.signal = ""
        """The name of the first signal; "" while the worker stays."""
        self.at_once = False
        """Whether it leaves without finishing its job."""
        self._parent = os.getppid()
        self._since = 0.0

    def signalled(self, name: str, now: float) -> None:
        """A signal came.

        The first lets the job be finished, unless the process that started this worker is dead:
        then it is the kernel that sent it. The second does not.
        """
        if not self.signal:
            self.signal, self._since = name, now
            self.at_once = os.getppid() != self._parent
        elif now - self._since > _SAME_S:
            self.at_once = True

    def due(self, *, idle: bool, joined: bool) -> bool:
        """Whether to say goodbye now. Without a server there is no job to finish."""
        return bool(self.signal) and (self.at_once or idle or not joined)
