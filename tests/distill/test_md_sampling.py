"""Snapshots of hot argon: real i-PI, real workers, real kills."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from argon import SOFT, crystal, project_in
from limits import HANG_S

from mixserver.core.errors import BadInput, ConfigError, NoWorkerError, UpstreamError, WorkerFault
from mixserver.core.processes import environment_program
from mixserver.distill.config.load import DistillationProject, load_project
from mixserver.distill.data.atom_groups import single_group
from mixserver.distill.data.labelling import label_structures
from mixserver.distill.data.labels import Structure
from mixserver.distill.data.md_sampling import Snapshot, sample
from mixserver.distill.recipe_workers import expensive_workers
from mixserver.ipi.input import read_input
from mixserver.ipi.process import run_ipi
from mixserver.wire.ipi import Reply, Request

_LATER = f"""
import asyncio, sys
from pathlib import Path
sys.path.insert(0, {str(Path(__file__).parent)!r})
sys.path.insert(0, {str(Path(__file__).parents[1])!r})
from argon import crystal
from mixserver.ipi.process import run_ipi
from mixserver.distill.data.md_sampling import sample
from mixserver.distill.recipe_workers import expensive_workers
from mixserver.distill.config.load import load_project

async def main(folder):
    order = load_project(folder)
    hot = order.folder / "hot"
    hot.mkdir(parents=True)
    async with expensive_workers(order, order.folder / "workers") as dispatcher:
        await sample(order.recipe.soft, crystal(), dispatcher, hot)

asyncio.run(main(Path(sys.argv[1])))
"""


async def _sampled(
    project: DistillationProject, told: list[tuple[int, int]] | None = None
) -> list[Snapshot]:
    hot = project.folder / "hot"
    hot.mkdir(parents=True, exist_ok=True)
    progress = None if told is None else lambda *at: told.append(at)
    async with expensive_workers(project, project.folder / "workers") as dispatcher:
        return await sample(project.recipe.soft, crystal(), dispatcher, hot, progress=progress)


def _lines(file: Path) -> int:
    return len(file.read_bytes().splitlines()) if file.exists() else 0


async def _until(holds: Callable[[], bool], seconds: float = HANG_S) -> None:
    async with asyncio.timeout(seconds):
        while True:
            if holds():
                return
            await asyncio.sleep(0.02)


def _children(word: str) -> list[int]:
    """Our own child processes that have this word in their command line."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            words = (entry / "cmdline").read_bytes().decode()
            parent = int((entry / "stat").read_text().rsplit(")", 1)[1].split()[1])
        except OSError:
            continue
        if word in words and parent == os.getpid():
            found.append(int(entry.name))
    return found


async def test_snapshots_are_of_a_hot_crystal_and_are_not_made_twice(tmp_path: Path) -> None:
    project = project_in(tmp_path)
    told: list[tuple[int, int]] = []
    first = await _sampled(project, told)
    assert [s.temperature for s in first] == [20.0] * 3 + [40.0] * 3
    assert [s.name for s in first[:3]] == ["20K-0-000030", "20K-0-000040", "20K-0-000050"]
    assert [s.time_ps for s in first[:3]] == pytest.approx([0.15, 0.2, 0.25])
    assert told[-1] == (100, 100)
    assert sorted(told) == told
    spread = [np.sqrt(np.mean((s.frame.positions - crystal().positions) ** 2)) for s in first]
    assert 0.02 < min(spread) < max(spread) < 0.4
    assert np.mean(spread[3:]) > np.mean(spread[:3])  # hotter is wider
    parts = sorted((project.folder / "hot").glob("*/part-*/*"))
    written = [file.stat().st_mtime_ns for file in parts]
    again = await _sampled(project)
    assert sorted((project.folder / "hot").glob("*/part-*/*")) == parts
    assert [file.stat().st_mtime_ns for file in parts] == written
    assert len({file.parent for file in parts}) == 2
    for one, other in zip(first, again, strict=True):
        assert np.array_equal(one.frame.positions, other.frame.positions)


async def test_a_killed_run_goes_on_where_it_was(tmp_path: Path) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    whole.mkdir()
    killed.mkdir()
    expected = await _sampled(project_in(whole))
    project = project_in(killed, seconds=0.02)
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", _LATER, str(killed), stdout=subprocess.DEVNULL
    )
    part = project.folder / "hot" / "40K-0" / "part-001"
    try:
        await _until(lambda: _lines(part / "nvt.out") >= 25 or process.returncode is not None)
        assert process.returncode is None
    finally:
        process.kill()
        await process.wait()
    await _until((part / "RESTART").exists)  # the kernel told i-PI
    found = await _sampled(project_in(killed))
    parts = sorted((project.folder / "hot" / "40K-0").glob("part-*"))
    assert len(parts) == 2
    steps = re.findall(r"Step:\s*(\d+)", (parts[1] / "nvt.pos_0.xyz").read_text())
    assert int(steps[0]) > 0
    for one, other in zip(expected, found, strict=True):
        assert one.name == other.name
        assert np.allclose(one.frame.positions, other.frame.positions, atol=1e-3)


