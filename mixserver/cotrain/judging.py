"""What the report says of a small expert: it runs beside the large one, on the same structures."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Final

import msgspec

from mixserver.analysis.bulk.supercell import repeated, repeats_for_atoms
from mixserver.core.frame import Frame
from mixserver.distill.context import Distillation
from mixserver.distill.data import nvt_input as nvt
from mixserver.distill.data.energy_partition import (
    SphericalRegion,
    measure_ghost_forces,
    region_rows,
    significant_pairs,
    site_gradients,
)
from mixserver.distill.data.labelling import label_structures
from mixserver.distill.data.labels import LabelledStructure, label_rows
from mixserver.distill.data.reference_data import ReferenceData
from mixserver.distill.data.splits import split_structures
from mixserver.distill.fitting.candidates import compare_rows, errors_of_rows
from mixserver.distill.recipe_workers import cheap_workers
from mixserver.distill.results import (
    REPORTED_BLENDS,
    REPORTED_CORE,
    Candidate,
    Ghost,
    Parity,
    StabilityTest,
)
from mixserver.distill.step_cache import Stage, Step
from mixserver.distill.validation.benchmark import WrittenCandidate
from mixserver.distill.validation.md_stability import (
    displacement_limit,
    run_stability_test,
    temperature,
)

_TRIAL: Final = "trial.json"
_WORKERS: Final = 2


async def compared(
    run: Distillation, data: ReferenceData, label: str, model: Path, command: tuple[str, ...]
) -> tuple[WrittenCandidate, tuple[Parity, ...]]:
    """Errors and ghost forces of a small expert against the large one; each label is kept."""
    splits = split_structures(data.training, run.recipe.fit.validation)
    theirs = [data.labels(name) for name, split in splits.items() if split == "test"]

    async def compute(step: Step) -> list[LabelledStructure]:
        wanted = [one.structure for one in theirs]
        if data.partition:
            wanted.append(data.labels(data.partition).structure)
        progress = run.step_progress(step.name)
        async with cheap_workers(run.project, command, run.folder / "workers") as dispatcher:
            return await label_structures(
                wanted, dispatcher, step.folder, progress=progress, role="cheap"
            )

    ours = await run.run.execute(
        Stage(
            f"labels-{label}",
            {"validation": run.recipe.fit.validation},
            compute,
            needs=("soft", *(["partition"] if data.partition else [])),
            files={"model": model},
        ),
        timed=False,
    )
    pairs = [
        (one.structure.family, label_rows(one).sum(axis=0), label_rows(other).sum(axis=0))
        for one, other in zip(theirs, ours, strict=False)
    ]
    ghosts: tuple[Ghost, ...] = ()
    if data.partition:
        ghosts = ghost_forces(data.labels(data.partition), ours[-1], data.crystal, data.reach)
    candidate = Candidate(label=label, errors=errors_of_rows(pairs), ghosts=ghosts)
    return WrittenCandidate(candidate, command), compare_rows(pairs)


def ghost_forces(
    large: LabelledStructure, small: LabelledStructure, crystal: Frame, reach: float
) -> tuple[Ghost, ...]:
    """Ghost forces around the regions that reports show, of labels of one `one_hot` structure."""
    basis = len(crystal)
    forces = [one.forces[:basis][..., None] for one in (large, small)]
    keep = significant_pairs(*forces)
    expensive, cheap = (site_gradients(large.structure, basis, one, keep) for one in forces)
    x, y, z = crystal.positions[0].tolist()
    found = []
    for blend in REPORTED_BLENDS:
        region = SphericalRegion((x, y, z), REPORTED_CORE, blend)
        of_large, of_small = (
            region_rows(one, crystal, region, reach)[:, 0] for one in (expensive, cheap)
        )
        found.append(measure_ghost_forces(of_large - of_small, crystal, region, reach))
    return tuple(found)


async def stability(
    run: Distillation,
    data: ReferenceData,
    label: str,
    model: Path,
    command: tuple[str, ...],
) -> StabilityTest | None:
    """MD of the crystal by a small expert; None if the recipe wants no test."""
    hold, soft = run.recipe.hold, run.recipe.soft
    if not hold.ps:
        return None
    sites = nvt.oriented_for_ipi(
        repeated(data.crystal, repeats_for_atoms(data.crystal, soft.atoms))
    )
    structures = [data.labels(name).structure for name in data.training]
    hot = (s.positions for s in structures if s.kind == "hot" and len(s) == len(sites))
    limit = displacement_limit(hot, sites)

    async def compute(step: Step) -> StabilityTest:
        file = step.folder / _TRIAL
        if not step.done:
            for left in step.folder.glob("md"):  # by an interrupted start
                shutil.rmtree(left)
            md = step.folder / "md"
            md.mkdir()
            workers = cheap_workers(run.project, command, run.folder / "workers", count=_WORKERS)
            progress = run.step_progress(step.name)
            async with workers as dispatcher:
                outcomes = await run_stability_test(
                    hold, soft, sites, dispatcher, md, limit=limit, progress=progress
                )
            test = StabilityTest(
                temperature=temperature(hold, soft),
                ps=hold.ps,
                broke=tuple(outcome.broke_ps for outcome in outcomes),
            )
            file.write_bytes(msgspec.json.encode(test))
        return msgspec.json.decode(file.read_bytes(), type=StabilityTest)

    settings = {"hold": hold, "soft": soft, "most": round(limit, 6)}
    return await run.run.execute(
        Stage(f"hold-{label}", settings, compute, needs=("crystal",), files={"model": model})
    )
