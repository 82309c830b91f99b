"""Run a program that gets SIGTERM when its parent dies: `-m mixserver.core.die_with_parent`.

A run that is killed outright (out of memory, SIGKILL) cannot end its children, so the kernel does:
i-PI then writes its RESTART, and workers shut down cleanly. On Linux only; elsewhere the program
just runs.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from typing import Final

_PR_SET_PDEATHSIG: Final = 1
_PARENT: Final = "MIXSERVER_PARENT"


def main(command: list[str]) -> None:
    """Become `command`, tied to the process whose id the environment names."""
    parent = int(os.environ.pop(_PARENT, "0"))
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        if parent and os.getppid() != parent:  # it died before the signal was requested
            sys.exit(f"{command[0]} was not started: its parent process has died")
    try:
        os.execvp(command[0], command)  # noqa: S606 - no shell is wanted
    except OSError as error:
        sys.exit(f"{command[0]} cannot be started: {error.strerror}")


if __name__ == "__main__":
    main(sys.argv[1:])
