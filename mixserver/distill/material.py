"""What the expensive model is asked once for all fits: the crystal and all labels.

Steps in the run folder, each done once: crystal, hot, soft, hard, partition. Questions go through
the dispatcher; nothing is fitted here.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec
import numpy as np
import structlog
from ase import Atoms
from ase.neighborlist import neighbor_list

from mixserver.crystal.asking import asking
from mixserver.crystal.inside import force_constants, relaxed_inside
from mixserver.crystal.portrait import Portrait, portrait
from mixserver.crystal.supercell import for_atoms, repeated
from mixserver.dispatch.dispatcher import Dispatcher
from mixserver.distill.answers import Answers, telling
from mixserver.distill.folder import RunFolder, Stage
from mixserver.distill.given import given_structures
from mixserver.distill.hard import PERFECT, as_structure, names, strained
from mixserver.distill.hot import sample
from mixserver.distill.labelled import Labelled, Structure, load_labelled
from mixserver.distill.labels import label
from mixserver.distill.partition import one_hot
from mixserver.distill.partition_strain import one_hot_names
from mixserver.distill.reading import Order
from mixserver.distill.stability import LARGEST
from mixserver.distill.structures import soft_structures
from mixserver.distill.suitable import not_weighted, refuse_unsuitable
from mixserver.errors import ConfigError
from mixserver.frame import Frame, Topology
from mixserver.wire.worker import ModelCard

log = structlog.get_logger(__name__)

Show = Callable[[str, int, int], None]
"""Told (step, done, total)."""

_VACANCY: Final = 200
"""Atoms of the supercell for the vacancy."""
_SECONDS: Final = "seconds.json"


@dataclass(frozen=True, eq=False)
class Material:
    """Everything the expensive model said."""

    card: ModelCard
    portrait: Portrait
    crystal: Frame
    """At rest."""
    soft: tuple[str, ...]
    """Names of hot, strained, vacancy and given structures."""
    hard: tuple[str, ...]
    """Names of the perfect cell and its strains."""
    partition: str
    """Name of the structure that shows the perfect crystal's partition; "" if there is none."""
    files: dict[str, Path]
    """Labels of all of them."""
    reach: float
    """Å, how far the site energies of any of the models look."""
    nearest: float
    """Å, the least distance of two atoms in the soft set."""
    seconds: dict[str, float]
    notes: tuple[str, ...] = ()
    """What a reader of the report must know."""

    def labels(self, name: str) -> Labelled:
        """What the model says of a structure."""
        return load_labelled(self.files[name])


