"""Child processes of a run: started apart from the terminal, logged, ended for certain.

Knows how to start and to end a process and to quote its last words; not what any of them is for.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
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

from mixserver.errors import ConfigError
from mixserver.inherited import without_batch, without_rank

log = structlog.get_logger(__name__)

_LEAVE_S: Final = 2.0
"""What a process leaves behind may go on for so long: i-PI's helpers tidy up after it."""
_DIE_S: Final = 30.0
"""And so long where it was killed but has not been seen to end: a busy machine, a slow disk."""
_SHARED: Final = Path("/dev/shm")  # noqa: S108 - MPICH's choice
_ALL_THERE_IS = 8
"""Lines that are quoted of a file that is removed, so that nobody needs it."""


def beside(program: str) -> str:
    """Where a program of this Python's own environment is; its bare name if it is not there."""
    here = Path(sys.executable).with_name(program)
    return str(here) if here.exists() else program


class Child:
    """One process, in a session of its own so that Ctrl-C in the terminal does not reach it.

    A thread waits for its end and clears away what it leaves behind, before its process id is given
    back: afterwards the same id may be another process's.
    """

    def __init__(
        self,
        name: str,
        process: subprocess.Popen[bytes],
        log_file: Path,
        *,
        log_stays: bool = True,
    ) -> None:
        self.name = name
        self.log_file = log_file
        self._log_stays = log_stays
        self._process = process
        self._lock = threading.Lock()
        """Held while a signal is sent or the process id given back."""
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
        """Ask it (and whatever it started) to end."""
        self._signal(signal.SIGTERM)

    async def end(self, grace_s: float) -> int:
        """Ask it to end, and kill its whole session if it has not within `grace_s`."""
        if self.returncode is None:
            self.terminate()
            try:
                async with asyncio.timeout(grace_s):
                    await self.wait()
            except TimeoutError:
                log.warning("killed: did not end when asked", process=self.name, after_s=grace_s)
                self._signal(signal.SIGKILL)
        await self._cleared.wait()  # also of what it may have left behind
        return await self.wait()

    def last_words(self, lines: int = 3) -> str:
        """The last lines it printed, for an error message."""
        try:
            text = self.log_file.read_text(encoding="utf-8", errors="replace")
        except OSError:
            return ""
        return "\n".join([line for line in text.splitlines() if line.strip()][-lines:])

    def quoted(self, lines: int = 3) -> str:
        """Its last lines with what they are, and with their file if that stays, for a message."""
        if self._log_stays:
            return f"last words ({self.log_file}):\n{self.last_words(lines)}"
        return f"last words:\n{self.last_words(max(lines, _ALL_THERE_IS))}"

    def _signal(self, number: signal.Signals) -> None:
        with self._lock, contextlib.suppress(ProcessLookupError, PermissionError):
            if not self._reaped:
                os.killpg(self.pid, number)

    def _watch(self, loop: asyncio.AbstractEventLoop) -> None:
        """Wait for the end, tell of it, kill the rest of the session, then reap. A thread."""
        seen = os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOWAIT)
        status = seen.si_status if seen is not None else 0
        ended = seen is None or seen.si_code == os.CLD_EXITED
        with contextlib.suppress(RuntimeError):  # the loop has ended, and waits for nothing more
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
            state, _, its_group = stat_of(entry)[:3]
            if int(its_group) == group and int(entry.name) != group and state != "Z":
                found.append(int(entry.name))
    return found


def stat_of(process: Path) -> list[str]:
    """What `stat` says of a process or thread behind its name, which may hold blanks.

    Args:
        process: its folder in /proc.

    Raises:
        OSError: it is gone.
    """
    text = (process / "stat").read_text(encoding="utf-8", errors="replace")
    return text.rsplit(")", 1)[1].split()


def _unlink_shared(pid: int) -> None:
    """Remove the shared memory that MPICH in a killed process has left."""
    for file in _SHARED.glob(f"mpich_shm_{pid:x}_*"):
        with contextlib.suppress(OSError):
            if file.lstat().st_uid == os.getuid():
                file.unlink()


async def start(
    name: str,
    command: Sequence[str],
    *,
    folder: Path,
    log_file: Path,
    environment: Mapping[str, str],
    log_stays: bool = True,
    batch: bool = True,
) -> Child:
    """Start a process with its output going to a file; it ends when this process dies.

    Args:
        name: for messages.
        command: the program and its arguments.
        folder: where it runs.
        log_file: gets its output.
        environment: variables beside those of this process.
        log_stays: False where the file is removed before anybody could read it.
        batch: whether it may know of the batch job it runs in; that it is no rank of it, in any
            case.

    Raises:
        ConfigError: the program does not exist or cannot be run.
    """
    program = shutil.which(command[0])
    if program is None:
        raise ConfigError(f"{name}: there is no program {command[0]!r} on this machine")
    inherited = without_rank(os.environ) if batch else without_batch(os.environ)
    output: IO[bytes] = log_file.open("ab")
    try:
        # from this thread: the kernel ties the child to the thread that makes it
        process = subprocess.Popen(  # noqa: ASYNC220
            [sys.executable, "-m", "mixserver.tether", program, *command[1:]],
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**inherited, **environment, "MIXSERVER_PARENT": str(os.getpid())},
            start_new_session=True,
        )
    except OSError as error:
        raise ConfigError(f"{name}: {command[0]} cannot be started: {error.strerror}") from error
    finally:
        output.close()
    log.info("started", process=name, pid=process.pid, command=" ".join(command))
    return Child(name, process, log_file, log_stays=log_stays)