async def test_a_run_that_is_told_to_stop_leaves_a_state_and_no_process(tmp_path: Path) -> None:
    project = project_in(tmp_path, seconds=0.02)
    names = ("20K-0", "40K-0")
    running = asyncio.create_task(_sampled(project))
    files = [project.folder / f"hot/{name}/part-001/nvt.out" for name in names]
    await _until(lambda: min(map(_lines, files)) >= 8)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    for name in names:
        part = project.folder / "hot" / name / "part-001"
        assert read_input(part / "RESTART").step > 0
    assert not _children("mixserver.ipi.host")
    assert not _children("mixserver-worker")


async def test_a_crystal_that_does_not_stand_the_temperature_is_refused(tmp_path: Path) -> None:
    soft = SOFT.replace("[20.0, 40.0]", "[20.0, 1500.0]").replace(
        "equilibration_ps = 0.1", "equilibration_ps = 2.0"
    )
    with pytest.raises(ConfigError, match=r"at 1500 K failed after .* ps: .*soft\.temperatures"):
        await _sampled(project_in(tmp_path, soft=soft))


async def test_a_command_that_fails_is_told_with_its_last_words(tmp_path: Path) -> None:
    project_in(tmp_path)
    file = tmp_path / "distill.toml"
    file.write_text(file.read_text().replace('"--sigma"', '"--sigmund"'))
    project = load_project(tmp_path)
    with pytest.raises(WorkerFault, match="--sigmund"):
        await _sampled(project)


def _undivided(name: str, positions: np.ndarray) -> Structure:
    perfect = crystal()
    return Structure(
        name, "hot", perfect.topology.numbers, positions, perfect.cell, single_group(len(perfect))
    )


async def test_a_structure_that_the_model_refuses_ends_the_labels(tmp_path: Path) -> None:
    project = project_in(tmp_path)
    positions = crystal().positions
    overlapping = positions.copy()
    overlapping[1] = overlapping[0]
    wanted = [_undivided("fine", positions), _undivided("touching", overlapping)]
    async with expensive_workers(project, project.folder / "workers") as dispatcher:
        with pytest.raises(BadInput):
            await label_structures(wanted, dispatcher, tmp_path)
        await label_structures(wanted[:1], dispatcher, tmp_path)  # others can still be asked


async def test_workers_that_die_again_and_again_end_the_labels(tmp_path: Path) -> None:
    project = project_in(tmp_path)
    with pytest.raises(NoWorkerError, match="for good"):  # noqa: PT012 - it is left by the error
        async with expensive_workers(project, project.folder / "workers") as dispatcher:

            def closed() -> bool:
                for pid in _children("mixserver-worker"):
                    os.kill(pid, signal.SIGKILL)
                try:
                    dispatcher.workers()
                except NoWorkerError:
                    return True
                return False

            await _until(closed)
            await label_structures([_undivided("late", crystal().positions)], dispatcher, tmp_path)


async def test_workers_from_elsewhere_come_in_by_a_door(tmp_path: Path) -> None:
    project_in(tmp_path)
    door = f"ipc://{tmp_path}/door"
    file = tmp_path / "distill.toml"
    lines = file.read_text().splitlines()
    lines = [f'door = "{door}"' if line.startswith("command") else line for line in lines]
    file.write_text("\n".join(lines))
    project = load_project(tmp_path)
    process = await asyncio.create_subprocess_exec(
        *(environment_program("mixserver-worker"), "toy", "--sigma", "3.4"),
        *("--server", door, "--role", "expensive"),
        stderr=subprocess.DEVNULL,
    )
    try:
        async with (
            asyncio.timeout(HANG_S),
            expensive_workers(project, tmp_path / "workers") as dispatcher,
        ):
            found = await label_structures(
                [_undivided("a", crystal().positions)], dispatcher, tmp_path
            )
        assert len(found) == 1
        async with asyncio.timeout(HANG_S):
            assert await process.wait() == 0  # it was told goodbye
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def test_an_ipi_that_cannot_start_is_reported_with_the_end_of_its_log(tmp_path: Path) -> None:
    source = tmp_path / "input.xml"
    source.write_text("<simulation><sistem/></simulation>")

    async def answer(request: Request) -> Reply:
        raise BadInput(f"nobody asks for {len(request.positions)} atoms")

    with pytest.raises(UpstreamError, match=r"i-PI ended with status 1(?s:.*)sistem"):
        await run_ipi("i-PI", source, "forces", answer)
