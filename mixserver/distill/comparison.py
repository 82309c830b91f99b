"""Other potentials of a recipe, for comparison: an early check, and their errors."""

from __future__ import annotations

import asyncio

import numpy as np
import structlog

from mixserver.core.errors import ConfigError, MixserverError, WorkerFault
from mixserver.distill.config.load import DistillationProject
from mixserver.distill.context import Distillation
from mixserver.distill.data.reference_data import ReferenceData
from mixserver.distill.fitting.candidates import describe_candidate
from mixserver.distill.fitting.descriptor_rows import compute_reference_rows
from mixserver.distill.fitting.inputs import FitInputs, build_design, pair_basis
from mixserver.distill.recipe_workers import cheap_workers, lammps_command
from mixserver.distill.validation.benchmark import WrittenCandidate

log = structlog.get_logger(__name__)


async def check_compared_potentials(project: DistillationProject) -> None:
    """Start LAMMPS with each potential to compare, before hours of other work.

    Raises:
        ConfigError: LAMMPS rejects one of them.
    """
    for name in project.recipe.compare:
        command = lammps_command(project, project.base / name)
        workers = cheap_workers(project, command, project.folder / "workers")
        try:
            async with workers as dispatcher:
                await dispatcher.card("cheap")
        except WorkerFault as error:
            raise ConfigError(
                f"{project.file.name}: compare names {project.base / name}, which LAMMPS rejects "
                f"for {', '.join(project.elements)}; correct it or leave it out. {error}"
            ) from error


async def compared_candidates(
    run: Distillation, data: ReferenceData
) -> tuple[list[WrittenCandidate], list[str]]:
    """The other potentials of the recipe, by the same measures.

    Returns:
        Those that can be evaluated, and for the others a sentence with the reason.
    """
    listed: list[WrittenCandidate] = []
    dropped: list[str] = []
    for name in run.recipe.compare:
        file = run.project.base / name
        try:
            labels, progress = list(data.files.values()), run.step_progress(f"rows {file.stem}")
            rows = await compute_reference_rows(file, labels, run.folder / "rows", progress)
            no_pairs = pair_basis(run.project, data, functions=0)
            inputs = FitInputs(run.project, data, rows, None, no_pairs, {})
            design = await asyncio.to_thread(build_design, inputs)
            candidate = describe_candidate(file.stem, design, inputs, np.ones(1))
        except MixserverError as error:  # the distilled potential matters more
            dropped.append(f"{name} could not be compared: {error}")
            log.warning("not compared", potential=name, reason=str(error))
        else:
            listed.append(WrittenCandidate(candidate, lammps_command(run.project, file)))
    return listed, dropped
