"""Child processes: started in sessions of their own, logged, and ended reliably.

A process that is ended takes all that it started with it, and its log is quoted in errors.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Final

import structlog

from mixserver.core.environment import without_batch, without_rank
from mixserver.core.errors import ConfigError
from mixserver.core.limits import CURES
from mixserver.core.shared_memory import SHARED

log = structlog.get_logger(__name__)

_LEAVE_S: Final = 2.0
"""Time for the remaining processes of a session: i-PI's helpers clean up after it."""
_DIE_S: Final = 30.0
"""The same after SIGKILL, on a busy machine or a slow disk."""
_ROUTINE: Final = re.compile(r"^\d{4}-\d\d-\d\d \S+ \S+ (\(\S+\) is looking for|joined) \S+$")
"""Lines of every worker's log, which tell nothing of its end."""
_LINES_OF_REMOVED_LOG: Final = 8
"""Lines quoted of a log that is removed, enough to do without the file."""


def environment_program(program: str) -> str:
    """Path of a program in this Python's environment; its bare name if it is not there."""
    here = Path(sys.executable).with_name(program)
    return str(here) if here.exists() else program


class ManagedProcess:
    """One process, in a session of its own so that Ctrl-C in the terminal does not reach it.

    A thread waits for its end and kills what it leaves behind before the process is reaped:
    afterwards its id may be that of another process.
    """

    def __init__(
        self,
        name: str,
        process: subprocess.Popen[bytes],
        log_file: Path | None,
        *,
        log_stays: bool = True,
    ) -> None:
        self.name = name
        self.log_file = log_file
        self._log_stays = log_stays
        self._process = process
        self._lock = threading.Lock()
        """Held while a signal is sent or the process is reaped."""
        self._reaped = False
        loop = asyncio.get_running_loop()
        self._code: asyncio.Future[int] = loop.create_future()
        self._cleared = asyncio.Event()
        threading.Thread(
            target=self._watch, args=(loop,), name=f"end of {name}", daemon=True
        ).start()

    @property
    def pid(self) -> int:
        """Process id."""
        return self._process.pid

    @property
    def returncode(self) -> int | None:
        """None while it runs."""
        return self._code.result() if self._code.done() else None

    async def wait(self) -> int:
        """Wait for its end; the exit status, negative for a signal."""
        return await asyncio.shield(self._code)

    def terminate(self) -> None:
        """Send SIGTERM to it and to the processes that it started."""
        self._signal(signal.SIGTERM)

    async def end(
        self, grace_s: float, *, again_s: float | None = None, harmless: bool = False
    ) -> int:
        """Send SIGTERM, and kill the whole session if it has not ended within `grace_s`.

        Args:
            grace_s: seconds from the first signal.
            again_s: seconds after which SIGTERM is sent once more, to a program that finishes its
                work at the first; None for only one.
            harmless: True if nothing is lost when it is killed, and no one needs to be warned.
        """
        if self.returncode is None:
            self.terminate()
            try:
                async with asyncio.timeout(grace_s):
                    if again_s is not None:
                        await asyncio.wait({self._code}, timeout=again_s)
                        self.terminate()
                    await self.wait()
            except TimeoutError:
                (log.info if harmless else log.warning)(
                    "process did not end after SIGTERM and was killed",
                    process=self.name,
                    after_s=grace_s,
                )
                self._signal(signal.SIGKILL)
        await self._cleared.wait()  # including the processes it left behind
        return await self.wait()

    def log_tail(self, lines: int = 3) -> str:
        """The last lines of its log, for an error message."""
        if self.log_file is None:
            return ""
        try:
            text = self.log_file.read_text(encoding="utf-8", errors="replace")
        except OSError:
            return ""
        told = [line for line in text.splitlines() if line.strip() and not _ROUTINE.search(line)]
        return "\n".join(told[-lines:])

    def quoted_log(self, lines: int = 3) -> str:
        """The end of its log for a message, after its file's name if the file is kept."""
        where = f" ({self.log_file})" if self._log_stays else ""
        tail = self.log_tail(lines if self._log_stays else max(lines, _LINES_OF_REMOVED_LOG))
        return f"the end of its log{where}:\n{tail}" if tail else f"its log{where} says no more"

    def _signal(self, number: signal.Signals) -> None:
        with self._lock, contextlib.suppress(ProcessLookupError, PermissionError):
            if not self._reaped:
                os.killpg(self.pid, number)

    def _watch(self, loop: asyncio.AbstractEventLoop) -> None:
        """Thread: wait for the end, report it, kill the rest of the session, then reap."""
        seen = os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOWAIT)
        status = seen.si_status if seen is not None else 0
        ended = seen is None or seen.si_code == os.CLD_EXITED
        with contextlib.suppress(RuntimeError):  # the loop has ended
            loop.call_soon_threadsafe(self._code.set_result, status if ended else -status)
        _wait_for_others(self.pid, _LEAVE_S)
        self._signal(signal.SIGKILL)
        _wait_for_others(self.pid, _DIE_S)
        _unlink_shared(self.pid)
        with self._lock:
            self._process.wait()
            self._reaped = True
        with contextlib.suppress(RuntimeError):
            loop.call_soon_threadsafe(self._cleared.set)


