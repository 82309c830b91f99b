"""Active learning: fit, test in MD, label the frames of failures, and fit again.

Each round has two steps in the run folder, hold-N (the dynamics) and lost-N (labels of failures).
"""

from __future__ import annotations

import shutil
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final, Protocol, TypeVar

import msgspec
import numpy as np
import structlog
from ase import Atoms
from ase.io import read, write

from mixserver.analysis.bulk.supercell import repeated, repeats_for_atoms
from mixserver.core.frame import Frame
from mixserver.core.structures import as_atoms, as_frame
from mixserver.distill.context import Distillation
from mixserver.distill.data import nvt_input as nvt
from mixserver.distill.data.labels import LabelledStructure, Structure
from mixserver.distill.data.melting import LARGEST
from mixserver.distill.data.perturbations import divided
from mixserver.distill.data.reference_data import ReferenceData
from mixserver.distill.recipe_workers import cheap_workers, lammps_command
from mixserver.distill.results import StabilityTest
from mixserver.distill.step_cache import Stage, Step
from mixserver.distill.validation.md_stability import (
    StabilityOutcome,
    displacement_limit,
    run_stability_test,
    temperature,
)
from mixserver.geometry import shortest_distance

log = structlog.get_logger(__name__)

_WORKERS: Final = 2
_TEST: Final = "trial.json"
_FRAMES: Final = "lost.xyz"
_CLOSEST: Final = 0.7
"""Of the nearest-neighbour distance: frames with closer atoms are left out, since they are unlike
crystals and would claim pair functions that are needed elsewhere."""
_PURPOSE: Final = 4
"""Key of the random numbers, after those of the soft structures and of the user's."""


class HasCommands(Protocol):
    """A fit whose potential is written."""

    @property
    def commands(self) -> Path:
        """File of LAMMPS commands, beside the files that it names."""


_Fit = TypeVar("_Fit", bound=HasCommands)


async def fit_until_stable(
    run: Distillation, data: ReferenceData, fit: Callable[[ReferenceData], Awaitable[_Fit]]
) -> tuple[ReferenceData, _Fit, list[StabilityTest]]:
    """Fit until the crystal is stable in MD, or as often as the recipe allows.

    Returns:
        The reference data with all failures, the fit to them, and the test of each fit.
    """
    hold = run.recipe.hold
    made = await fit(data)
    if not hold.ps:
        return data, made, []
    sites = nvt.oriented_for_ipi(
        repeated(data.crystal, repeats_for_atoms(data.crystal, run.recipe.soft.atoms))
    )
    structures = [data.labels(name).structure for name in data.training]
    hot = (s.positions for s in structures if s.kind == "hot" and len(s) == len(sites))
    limit = displacement_limit(hot, sites)
    tests: list[StabilityTest] = []
    for number in range(1, hold.rounds + 2):
        with run.run.timed(f"hold {number}"):
            step = await _tested(run, number, made.commands, sites, limit)
            test = msgspec.json.decode((step / _TEST).read_bytes(), type=StabilityTest)
            frames = step / _FRAMES
            failures: list[LabelledStructure] = []
            if frames.exists() and number <= hold.rounds:
                failures = await _labelled_failures(run, number, frames, data)
        tests.append(msgspec.structs.replace(test, frames=len(failures)))
        if not failures:
            break
        data = data.with_training(failures, run.folder / f"lost-{number}")
        made = await fit(data)
    return data, made, tests


async def _tested(
    run: Distillation, number: int, commands: Path, sites: Frame, limit: float
) -> Path:
    """The folder of a stability test."""

    async def compute(step: Step) -> Path:
        if not step.done:
            await _run_test(run, step, commands, sites, limit)
        return step.folder

    recipe = run.recipe
    settings = {"hold": recipe.hold, "soft": recipe.soft, "most": round(limit, 9)}
    files = {file.name: file for file in sorted(commands.parent.glob(f"{commands.stem}.*"))}
    return await run.run.execute(
        Stage(f"hold-{number}", settings, compute, needs=("crystal",), files=files), timed=False
    )


async def _run_test(
    run: Distillation, step: Step, commands: Path, sites: Frame, limit: float
) -> None:
    """Run the test, and write its outcome and the frames of failures."""
    hold, soft = run.recipe.hold, run.recipe.soft
    for left in step.folder.iterdir():  # by an interrupted start
        if left.is_dir():
            shutil.rmtree(left)
    command = lammps_command(run.project, commands)
    async with cheap_workers(
        run.project, command, run.folder / "workers", count=_WORKERS
    ) as dispatcher:
        outcomes = await run_stability_test(
            hold,
            soft,
            sites,
            dispatcher,
            step.folder,
            limit=limit,
            progress=run.step_progress(step.name),
        )
    frames = [atoms for outcome in outcomes for atoms in _as_atoms(outcome)]
    file = step.folder / _FRAMES
    file.unlink(missing_ok=True)
    if frames:
        write(file, frames, format="extxyz")
    test = StabilityTest(
        temperature=temperature(hold, soft),
        ps=hold.ps,
        broke=tuple(outcome.broke_ps for outcome in outcomes),
    )
    (step.folder / _TEST).write_bytes(msgspec.json.encode(test))
    if frames:
        log.warning("crystal unstable in MD", kelvin=test.temperature, after_ps=test.broke)


def _as_atoms(outcome: StabilityOutcome) -> list[Atoms]:
    listed = [as_atoms(frame) for frame in outcome.frames]
    for atoms in listed:
        atoms.info |= {key: getattr(outcome, key) for key in ("temperature", "copy", "broke_ps")}
    return listed


async def _labelled_failures(
    run: Distillation, number: int, file: Path, data: ReferenceData
) -> list[LabelledStructure]:
    """Label the frames of failures; those that are useless for a fit are left out."""
    groups = run.recipe.partition.groups if data.card.weights else 1
    seed = run.recipe.soft.seed

    async def compute(step: Step) -> list[LabelledStructure]:
        closest = _CLOSEST * shortest_distance(data.crystal)
        structures = [
            structure
            for structure in _read_structures(number, file, groups, seed)
            if shortest_distance(structure.frame) >= closest
        ]
        labelled = await run.labelled(step, structures)
        return [one for one in labelled if np.abs(one.forces.sum(axis=0)).max() <= LARGEST]

    settings = {"model": data.card.fingerprint, "groups": groups, "seed": seed}
    return await run.run.execute(
        Stage(f"lost-{number}", settings, compute, needs=(f"hold-{number}",)), timed=False
    )


def _read_structures(number: int, file: Path, groups: int, seed: int) -> list[Structure]:
    structures = []
    for at, atoms in enumerate(read(file, index=":")):
        frame = as_frame(atoms)
        group = divided(frame, groups, (seed, _PURPOSE + number, at))
        structures.append(Structure.of(frame, f"lost{number}-{at:03d}", "lost", group))
    return structures
