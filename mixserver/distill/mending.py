"""Fitting until the crystal holds: what breaks is labelled, fitted, and tried again.

Each round is two steps of the run folder, hold-N (the dynamics) and lost-N (labels of what broke).
"""

from __future__ import annotations

import dataclasses
import shutil
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

import msgspec
import numpy as np
import structlog
from ase import Atoms
from ase.io import read, write

from mixserver.crystal.supercell import for_atoms, repeated
from mixserver.dispatch.dispatcher import Dispatcher
from mixserver.distill import nvt
from mixserver.distill.folder import RunFolder, Stage
from mixserver.distill.hard import as_structure
from mixserver.distill.holding import Fate, farthest, held, temperature
from mixserver.distill.labelled import Structure
from mixserver.distill.labels import label
from mixserver.distill.material import Material, nearest_of
from mixserver.distill.pool import cheap_workers
from mixserver.distill.reading import Order
from mixserver.distill.results import Trial
from mixserver.distill.stability import LARGEST
from mixserver.distill.structures import divided
from mixserver.frame import Frame, Topology

log = structlog.get_logger(__name__)

Show = Callable[[str, int, int], None]
Fit = Callable[[Material], Awaitable[Path]]
"""Fits what is known, and writes a file of LAMMPS commands beside the files it names."""

_WORKERS: Final = 2
_TRIAL: Final = "trial.json"
_LOST: Final = "lost.xyz"
_CLOSEST: Final = 0.7
"""Of the nearest neighbours' distance: frames with atoms closer than this say little of crystals,
and would take pair functions from where they are needed."""
_PURPOSE: Final = 4
"""What random numbers are for, after those of the soft and the given set."""


async def mended(
    order: Order,
    run: RunFolder,
    known: Material,
    expensive: Dispatcher,
    fit: Fit,
    show: Show,
) -> tuple[Material, list[Trial]]:
    """Fit until the crystal holds, or as often as the recipe allows.

    Args:
        order: the distillation.
        run: its folder.
        known: what the expensive model said so far.
        expensive: has the expensive model.
        fit: fits.
        show: told how far it is.

    Returns:
        What the expensive model said, with everything that broke; and what became of each fit, the
        last one included.
    """
    hold = order.recipe.hold
    if not hold.ps:
        return known, []
    sites = nvt.oriented(repeated(known.crystal, for_atoms(known.crystal, order.recipe.soft.atoms)))
    hot = [known.labels(name).structure for name in known.soft]
    most = farthest((s.positions for s in hot if s.kind == "hot" and len(s) == len(sites)), sites)
    trials: list[Trial] = []
    for number in range(1, hold.rounds + 2):
        commands = await fit(known)
        files = {file.name: file for file in sorted(commands.parent.glob(f"{commands.stem}.*"))}
        stage = run.step(
            f"hold-{number}",
            {"hold": hold, "soft": order.recipe.soft, "most": round(most, 9)},
            needs=["crystal"],
            files=files,
        )
        began = time.monotonic()
        if not stage.done:
            await _moved(order, stage, commands, sites, most, show)
            stage.finish()
        trial = msgspec.json.decode((stage.folder / _TRIAL).read_bytes(), type=Trial)
        lost = stage.folder / _LOST
        if lost.exists() and number <= hold.rounds:
            known, count = await _learned(order, run, number, known, lost, expensive, show)
            trial = msgspec.structs.replace(trial, frames=count)
        trials.append(trial)
        known.seconds[f"hold {number}"] = time.monotonic() - began
        if not trial.frames:
            break
    return known, trials


async def _moved(
    order: Order, stage: Stage, commands: Path, sites: Frame, most: float, show: Show
) -> None:
    """Let the cheap potential move the crystal, and write down what became of it."""
    recipe = order.recipe
    for left in stage.folder.iterdir():  # of a start that was killed
        if left.is_dir():
            shutil.rmtree(left)
    workers = order.folder / "workers"
    async with cheap_workers(order, commands, workers, count=_WORKERS) as dispatcher:
        fates = await held(
            recipe.hold,
            recipe.soft,
            sites,
            dispatcher,
            stage.folder,
            most=most,
            told=lambda done, total: show(stage.name, done, total),
        )
    frames = [atoms for fate in fates for atoms in _as_atoms(fate)]
    lost = stage.folder / _LOST
    lost.unlink(missing_ok=True)
    if frames:
        write(lost, frames, format="extxyz")
    trial = Trial(
        temperature=temperature(recipe.hold, recipe.soft),
        ps=recipe.hold.ps,
        broke=tuple(fate.broke_ps for fate in fates),
    )
    (stage.folder / _TRIAL).write_bytes(msgspec.json.encode(trial))
    if frames:
        log.warning("the crystal does not hold", kelvin=trial.temperature, after_ps=trial.broke)


def _as_atoms(fate: Fate) -> list[Atoms]:
    return [
        Atoms(
            frame.topology.numbers,
            frame.positions,
            cell=frame.cell,
            pbc=True,
            info={"temperature": fate.temperature, "copy": fate.copy, "broke_ps": fate.broke_ps},
        )
        for frame in fate.frames
    ]


async def _learned(
    order: Order,
    run: RunFolder,
    number: int,
    known: Material,
    lost: Path,
    expensive: Dispatcher,
    show: Show,
) -> tuple[Material, int]:
    """What the expensive model says of frames that broke, and how many of them can be used."""
    groups = order.recipe.partition.groups if known.card.weights else 1
    stage = run.step(
        f"lost-{number}",
        {"model": known.card.fingerprint, "groups": groups, "seed": order.recipe.soft.seed},
        needs=[f"hold-{number}"],
    )
    structures = _structures(number, lost, groups, order.recipe.soft.seed)
    closest = _CLOSEST * nearest_of(as_structure("perfect", known.crystal))
    structures = [structure for structure in structures if nearest_of(structure) >= closest]
    found = await label(
        structures,
        expensive,
        stage.folder,
        progress=lambda done, total: show(stage.name, done, total),
    )
    if not stage.done:
        stage.finish()
    kept = [one for one in found if float(np.abs(one.forces.sum(axis=0)).max()) <= LARGEST]
    files = {one.structure.name: stage.folder / f"{one.structure.name}.npz" for one in kept}
    return (
        dataclasses.replace(
            known,
            soft=(*known.soft, *files),
            files=known.files | files,
            nearest=min([known.nearest, *(nearest_of(one.structure) for one in kept)]),
        ),
        len(kept),
    )


def _structures(number: int, lost: Path, groups: int, seed: int) -> list[Structure]:
    """The frames of a file, but those in which atoms are on top of each other."""
    made = []
    for at, atoms in enumerate(read(lost, index=":")):
        topology = Topology(np.asarray(atoms.numbers, dtype=np.int32))
        frame = topology.frame(
            np.asarray(atoms.positions, dtype=np.float64), np.array(atoms.cell[:])
        )
        made.append(
            Structure(
                f"lost{number}-{at:03d}",
                "lost",
                topology.numbers,
                frame.positions,
                frame.cell,
                divided(frame, groups, (seed, _PURPOSE + number, at)),
            )
        )
    return made