def _wait_for_others(group: int, most_s: float) -> None:
    until = time.monotonic() + most_s
    while _others(group) and time.monotonic() < until:
        time.sleep(0.02)


def _others(group: int) -> list[int]:
    """Processes of a group besides its leader; none where there is no /proc."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError, ValueError, IndexError):
            state, _, its_group = read_proc_stat(entry)[:3]
            if int(its_group) == group and int(entry.name) != group and state != "Z":
                found.append(int(entry.name))
    return found


def how_ended(status: int) -> str:
    """An exit status in words: "ended with status 1", or the signal that killed it."""
    if status >= 0:
        return f"ended with status {status}"
    try:
        name = signal.Signals(-status).name
    except ValueError:
        name = f"signal {-status}"
    why = {
        "SIGKILL": "; the system does so when memory is short, see dmesg",
        "SIGSEGV": ", a fault of its program",
        "SIGABRT": ", a fault of its program",
    }.get(name, "")
    return f"was killed by {name} (status {status}{why})"


def read_proc_stat(process: Path) -> list[str]:
    """Fields of /proc/PID/stat after the name, which may contain blanks.

    Args:
        process: its folder in /proc.

    Raises:
        OSError: it is gone.
    """
    text = (process / "stat").read_text(encoding="utf-8", errors="replace")
    return text.rsplit(")", 1)[1].split()


def _unlink_shared(pid: int) -> None:
    """Remove the shared memory that MPICH in a killed process has left."""
    for file in SHARED.glob(f"mpich_shm_{pid:x}_*"):
        with contextlib.suppress(OSError):
            if file.lstat().st_uid == os.getuid():
                file.unlink()


async def start_process(
    name: str,
    command: Sequence[str],
    *,
    folder: Path,
    log_file: Path | None,
    environment: Mapping[str, str],
    log_stays: bool = True,
    batch: bool = True,
) -> ManagedProcess:
    """Start a process with its output going to a file; it ends when this process dies.

    Args:
        name: for messages.
        command: the program and its arguments.
        folder: where it runs.
        log_file: gets its output; None to let it go where that of this process goes.
        environment: variables beside those of this process.
        log_stays: False if the file is removed before a user could read it.
        batch: whether it inherits the variables of the batch job; those of an MPI rank are never
            inherited.

    Raises:
        ConfigError: the program does not exist or cannot be run.
    """
    program = shutil.which(command[0])
    if program is None:
        raise ConfigError(f"{name}: program {command[0]!r} was not found on this machine")
    inherited = without_rank(os.environ) if batch else without_batch(os.environ)
    output: IO[bytes] | None = None if log_file is None else log_file.open("ab")
    try:
        # from this thread: the kernel ties the child to the thread that makes it
        process = subprocess.Popen(  # noqa: ASYNC220
            [sys.executable, "-m", "mixserver.core.die_with_parent", program, *command[1:]],
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=None if output is None else subprocess.STDOUT,
            env={**inherited, **environment, "MIXSERVER_PARENT": str(os.getpid())},
            start_new_session=True,
        )
    except OSError as error:
        limit = CURES.get(error.errno or 0, "")
        raise ConfigError(
            f"{name}: {command[0]} cannot be started: {error.strerror}{limit}"
        ) from error
    finally:
        if output is not None:
            output.close()
    log.info("started", process=name, pid=process.pid, command=" ".join(command))
    return ManagedProcess(name, process, log_file, log_stays=log_stays)