async def material(
    order: Order, run: RunFolder, dispatcher: Dispatcher, show: Show, *, cheap_reach: float
) -> Material:
    """Ask the expensive model everything, or read what it said before.

    Args:
        order: the distillation.
        run: its folder.
        dispatcher: has the expensive model.
        show: told how far it is.
        cheap_reach: Å, how far the cheap models look, at most.

    Raises:
        ConfigError: no bulk crystal, or the model is not stable at a temperature asked for.
        MixserverError: the model cannot be asked.
    """
    recipe = order.recipe
    card = await dispatcher.card("expensive")
    refuse_unsuitable(order, card)
    notes = _said(not_weighted(order, card))
    model = {"model": card.fingerprint}
    seconds: dict[str, float] = {}

    stage = run.step(
        "crystal", {**model, "vacancy": _VACANCY}, files={"structure": order.structure}
    )
    file = stage.folder / "portrait.json"
    with _timed(stage, seconds):
        if not stage.done:
            ask = telling(asking(dispatcher, "expensive"), Answers(show, stage.name).one)
            made = await portrait(ask, order.crystal, vacancy=_VACANCY, progress=_step(show, stage))
            file.write_bytes(msgspec.json.format(msgspec.json.encode(made)))
    seen = _portrait(file)
    if not seen.stable:
        raise ConfigError(
            f"{card.name} is not stable in the crystal of {order.structure}: a strain or a phonon "
            f"lowers its energy (phonons {_lowest(seen):.2f} THz). It cannot be distilled there; "
            "give the structure it prefers, or a better model"
        )
    crystal = seen.crystal(order.crystal)

    hot = run.step("hot", {**model, "soft": _sampling(order)}, needs=["crystal"])
    supercell = repeated(crystal, for_atoms(crystal, recipe.soft.atoms))
    with _timed(hot, seconds):
        snapshots = await sample(
            recipe.soft, supercell, dispatcher, hot.folder, progress=_step(show, hot)
        )

    groups = recipe.partition.groups if card.weights else 1
    soft = run.step(
        "soft", {**model, "groups": groups, "soft": recipe.soft}, needs=["crystal", "hot"]
    )
    structures = soft_structures(snapshots, recipe.soft, groups)
    with _timed(soft, seconds):
        found = await label(structures, dispatcher, soft.folder, progress=_step(show, soft))
    files = {labelled.structure.name: _file(soft, labelled.structure.name) for labelled in found}
    if order.given:
        kept, told = await _given(order, run, dispatcher, groups, model, show, seconds)
        found += kept
        notes += told
        given = order.folder / "given"
        files |= {one.structure.name: given / f"{one.structure.name}.npz" for one in kept}
    nearest = min(nearest_of(labelled.structure) for labelled in found)
    soft_names = tuple(files)

    hard = run.step("hard", {**model, "strain": recipe.hard.strain}, needs=["crystal"])
    with _timed(hard, seconds):
        files |= await _hard(hard, crystal, recipe.hard.strain, dispatcher, _step(show, hard))
    hard_names = tuple(name for name in files if name not in soft_names)

    reach, division = max(cheap_reach, card.receptive_field or 0.0), ""
    if card.weights and card.receptive_field and recipe.partition.regions:
        division, more = await _partition(
            order, run, dispatcher, crystal, reach, files, model, show, seconds
        )
        files |= more
    return Material(
        card=card,
        portrait=seen,
        crystal=crystal,
        soft=soft_names,
        hard=hard_names,
        partition=division,
        files=files,
        reach=reach,
        nearest=nearest,
        seconds=seconds,
        notes=tuple(notes),
    )


async def _given(
    order: Order,
    run: RunFolder,
    dispatcher: Dispatcher,
    groups: int,
    model: dict[str, str],
    show: Show,
    seconds: dict[str, float],
) -> tuple[list[Labelled], list[str]]:
    """Label the user's frames.

    Returns:
        Those that can be fitted, and in words why others cannot.
    """
    recipe = order.recipe
    settings = {**model, "groups": groups, "most": recipe.given.most, "seed": recipe.soft.seed}
    read = {str(file): file for file in order.given}
    # on a thread: files may be long, and workers that hear nothing take the server for dead
    stage = await asyncio.to_thread(run.step, "given", settings, files=read)
    structures = given_structures(order.frames, groups, recipe.soft.seed)
    with _timed(stage, seconds):
        labelled = await label(structures, dispatcher, stage.folder, progress=_step(show, stage))
    kept, told = [], []
    for frame, one in zip(order.frames, labelled, strict=True):
        largest = float(np.linalg.norm(one.forces.sum(axis=0), axis=1).max())
        if largest <= LARGEST:
            kept.append(one)
            continue
        told.append(
            f"{frame.where} was left out: a force of {largest:.0f} eV/Å, above {LARGEST:g} eV/Å, "
            "would outweigh all others"
        )
        log.warning("given frame left out", because=told[-1])
    return kept, told


async def _partition(
    order: Order,
    run: RunFolder,
    dispatcher: Dispatcher,
    crystal: Frame,
    reach: float,
    files: dict[str, Path],
    model: dict[str, str],
    show: Show,
    seconds: dict[str, float],
) -> tuple[str, dict[str, Path]]:
    """Label what shows how the perfect crystal's energy is divided, and the strained ones'.

    Returns:
        The name of the first, and the files of all.
    """
    stage = run.step("partition", {**model, "reach": reach}, needs=["crystal"])
    structure = one_hot(crystal, reach)
    with _timed(stage, seconds):
        await label([structure], dispatcher, stage.folder, progress=_step(show, stage))
    found = {structure.name: _file(stage, structure.name)}
    if order.recipe.partition.strain:
        stage = run.step("strains", {**model, "reach": reach}, needs=["crystal", "hard"])
        with _timed(stage, seconds):
            found |= await _strains(stage, files, reach, dispatcher, _step(show, stage))
    return structure.name, found


