"""Shots of a fast atom at a slab: many trajectories, one server and its workers.

Every shot is an i-PI process of its own with a session of its own; the workers serve all shots that
run at the same time. A shot leaves its end in its folder, and is not made again.
"""

from __future__ import annotations

import asyncio
import math
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np
from ase.data import chemical_symbols

from mixserver.config import Case
from mixserver.core.arrays import Vectors
from mixserver.core.atomic_write import write_atomically
from mixserver.core.frame import Frame
from mixserver.core.units import BOHR
from mixserver.ipi.process import run_ipi
from mixserver.ipi.projectile import ENDED, SHOT, Ended, Projectile, read_ended
from mixserver.server.worker_pool import worker_pool
from mixserver.studies.arms import with_values
from mixserver.studies.study import Stopped, TaskContext

_TIME: Final = 0.02418884326509
"""fs in an atomic unit of time (CODATA 2018), only in files of velocities."""
_AMU: Final = 103.642697
"""eV in an amu Å²/fs² (CODATA 2018)."""
_INPUT: Final = "input.xml"


@dataclass(frozen=True, slots=True)
class Shot:
    """How one shot begins."""

    name: str
    """Of its folder."""
    start: Frame
    velocities: Vectors
    """(N, 3) Å/fs."""
    settings: Projectile


async def run_shots(
    context: TaskContext, case: Case, shots: Sequence[Shot], *, socket: str, at_once: int = 1
) -> list[Ended]:
    """Run those of some shots that have not ended.

    Args:
        context: the task's; each shot has a folder in its folder.
        case: the mixed potential; its input for i-PI names ``<file>`` and ``<velocities>`` once
            each, and has its longest number of steps.
        shots: in the order of their ends.
        socket: the name of the unix socket in that input.
        at_once: shots at a time.

    Returns:
        The end of every shot.

    Raises:
        Stopped: `context.stop` was set.
        MixserverError: a shot failed.
    """
    folders = [context.folder / shot.name for shot in shots]
    ends = [read_ended(folder / ENDED) for folder in folders]
    waiting = [at for at, end in enumerate(ends) if end is None]
    context.report(len(shots) - len(waiting), len(shots))
    if not waiting:
        return [end for end in ends if end is not None]

    source = case.folder / case.config.ipi.input
    text = source.read_bytes()
    async with worker_pool(case, context.folder) as parts:

        async def lane() -> None:
            while waiting and not context.stop.is_set():
                at = waiting.pop(0)
                shot, folder = shots[at], folders[at]
                shutil.rmtree(folder, ignore_errors=True)
                folder.mkdir(parents=True)
                _write(folder, shot, text, source)
                await run_ipi(
                    f"i-PI {shot.name}",
                    folder / _INPUT,
                    socket,
                    parts.answer,
                    shot=folder / SHOT,
                )
                ends[at] = read_ended(folder / ENDED) or _never(shot, folder)
                context.report(sum(end is not None for end in ends), len(shots))

        lanes = [asyncio.create_task(lane()) for _ in range(at_once)]
        stopping = asyncio.create_task(context.stop.wait())
        try:
            running = asyncio.gather(*lanes)
            either: set[asyncio.Future[Any]] = {running, stopping}
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
            if running.done():
                running.result()
        finally:
            stopping.cancel()
            for task in lanes:
                task.cancel()
            await asyncio.gather(*lanes, return_exceptions=True)
    if any(end is None for end in ends):
        raise Stopped
    return [end for end in ends if end is not None]


def speed_of(energy: float, mass: float) -> float:
    """Å/fs of an atom with a kinetic energy in eV and a mass in amu."""
    return math.sqrt(2.0 * energy / (_AMU * mass))


def _never(shot: Shot, folder: Path) -> Ended:
    """The end of a shot whose rules never applied in all its steps; kept like any other."""
    ended = Ended(
        end="undecided",
        time_fs=0.0,
        steps=0,
        place=(0.0, 0.0, 0.0),
        lowest=0.0,
        energy=0.0,
        shortest_fs=0.0,
        drift=0.0,
        largest=0.0,
        mismatch=0.0,
    )
    write_atomically(folder / ENDED, msgspec.json.encode(ended))
    return ended


def _write(folder: Path, shot: Shot, text: bytes, source: Path) -> None:
    """Write what i-PI starts from."""
    files = {"file": "start.xyz", "velocities": "velocities.xyz"}
    write_atomically(folder / _INPUT, with_values(text, files, source))
    write_atomically(folder / SHOT, msgspec.json.encode(shot.settings))
    write_xyz(folder / files["file"], shot.start, shot.start.positions, "positions{angstrom}")
    speeds = shot.velocities * (_TIME / BOHR)
    write_xyz(folder / files["velocities"], shot.start, speeds, "velocities{atomic_unit}")


def write_xyz(file: Path, frame: Frame, values: Vectors, what: str) -> None:
    """Write an xyz of i-PI: a value for each of the atoms of a frame, and its cell.

    Args:
        file: replaced atomically.
        frame: its cell has a along x and b in the xy plane.
        values: (N, 3) in the unit that `what` names.
        what: as i-PI's comments have it: "positions{angstrom}".
    """
    box = " ".join(f"{value:.12f}" for value in frame.cell.T.ravel())
    rows = [
        f"{chemical_symbols[number]} {x:.14e} {y:.14e} {z:.14e}"
        for number, (x, y, z) in zip(
            frame.topology.numbers, np.asarray(values).tolist(), strict=True
        )
    ]
    head = f"{len(frame)}\n# CELL(H): {box} {what} cell{{angstrom}}\n"
    write_atomically(file, (head + "\n".join(rows) + "\n").encode())
