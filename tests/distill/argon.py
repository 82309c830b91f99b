"""Argon as the toy engine has it: the quickest crystal there is."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import numpy as np
from cells import fcc

from mixserver.core.frame import Frame, Topology
from mixserver.core.structures import write_frame
from mixserver.distill.config.load import DistillationProject, load_project
from mixserver.distill.context import Distillation
from mixserver.distill.data.reference_data import ReferenceData, collect_reference_data
from mixserver.distill.recipe_workers import expensive_workers
from mixserver.distill.step_cache import open_folder

CONSTANT = 5.25
SOFT = (
    "temperatures = [20.0, 40.0]\natoms = 32\nsnapshots = 3\ntimestep_fs = 5.0\n"
    "equilibration_ps = 0.1\nevery_ps = 0.05\nfriction_fs = 200.0\nstrained = 2\nvacancies = 1\n"
)


def project_in(
    folder: Path, *, soft: str = SOFT, more: str = "", seconds: float = 0.0
) -> DistillationProject:
    """A recipe in a folder, as a user has it."""
    write_frame(folder / "ar.xyz", crystal(1))
    (folder / "distill.toml").write_text(
        'name = "ar"\nstructure = "ar.xyz"\n[expensive]\ncommand = ["toy", "--epsilon", "0.0104", '
        f'"--sigma", "3.4", "--cutoff", "5.2", "--seconds", "{seconds}"]\n'
        f"[soft]\n{soft}{more}"
    )
    return load_project(folder)


def crystal(cells: int = 2) -> Frame:
    """The perfect supercell, as argon."""
    frame = fcc(cells, CONSTANT, rattle=0.0)
    topology = Topology(np.full(len(frame), 18, np.int32))
    return topology.frame(frame.positions, frame.cell)


@contextlib.asynccontextmanager
async def distillation(project: DistillationProject) -> AsyncIterator[Distillation]:
    """A distillation with real workers of the expensive model, without a report of progress."""
    with open_folder(project.folder) as run:
        async with expensive_workers(project, project.folder / "workers") as dispatcher:
            yield Distillation(project, run, dispatcher, lambda *_: None)


async def reference_data(project: DistillationProject) -> ReferenceData:
    """The reference data, computed by real workers."""
    async with distillation(project) as run:
        return await collect_reference_data(run, cheap_reach=6.3)
