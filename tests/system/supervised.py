"""A supervised run as a process, and the processes below it, to be killed one by one."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

from command_line import BIN
from run_watching import until

from mixserver.core.processes import read_proc_stat
from mixserver.server.runs import run_folders


def newest(case: Path) -> Path:
    """The folder of the newest run; one that does not exist before the first."""
    return max(run_folders(case / "runs"), default=case / "none", key=lambda run: int(run.name))


def started(case: Path, steps: int) -> subprocess.Popen[str]:
    """`mixserver run CASE --supervise`, whose output goes to a file of the case."""
    with (case / "supervisor.log").open("a") as output:
        return subprocess.Popen(
            [BIN / "mixserver", "run", case, "--supervise", "--quiet", "--steps", str(steps)],
            stdout=output,
            stderr=output,
            text=True,
        )


def descendants(pid: int) -> Iterator[tuple[int, str]]:
    """(process id, command) of all below a process."""
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            parent = int(read_proc_stat(entry)[1])
            command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
        except (OSError, ValueError, IndexError):
            continue
        if parent == pid:
            yield int(entry.name), command
            yield from descendants(int(entry.name))


def kill(supervisor: subprocess.Popen[str], words: str) -> None:
    """Kill the process below the supervisor whose command has these words."""

    def found() -> list[int]:
        return [pid for pid, command in descendants(supervisor.pid) if words in command]

    until(lambda: len(found()) == 1, supervisor)
    (pid,) = found()
    assert pid > 1
    os.kill(pid, signal.SIGKILL)
