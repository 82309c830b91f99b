"""Asking the expensive model about structures, group by group, and keeping what it says.

One weighted evaluation per group: site weight 1 on its atoms, 0 elsewhere. Whoever answers is up
to the dispatcher, which also refuses what is not finite. What was labelled already is not asked
again.
"""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import numpy as np

from mixserver.dispatch.dispatcher import Dispatcher
from mixserver.distill.labelled import Labelled, Structure, load_labelled
from mixserver.distill.masks import undivided
from mixserver.errors import ConfigError
from mixserver.wire.worker import Evaluate, Role

Progress = Callable[[int, int], None]
"""Told (done, total)."""

_ROLE: Final[Role] = "expensive"
_STREAM: Final = 1000
"""Labels' streams begin here: engines are not to mistake them for a trajectory's."""


async def label(
    structures: Sequence[Structure],
    dispatcher: Dispatcher,
    folder: Path,
    *,
    progress: Progress | None = None,
) -> list[Labelled]:
    """Label structures; what is done is saved at once, and not done again.

    Args:
        structures: what to ask about; names are different.
        dispatcher: has a worker for the role expensive, sooner or later.
        folder: exists; gets NAME.npz of each structure.
        progress: told how many structures are done, at the beginning and after each.

    Returns:
        One label per structure, in the same order. Where the model cannot weight sites the
        structures are not divided.

    Raises:
        ConfigError: two structures share a name, or a file of `folder` is of another structure.
        BadInput: the model refuses a structure.
        NoWorkerError: nobody is left to ask.
    """
    _refuse_twins(structures)
    card = await dispatcher.card(_ROLE)
    wanted = [structure if card.weights else whole(structure) for structure in structures]
    files = [folder / f"{structure.name}.npz" for structure in wanted]
    found = [_known(file, structure) for file, structure in zip(files, wanted, strict=True)]
    done = sum(labelled is not None for labelled in found)
    if progress is not None:
        progress(done, len(wanted))

    async def fill(at: int) -> None:
        nonlocal done
        labelled = await ask(wanted[at], dispatcher, stream=_STREAM + at)
        labelled.save(files[at])
        found[at] = labelled
        done += 1
        if progress is not None:
            progress(done, len(wanted))

    tasks = [asyncio.create_task(fill(at)) for at, known in enumerate(found) if known is None]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    return [labelled for labelled in found if labelled is not None]


async def ask(structure: Structure, dispatcher: Dispatcher, *, stream: int = _STREAM) -> Labelled:
    """Label one structure.

    Args:
        structure: if it is divided, the model must be able to weight sites.
        dispatcher: has a worker for the role expensive.
        stream: tells engines which questions are of the same atoms.

    Raises:
        BadInput: the model refuses it.
        NoWorkerError: nobody is left to ask.
    """
    count = structure.groups
    plain = Evaluate(
        job=0,
        stream=stream,
        positions=np.ascontiguousarray(structure.positions),
        numbers=np.ascontiguousarray(structure.numbers, dtype=np.int32),
        cell=np.ascontiguousarray(structure.cell),
        pbc=(True, True, True),
    )
    questions: list[tuple[Role, Evaluate]] = [(_ROLE, plain)]
    if count > 1:
        questions = [(_ROLE, _weighted(plain, structure, group)) for group in range(count)]
    results = [reply.result for reply in await dispatcher.run(questions)]
    return Labelled(
        structure,
        np.array([result.energy for result in results]),
        np.stack([result.forces for result in results]),
        np.stack([result.virial for result in results]),
    )


def whole(structure: Structure) -> Structure:
    """The same structure, not divided."""
    return dataclasses.replace(structure, group=undivided(len(structure)))


def _weighted(plain: Evaluate, structure: Structure, group: int) -> Evaluate:
    return Evaluate(
        job=0,
        stream=plain.stream,
        positions=plain.positions,
        numbers=plain.numbers,
        cell=plain.cell,
        pbc=plain.pbc,
        weight=(structure.group == group).astype(np.float64),
    )


def _known(file: Path, structure: Structure) -> Labelled | None:
    """What was labelled earlier; None if nothing was."""
    if not file.exists():
        return None
    labelled = load_labelled(file)
    theirs = labelled.structure
    same = (
        np.array_equal(theirs.numbers, structure.numbers)
        and np.array_equal(theirs.positions, structure.positions)
        and np.array_equal(theirs.cell, structure.cell)
        and np.array_equal(theirs.group, structure.group)
        and len(labelled.energy) == structure.groups
    )
    if not same:
        raise ConfigError(
            f"{file} labels another structure than the {structure.name} of this distillation; "
            "delete it, and it is made again"
        )
    return labelled


def _refuse_twins(structures: Sequence[Structure]) -> None:
    names = [structure.name for structure in structures]
    twins = sorted({name for name in names if names.count(name) > 1})
    if twins:
        raise ConfigError(f"structures need names of their own; several are {', '.join(twins)}")
