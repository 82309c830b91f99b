"""Programs that benchmarks start."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

import pytest

from mixserver.analysis.bench.child import Ended, run_program


async def test_status_and_both_streams_come_back() -> None:
    command = ["sh", "-c", 'echo "$GREETING"; echo no >&2; exit 3']
    assert await run_program(command, environment={"GREETING": "yes"}) == Ended(3, "yes\n", "no\n")


async def test_time_is_limited() -> None:
    with pytest.raises(TimeoutError):
        await run_program(["sh", "-c", "sleep 600; true"], limit_s=0.1)


async def test_a_cancelled_program_is_killed(tmp_path: Path) -> None:
    file = tmp_path / "pid"
    script = f"echo $$ > {file}.new; mv {file}.new {file}; sleep 600; true"
    running = asyncio.create_task(run_program(["sh", "-c", script]))
    while not file.exists():  # noqa: ASYNC110 - another process makes it
        await asyncio.sleep(0.01)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    with pytest.raises(ProcessLookupError):
        os.kill(int(file.read_text()), signal.SIGCONT)
