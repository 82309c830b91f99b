"""Energy-mixed forces against force-mixed ones, averaged along a trajectory of this case.

    python mean_forces.py runs/latest/simulation.pos_0.xyz

Prints the mean over the trajectory of the difference of both forces on each atom of the blend,
without and with dead loads: ghost forces as the atoms feel them on average.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

import click
import numpy as np

from mixserver.analysis.case_workers import case_workers
from mixserver.analysis.checks.ghost_forces import measure_ghost_forces
from mixserver.analysis.region_preview import required_setup
from mixserver.config import load_case
from mixserver.core.arrays import Vectors

HERE = Path(__file__).parent


def read_frames(file: Path) -> list[Vectors]:
    """(N, 3) Å of every frame that i-PI printed."""
    rows = file.read_text(encoding="utf-8").splitlines()
    size = int(rows[0]) + 2
    starts = range(0, len(rows) - size + 1, size)
    return [
        np.array([row.split()[1:] for row in rows[at + 2 : at + size]], dtype=float)
        for at in starts
    ]


async def differences(case: Path, frames: list[Vectors]) -> tuple[Vectors, Vectors]:
    """(n, m, 3) eV/Å energy-mixed minus force-mixed on m blend atoms, without and with loads."""
    found: list[tuple[Vectors, Vectors]] = []
    async with case_workers(load_case(case)) as parts:
        setup = required_setup(parts)
        reaches = await setup.reaches()
        state = await setup.determine(reaches)
        region = await setup.region()
        loads = state.dead_loads
        for positions in frames:
            frame = parts.topology.frame(positions, parts.start.cell)
            ghost = await measure_ghost_forces(setup, reaches, state, frame, region)
            after = ghost if loads is None else ghost.with_dead_loads(loads)
            found.append((ghost.forces[ghost.blend], after.forces[ghost.blend]))
    without, loaded = zip(*found, strict=True)
    return np.array(without), np.array(loaded)


@click.command()
@click.argument("trajectory", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--case", default=HERE, type=click.Path(exists=True, path_type=Path))
@click.option("--skip", default=0, help="Frames at the beginning that do not count.")
def main(trajectory: Path, case: Path, skip: int) -> None:
    """Average along TRAJECTORY."""
    frames = read_frames(trajectory)[skip:]
    both = asyncio.run(differences(case, frames))
    for name, apart in zip(("without loads", "with loads"), both, strict=True):
        mean = np.linalg.norm(apart.mean(axis=0), axis=1)
        noise = apart.std(axis=0).mean() / np.sqrt(len(frames))
        at_once = np.sqrt((apart**2).sum(axis=2).mean())
        click.echo(
            f"{name:14s} mean force: rms {np.sqrt((mean**2).mean()):.4f}, largest "
            f"{mean.max():.4f} eV/Å (standard error {noise:.4f} per component); rms at one time "
            f"{at_once:.4f}; {len(frames)} frames, {len(mean)} atoms"
        )


if __name__ == "__main__":
    main()