async def _strains(
    stage: Stage,
    files: dict[str, Path],
    reach: float,
    dispatcher: Dispatcher,
    told: Callable[..., None],
) -> dict[str, Path]:
    """Label one-hot supercells of the strained cells."""
    structures = []
    for name, (cell, _, _) in one_hot_names().items():
        unit = load_labelled(files[cell]).structure
        frame = Topology(unit.numbers).frame(unit.positions, unit.cell)
        structures.append(dataclasses.replace(one_hot(frame, reach), name=name))
    await label(structures, dispatcher, stage.folder, progress=told)
    return {structure.name: _file(stage, structure.name) for structure in structures}


async def _hard(
    stage: Stage, crystal: Frame, size: float, dispatcher: Dispatcher, told: Callable[..., None]
) -> dict[str, Path]:
    """Relax the atoms of strained cells, and label them."""
    listed = list(names())
    files = {PERFECT: _file(stage, PERFECT)}
    files |= {name: _file(stage, name) for name, _, _ in listed}
    if all(file.exists() for file in files.values()):
        return files
    ask = asking(dispatcher, "expensive")
    springs = await force_constants(ask, crystal)
    structures: list[Structure] = [as_structure(PERFECT, crystal)]
    for name, kind, sign in listed:
        frame = strained(crystal, kind, sign * size)
        structures.append(as_structure(name, await relaxed_inside(ask, frame, springs)))
    # cells relaxed again differ in the last digits, so what was left of them is not kept
    for file in files.values():
        file.unlink(missing_ok=True)
    await label(structures, dispatcher, stage.folder, progress=told)
    return files


def _sampling(order: Order) -> dict[str, object]:
    """Those settings of the soft set that trajectories depend on."""
    soft: dict[str, object] = msgspec.to_builtins(order.recipe.soft)
    return {k: v for k, v in soft.items() if k not in ("strained", "strain", "vacancies")}


def _portrait(file: Path) -> Portrait:
    try:
        return msgspec.json.decode(file.read_bytes(), type=Portrait)
    except (OSError, msgspec.MsgspecError) as error:
        raise ConfigError(
            f"{file} cannot be read ({error}); delete the folder {file.parent}, and it is made "
            "again"
        ) from error


def _said(words: str) -> list[str]:
    """The words, if there are any, after they were shown."""
    if not words:
        return []
    log.warning("no ghost forces", because=words)
    return [words]


def _lowest(seen: Portrait) -> float:
    return min((min(values) for values in seen.phonons.values()), default=0.0)


def _file(stage: Stage, name: str) -> Path:
    return stage.folder / f"{name}.npz"


def nearest_of(structure: Structure) -> float:
    """Å, the least distance of two atoms."""
    atoms = Atoms(
        numbers=structure.numbers, positions=structure.positions, cell=structure.cell, pbc=True
    )
    for cutoff in (3.0, 6.0, 12.0):
        distances = neighbor_list("d", atoms, cutoff)
        if len(distances):
            return float(np.min(distances))
    return 12.0


def _step(show: Show, stage: Stage) -> Callable[[int, int], None]:
    return lambda done, total: show(stage.name, done, total)


class _timed:  # noqa: N801 - a context, used like a function
    """Finishes a step at its end, and keeps how long it took over all times it was taken up."""

    def __init__(self, stage: Stage, seconds: dict[str, float]) -> None:
        self._stage, self._seconds = stage, seconds
        self._file = stage.folder / _SECONDS

    def __enter__(self) -> None:
        self._began = time.monotonic()
        self._before = 0.0
        # a kill may have left a file without a number; how long it took is no reason to stop
        with contextlib.suppress(OSError, ValueError):
            self._before = float(self._file.read_text())

    def __exit__(self, kind: object, *rest: object) -> None:
        total = self._before
        if not self._stage.done:
            total += time.monotonic() - self._began
            self._file.write_text(f"{total:.3f}\n")
            if kind is None:
                self._stage.finish()
        self._seconds[self._stage.name] = total
