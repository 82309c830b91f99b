"""Local workers that hang: before they join, after they were started again, over a job."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from limits import HANG_S

from mixserver.config import load_case
from mixserver.core.errors import NoWorkerError
from mixserver.core.processes import ManagedProcess
from mixserver.mixing.jobs import whole_system_job
from mixserver.server.build import Parts
from mixserver.server.local_workers import (
    build_for_local_workers,
    running_local_workers,
)
from mixserver.server.service import Service
from mixserver.server.worker_supervisor import process_activity

INPUTS = Path(__file__).parents[2] / "inputs"
BIN = Path(sys.executable).parent
SLEEPY = """
import pathlib, sys, time
from ase.calculators.lj import LennardJones
starts = pathlib.Path(__file__).with_name("starts")
number = len(starts.read_text()) if starts.exists() else 0
starts.write_text("x" * (number + 1))
if number in {hangs}:
    print("reading the model from a disk that never answers", flush=True)
    time.sleep(3600)
class Sleepy(LennardJones):
    pass
"""
"""An ASE calculator whose import hangs, at some starts."""


def write_case(folder: Path, hangs: set[int], **workers: object) -> Path:
    """The minimal case with that calculator as its expensive model."""
    case = folder / "case"
    shutil.copytree(INPUTS / "minimal", case, ignore=shutil.ignore_patterns("runs"))
    (folder / "sleepy.py").write_text(SLEEPY.replace("{hangs}", repr(hangs or [])))
    text = (case / "mix.toml").read_text()
    start = text.rindex("[[local]]")
    text = (
        text[:start].replace('kind = "energy"  ', 'kind = "force"  ').replace("follow = true", "")
        + '[[local]]\nrole = "expensive"\ncommand = ["ase", "sleepy.Sleepy", "--cutoff", "7"]\n'
        + f'environment = {{ PYTHONPATH = "{folder}" }}\n[workers]\n'
        + "".join(f"{key} = {value}\n" for key, value in workers.items())
    )
    (case / "mix.toml").write_text(text)
    return case


@pytest.mark.parametrize("command", ["run", pytest.param("check", marks=pytest.mark.physics)])
def test_a_worker_that_neither_joins_nor_ends_is_given_up_and_quoted(
    tmp_path: Path, command: str
) -> None:
    case = write_case(tmp_path, {0}, join_s=15.0)
    done = subprocess.run(
        [BIN / "mixserver", command, case],
        capture_output=True,
        text=True,
        timeout=HANG_S,
        check=False,
    )
    said = done.stdout + done.stderr
    assert done.returncode == 1, said
    assert "expensive-1-0 runs but has not joined within 15 s (workers.join_s" in said
    assert "it waits for something" in said or "it computes" in said
    assert "a disk that never answers" in said


@asynccontextmanager
async def running(
    case: Path, lost: Callable[[NoWorkerError], None] | None = None
) -> AsyncIterator[tuple[Parts, list[ManagedProcess]]]:
    loaded = load_case(case)
    parts = build_for_local_workers(loaded, case.parent, str(case.parent))
    async with (
        Service(parts).listening(),
        running_local_workers(loaded, parts, case.parent, on_role_lost=lost) as children,
    ):
        yield parts, children


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(HANG_S):
        while not condition():  # noqa: ASYNC110 - it is the processes that are waited for
            await asyncio.sleep(0.05)


@pytest.mark.physics
async def test_a_worker_that_hangs_when_started_again_is_started_once_more(tmp_path: Path) -> None:
    case = write_case(tmp_path, {1}, join_s=15.0)
    async with running(case) as (parts, children):

        def names() -> set[str]:
            return {view.name for view in parts.dispatcher.workers()}

        assert names() == {"cheap-0-0", "expensive-1-0"}
        os.kill(children[1].pid, signal.SIGKILL)
        await until(lambda: "expensive-1-0.3" in names())
        assert (tmp_path / "starts").read_text() == "xxx"


@pytest.mark.physics
async def test_the_last_worker_that_cannot_join_any_more_is_told_of(tmp_path: Path) -> None:
    case = write_case(tmp_path, {1, 2, 3, 4}, join_s=15.0)
    text = (case / "mix.toml").read_text().replace('role = "exp', 'restarts = 1\nrole = "exp')
    (case / "mix.toml").write_text(text)
    lost: list[NoWorkerError] = []
    async with running(case, lost.append) as (_, children):
        os.kill(children[1].pid, signal.SIGKILL)
        await until(lambda: bool(lost))
    assert "a disk that never answers" in str(lost[0])
    assert "has not joined within 15 s" in str(lost[0])


async def test_a_worker_that_hangs_over_a_job_is_ended_and_started_again(tmp_path: Path) -> None:
    case = write_case(tmp_path, set(), job_timeout_s=1.0)
    text = (case / "mix.toml").read_text()
    text = text.replace('"--cutoff", "7.0"]', '"--cutoff", "7.0", "--seconds", "3600"]')
    (case / "mix.toml").write_text(text)
    async with running(case) as (parts, children):
        first = children[0].pid
        asking = asyncio.create_task(
            parts.dispatcher.run([("cheap", whole_system_job(parts.start))])
        )
        names = {view.name for view in parts.dispatcher.workers()}
        assert "cheap-0-0" in names
        await until(lambda: "cheap-0-0.2" in {view.name for view in parts.dispatcher.workers()})
        with pytest.raises(ProcessLookupError):
            os.kill(first, 0)
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)


@pytest.mark.parametrize(
    ("code", "doing"),
    [("import time; time.sleep(600)", "it waits for something"), ("while True: pass", "computes")],
)
def test_what_a_process_does_is_seen_on_a_busy_machine_too(code: str, doing: str) -> None:
    command = [sys.executable, "-c", f"print(1, flush=True)\n{code}"]
    with subprocess.Popen(command, start_new_session=True, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            process.stdout.readline()
            deadline = time.monotonic() + HANG_S
            while doing not in (words := looked(process.pid)) and time.monotonic() < deadline:
                time.sleep(0.05)
        finally:
            process.kill()
    assert doing in words


def looked(session: int) -> str:
    seen = process_activity(session)
    assert seen is not None
    return seen.description


def test_nothing_is_seen_of_a_session_that_is_not_there() -> None:
    assert process_activity(2**22 + 1) is None
