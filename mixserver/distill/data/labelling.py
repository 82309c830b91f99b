"""Labelling: the expensive model evaluates structures group by group, and labels are kept in files.

One weighted evaluation per group: site weight 1 on its atoms, 0 elsewhere. The dispatcher chooses
the workers and rejects results that are not finite. Existing labels are not computed again.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np

from mixserver.analysis.bulk.evaluate import gather_all
from mixserver.core.arrays import Scalars
from mixserver.core.errors import ConfigError
from mixserver.dispatch.dispatcher import Dispatcher
from mixserver.distill.data.atom_groups import single_group
from mixserver.distill.data.labels import LabelledStructure, Structure, load_labels
from mixserver.distill.progress import StepProgress
from mixserver.mixing.jobs import whole_system_job
from mixserver.wire.worker import Role

_ROLE: Final[Role] = "expensive"
_STREAM: Final = 1000
"""First stream number of labels, so that engines do not take them for a trajectory."""


async def label_structures(
    structures: Sequence[Structure],
    dispatcher: Dispatcher,
    folder: Path,
    *,
    progress: StepProgress | None = None,
    role: Role = _ROLE,
) -> list[LabelledStructure]:
    """Label structures by the workers of a role; each label is saved at once and kept.

    The folder receives NAME.npz of each structure. If the model cannot weight sites, each structure
    is a single group.

    Raises:
        ConfigError: two structures share a name, or a file in `folder` is of another structure.
        BadInput: the model rejects a structure.
        NoWorkerError: no worker is left.
    """
    _check_names(structures)
    card = await dispatcher.card(role)
    wanted = [structure if card.weights else without_groups(structure) for structure in structures]
    files = [folder / f"{structure.name}.npz" for structure in wanted]
    found = [_read_existing(file, structure) for file, structure in zip(files, wanted, strict=True)]
    done = sum(labelled is not None for labelled in found)
    if progress is not None:
        progress(done, len(wanted))

    async def fill(at: int) -> None:
        nonlocal done
        labelled = await label_structure(wanted[at], dispatcher, stream=_STREAM + at, role=role)
        labelled.save(files[at])
        found[at] = labelled
        done += 1
        if progress is not None:
            progress(done, len(wanted))

    await gather_all(fill(at) for at, known in enumerate(found) if known is None)
    return [labelled for labelled in found if labelled is not None]


async def label_structure(
    structure: Structure, dispatcher: Dispatcher, *, stream: int = _STREAM, role: Role = _ROLE
) -> LabelledStructure:
    """Label one structure; for several groups the model must be able to weight sites.

    The stream tells engines which jobs have the same atoms.

    Raises:
        BadInput: the model rejects it.
        NoWorkerError: no worker is left.
    """
    weights: list[Scalars | None] = [None]
    if structure.groups > 1:
        weights = [(structure.group == k).astype(np.float64) for k in range(structure.groups)]
    frame = structure.frame
    jobs = [(role, whole_system_job(frame, stream=stream, weight=weight)) for weight in weights]
    results = [reply.result for reply in await dispatcher.run(jobs)]
    return LabelledStructure(
        structure,
        np.array([result.energy for result in results]),
        np.stack([result.forces for result in results]),
        np.stack([result.virial for result in results]),
    )


def without_groups(structure: Structure) -> Structure:
    """The same structure as a single group."""
    return dataclasses.replace(structure, group=single_group(len(structure)))


def _read_existing(file: Path, structure: Structure) -> LabelledStructure | None:
    """The label of an earlier start; None if there is none."""
    if not file.exists():
        return None
    labelled = load_labels(file)
    theirs = labelled.structure
    arrays = ("numbers", "positions", "cell", "group")
    same = all(np.array_equal(getattr(theirs, a), getattr(structure, a)) for a in arrays)
    if not same or len(labelled.energy) != structure.groups:
        raise ConfigError(
            f"{file} labels another structure than the {structure.name} of this distillation; "
            "delete it to compute it again"
        )
    return labelled


def _check_names(structures: Sequence[Structure]) -> None:
    names = Counter(structure.name for structure in structures)
    repeated = sorted(name for name, count in names.items() if count > 1)
    if repeated:
        raise ConfigError(f"names of structures must be unique; repeated: {', '.join(repeated)}")
