"""A program that a benchmark starts and waits for."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from typing import NamedTuple


class Ended(NamedTuple):
    """What a program left."""

    status: int
    output: str
    errors: str


async def run_program(
    command: Sequence[str],
    *,
    environment: Mapping[str, str] | None = None,
    limit_s: float | None = None,
) -> Ended:
    """Run a program to its end; if time is up or the caller is cancelled, kill it and its children.

    Args:
        command: without a shell; it reads nothing.
        environment: besides that of this process.
        limit_s: how long it may take; None for any time.

    Raises:
        OSError: it cannot be started.
        TimeoutError: the time is up.
    """
    child = await asyncio.create_subprocess_exec(
        *command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, **(environment or {})},
        start_new_session=True,
    )
    try:
        output, errors = await asyncio.wait_for(child.communicate(), limit_s)
    finally:
        if child.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)  # with what it started, which holds the pipes
            await child.wait()
    status = await child.wait()
    return Ended(status, output.decode(errors="replace"), errors.decode(errors="replace"))
