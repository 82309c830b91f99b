"""Words of a distillation's results: recommendation, provenance, and notes for the report."""

from __future__ import annotations

from collections.abc import Sequence

from mixserver import __version__
from mixserver.analysis.checks.ghost_forces import NEGLIGIBLE
from mixserver.distill.config.load import DistillationProject
from mixserver.distill.data.reference_data import ReferenceData
from mixserver.distill.fitting.selection import SelectedFit
from mixserver.distill.report.values import hot_kind
from mixserver.distill.results import JUDGED_BLEND, Candidate
from mixserver.wire.descriptor import SnapDescriptor


def recommended(swept: Sequence[Candidate]) -> str:
    """The candidate with the least product of cost and force error.

    Among those that have a crystal, and negligible ghost forces in the judged blend if any has.
    """
    kind = hot_kind([errors.of for one in swept for errors in one.errors if "hot" in errors.of])
    ghosts = [(one, one.ghost(JUDGED_BLEND)) for one in swept]
    quiet = [one for one, ghost in ghosts if ghost and ghost.largest <= NEGLIGIBLE]
    scores = [
        (candidate.microseconds * error, candidate.label)
        for candidate in quiet or swept
        if candidate.microseconds is not None
        and candidate.bulk is not None
        and kind is not None
        and (error := candidate.forces(kind)) is not None
        and error > 0.0
    ]
    return min(scores)[1] if scores else ""


def provenance(
    project: DistillationProject, data: ReferenceData, descriptor: SnapDescriptor
) -> list[str]:
    """Lines for the head of the potential's files: where it comes from."""
    kelvin = ", ".join(f"{t:g}" for t in project.recipe.soft.temperatures)
    return [
        f"{project.recipe.name}: SNAP with 2J = {descriptor.twojmax}, {descriptor.cutoff:g} Å, by "
        f"mixserver {__version__} distill",
        f"from {data.card.name} ({data.card.fingerprint[:16]}), crystal at {kelvin} K; "
        f"recipe {project.file.name}",
    ]


def notes(data: ReferenceData, best: SelectedFit) -> tuple[str, ...]:
    """Remarks for the report."""
    solution = best.solution
    listed = [
        f"{solution.rank} independent constraints; {solution.redundant} more are redundant by "
        "symmetry",
        f"shortest distance between atoms in the structures: {data.nearest:.2f} Å; below it the "
        "potential extrapolates",
    ]
    if data.bulk.trouble:
        listed.append(f"expensive model: {data.bulk.trouble}")
    if not data.partition and data.card.weights:
        listed.append(
            "partition.regions is 0, or the expensive model does not report its receptive field: "
            "ghost forces are neither fitted nor reported"
        )
    return (*listed, *data.notes)


def pinned(project: DistillationProject) -> tuple[str, ...]:
    """The quantities that exact constraints fix."""
    hard = project.recipe.hard
    if hard.form != "exact":
        return ()
    return tuple(key for key in ("lattice", "elastic") if getattr(hard, key))
