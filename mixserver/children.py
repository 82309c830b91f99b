"""Child processes of a run: started apart from the terminal, logged, ended for certain.

Knows how to start and to end a process and to quote its last words; not what any of them is for.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO

import structlog

from mixserver.errors import ConfigError
from mixserver.inherited import without_batch, without_rank

log = structlog.get_logger(__name__)

_ALL_THERE_IS = 8
"""Lines that are quoted of a file that is removed, so that nobody needs it."""


def beside(program: str) -> str:
    """Where a program of this Python's own environment is; its bare name if it is not there."""
    here = Path(sys.executable).with_name(program)
    return str(here) if here.exists() else program


class Child:
    """One process, in a session of its own so that Ctrl-C in the terminal does not reach it."""

    def __init__(
        self,
        name: str,
        process: asyncio.subprocess.Process,
        log_file: Path,
        *,
        log_stays: bool = True,
    ) -> None:
        self.name = name
        self.log_file = log_file
        self._log_stays = log_stays
        self._process = process

    @property
    def pid(self) -> int:
        """Process id."""
        return self._process.pid

    @property
    def returncode(self) -> int | None:
        """None while it runs."""
        return self._process.returncode

    async def wait(self) -> int:
        """Wait for its end; the exit status, negative for a signal."""
        return await self._process.wait()

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
        self._signal(signal.SIGKILL)  # also what it may have left behind
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
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, number)


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
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "mixserver.tether", program, *command[1:]),
            cwd=folder,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=output,
            stderr=asyncio.subprocess.STDOUT,
            env={**inherited, **environment, "MIXSERVER_PARENT": str(os.getpid())},
            start_new_session=True,
        )
    except OSError as error:
        raise ConfigError(f"{name}: {command[0]} cannot be started: {error.strerror}") from error
    finally:
        output.close()
    log.info("started", process=name, pid=process.pid, command=" ".join(command))
    return Child(name, process, log_file, log_stays=log_stays)
