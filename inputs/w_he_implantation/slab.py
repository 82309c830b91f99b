"""The slab: cold, hot, and with a helium atom that flies at it."""

from __future__ import annotations

import asyncio
import math
import xml.etree.ElementTree as ET
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from ase.build import bulk
from ase.data import atomic_masses, atomic_numbers

from mixserver.core.arrays import Vectors
from mixserver.core.frame import Frame, Topology
from mixserver.core.units import BOHR
from mixserver.ipi.projectile import Projectile
from mixserver.studies.arms import Arm, write_case
from mixserver.studies.md import run_segments
from mixserver.studies.shots import Shot, speed_of, write_xyz
from mixserver.studies.study import Stopped, TaskContext, task_lock

HERE: Final = Path(__file__).resolve().parent
A: Final = 3.1776
"""Å, lattice constant of both models."""
ABOVE: Final = 5.0
"""Å over the surface, where shots begin."""
VACUUM: Final = 50.0
"""Å; the box does not repeat along z, so this only has to be more than `ABOVE`."""
LAYER: Final = 0.6
"""Å within which atoms of the cold slab belong to one layer."""
SEED: Final = 20
TIME: Final = 0.02418884326509
"""fs in an atomic unit of time."""


def cold_slab(cells: Sequence[int], *, helium: bool) -> Frame:
    """The slab with all atoms on lattice sites, the surfaces perpendicular to z.

    Args:
        cells: how many along each axis.
        helium: whether a helium atom, the last one, is over the middle of the surface.
    """
    slab = bulk("W", "bcc", a=A, cubic=True).repeat(tuple(cells))
    box = np.array(slab.cell[:])
    box[2, 2] = float(slab.positions[:, 2].max()) + VACUUM
    places = slab.positions + np.array([0.0, 0.0, 0.2 * VACUUM])
    numbers = list(slab.numbers)
    if helium:
        middle = [0.5 * box[0, 0], 0.5 * box[1, 1], places[:, 2].max() + ABOVE]
        places = np.vstack([places, middle])
        numbers.append(atomic_numbers["He"])
    topology = Topology(np.array(numbers, dtype=np.int32), pbc=(True, True, False))
    return topology.frame(places, box)


def helium_speed(energy: float) -> float:
    """Å/fs of helium with a kinetic energy in eV."""
    return speed_of(energy, float(atomic_masses[atomic_numbers["He"]]))


def write_start(folder: Path, cells: Sequence[int], energy: float = 20.0) -> None:
    """Write the cold slab with a helium atom that flies at it: init.xyz and velocities.xyz."""
    start = cold_slab(cells, helium=True)
    velocities = np.zeros_like(start.positions)
    velocities[-1, 2] = -helium_speed(energy)
    write_xyz(folder / "init.xyz", start, start.positions, "positions{angstrom}")
    speeds = velocities * (TIME / BOHR)
    write_xyz(folder / "velocities.xyz", start, speeds, "velocities{atomic_unit}")


async def hot_slabs(context: TaskContext) -> list[tuple[Vectors, Vectors]]:
    """Places (Å) and velocities (Å/fs) of hot slabs without helium, by the cheap potential.

    The first task that needs them makes them, for all.

    Raises:
        Stopped: the task was told to end.
        MixserverError: the run failed.
    """
    folder = context.folder.parent / "slab"
    while True:
        with task_lock(folder) as mine:
            if mine:
                return await _made(context, folder)
        await asyncio.sleep(1.0)  # another task makes them
        if context.stop.is_set():
            raise Stopped


async def _made(context: TaskContext, folder: Path) -> list[tuple[Vectors, Vectors]]:
    parameters = context.task.parameters
    cold = cold_slab(parameters["cells"], helium=False)
    start = folder / "slab.xyz"
    write_xyz(start, cold, cold.positions, "positions{angstrom}")
    steps = parameters["hot_steps"]
    case = write_case(
        folder,
        context.base,
        Arm("all-cheap", changes={"upstream": {"structure": str(start)}}),
        context.workers,
        {"file": str(start), "total_steps": str(steps)},
        text=(HERE / "slab.xml").read_bytes(),
    )
    (run,) = await run_segments(context, case, share=(0.0, 0.0))
    found = sorted((_snapshot(file) for file in run.glob("simulation.chk_*")), key=lambda s: s[0])
    return [(places, speeds) for step, places, speeds in found if step >= steps // 2]


def _snapshot(file: Path) -> tuple[int, Vectors, Vectors]:
    """Step, places (Å) and velocities (Å/fs) in a checkpoint of i-PI."""
    root = ET.parse(file).getroot()  # noqa: S314 - our own

    def numbers(tag: str) -> Any:
        text = root.findtext(f"system/beads/{tag}") or ""
        return np.array(text.strip(" []\n").split(","), dtype=np.float64)

    velocities = numbers("p").reshape(-1, 3) / numbers("m")[:, None]
    step = int((root.findtext("step") or "0").strip())
    return step, numbers("q").reshape(-1, 3) * BOHR, velocities * (BOHR / TIME)


def shot(
    cold: Frame,
    hot: Sequence[tuple[Vectors, Vectors]],
    number: int,
    energy: float,
    settings: Mapping[str, float],
) -> Shot:
    """The start of a shot: of every number the same slab and place, for all arms and energies.

    Args:
        cold: the cold slab with helium.
        hot: see `hot_slabs`.
        number: of the shot, from 0.
        energy: eV.
        settings: of `Projectile`.
    """
    random = np.random.default_rng([SEED, number])
    slab, speeds = hot[number % len(hot)]
    layers = cold.positions[:-1, 2]
    top = float(slab[layers > layers.max() - LAYER, 2].mean())
    bottom = float(slab[layers < layers.min() + LAYER, 2].mean())
    x, y = random.uniform(size=2) * cold.cell[[0, 1], [0, 1]]
    places = np.vstack([slab, [x, y, top + ABOVE]])
    velocities = np.vstack([speeds, [0.0, 0.0, -helium_speed(energy)]])
    about = Projectile(atom=len(places) - 1, top=top, bottom=bottom, **settings)
    frame = cold.topology.frame(places, cold.cell)
    return Shot(f"shot-{number + 1:04d}", frame, velocities, about)


def helium_index(cells: Sequence[int]) -> int:
    """Index of the helium atom, which comes after those of the slab."""
    return 2 * math.prod(cells)
