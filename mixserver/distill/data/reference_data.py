"""Reference data: everything the expensive model computes once, before the first fit.

Stages, each kept in a step of the run folder: crystal, hot, soft, given, hard, partition, strains.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec
import numpy as np
import structlog

from mixserver.analysis.bulk.evaluate import model_evaluator
from mixserver.analysis.bulk.force_constants import force_constants
from mixserver.analysis.bulk.properties import BulkProperties, bulk_properties
from mixserver.analysis.bulk.relaxation import relax_atoms
from mixserver.analysis.bulk.supercell import repeated, repeats_for_atoms
from mixserver.core.errors import ConfigError
from mixserver.core.frame import Frame
from mixserver.distill.config.model_requirements import check_model, missing_site_weights
from mixserver.distill.context import Distillation
from mixserver.distill.data.energy_partition import one_hot
from mixserver.distill.data.labels import LabelledStructure, Structure, load_labels
from mixserver.distill.data.md_sampling import Snapshot, sample
from mixserver.distill.data.melting import LARGEST
from mixserver.distill.data.perturbations import soft_structures
from mixserver.distill.data.strain_set import PERFECT, names, strained_cell
from mixserver.distill.data.strained_partition import one_hot_names
from mixserver.distill.data.user_structures import user_structures
from mixserver.distill.progress import EvaluationCounter
from mixserver.distill.step_cache import Stage, Step
from mixserver.geometry import shortest_distance
from mixserver.wire.worker import ModelCard

log = structlog.get_logger(__name__)

_VACANCY_ATOMS: Final = 200
"""Atoms of the supercell for the vacancy."""
_SAMPLING_IGNORES: Final = ("strained", "strain", "vacancies")
"""Keys of [soft] on which trajectories do not depend."""


@dataclass(frozen=True, eq=False)
class ReferenceData:
    """The results of the expensive model."""

    card: ModelCard
    bulk: BulkProperties
    crystal: Frame
    """Relaxed."""
    training: tuple[str, ...]
    """Names of the structures for training and testing: hot, strained, vacancy, user's."""
    strain_set: tuple[str, ...]
    """Names of the perfect cell and its small strains."""
    partition: str
    """Name of the structure that gives the perfect crystal's site energies; "" if there is none."""
    files: Mapping[str, Path]
    """Label files of all of them."""
    reach: float
    """Å, the longest receptive field of any of the models' site energies."""
    nearest: float
    """Å, the shortest distance between two atoms in the training structures."""
    notes: tuple[str, ...] = ()
    """Remarks for the report."""

    def labels(self, name: str) -> LabelledStructure:
        """Read the labels of a structure."""
        return load_labels(self.files[name])

    def with_training(self, labelled: Sequence[LabelledStructure], folder: Path) -> ReferenceData:
        """The same with more training structures, whose label files are in a folder."""
        more = label_files(folder, labelled)
        distances = (shortest_distance(one.structure.frame) for one in labelled)
        return dataclasses.replace(
            self,
            training=(*self.training, *more),
            files={**self.files, **more},
            nearest=min([self.nearest, *distances]),
        )


async def collect_reference_data(run: Distillation, *, cheap_reach: float) -> ReferenceData:
    """Run all stages, or read the results of an earlier start.

    `cheap_reach` is the longest receptive field (Å) of the cheap models.

    Raises:
        ConfigError: no bulk crystal, or the model is not stable at a requested temperature.
        MixserverError: the model cannot be evaluated.
    """
    card = await run.expensive.card("expensive")
    check_model(run.project, card)
    no_weights = missing_site_weights(run.project, card)
    if no_weights:
        log.warning("no ghost forces", reason=no_weights)
    stages = _Stages(run, card)
    execute = run.run.execute

    properties = await execute(stages.crystal())
    _check_stability(properties, run, card)
    crystal = properties.crystal(run.project.crystal)
    snapshots = await execute(stages.hot(crystal))
    data = ReferenceData(
        card=card,
        bulk=properties,
        crystal=crystal,
        training=(),
        strain_set=(),
        partition="",
        files={},
        reach=max(cheap_reach, card.receptive_field or 0.0),
        nearest=np.inf,
    )
    data = data.with_training(await execute(stages.soft(snapshots)), run.folder / "soft")
    left_out: tuple[str, ...] = ()
    if run.project.given:
        kept, left_out = await execute(stages.given())
        data = data.with_training(kept, run.folder / "given")
    strain_set = await execute(stages.hard(crystal))
    data = dataclasses.replace(
        data,
        strain_set=tuple(strain_set),
        files={**data.files, **strain_set},
        notes=(*filter(None, [no_weights]), *left_out),
    )
    if not (card.weights and card.receptive_field and run.recipe.partition.regions):
        return data
    files = await execute(stages.partition(crystal, data.reach))
    (partition,) = files
    if run.recipe.partition.strain:
        files |= await execute(stages.strains(data))
    return dataclasses.replace(data, partition=partition, files={**data.files, **files})


def label_files(folder: Path, labelled: Sequence[LabelledStructure]) -> dict[str, Path]:
    """The label files in a folder, by the names of their structures."""
    return {one.structure.name: folder / f"{one.structure.name}.npz" for one in labelled}


class _Stages:
    """The stages of one distillation with one expensive model."""

    def __init__(self, run: Distillation, card: ModelCard) -> None:
        self._run, self._recipe, self._card = run, run.recipe, card
        self._model = {"model": card.fingerprint}
        self._groups = run.recipe.partition.groups if card.weights else 1

    def crystal(self) -> Stage[BulkProperties]:
        """Relax the crystal and compute its bulk properties."""

        async def compute(step: Step) -> BulkProperties:
            file = step.folder / "portrait.json"
            if not step.done:
                run = self._run
                counter = EvaluationCounter(run.progress, step.name)
                made = await bulk_properties(
                    counter.counted(model_evaluator(run.expensive, "expensive")),
                    run.project.crystal,
                    vacancy=_VACANCY_ATOMS,
                    progress=run.step_progress(step.name),
                )
                file.write_bytes(msgspec.json.format(msgspec.json.encode(made)))
            return _read_properties(file)

        settings = {**self._model, "vacancy": _VACANCY_ATOMS}
        return Stage("crystal", settings, compute, files={"structure": self._run.project.structure})

    def hot(self, crystal: Frame) -> Stage[list[Snapshot]]:
        """Sample the crystal in MD at all temperatures."""
        soft = self._recipe.soft

        async def compute(step: Step) -> list[Snapshot]:
            return await sample(
                soft,
                repeated(crystal, repeats_for_atoms(crystal, soft.atoms)),
                self._run.expensive,
                step.folder,
                progress=self._run.step_progress(step.name),
            )

        sampling = msgspec.to_builtins(soft)
        for key in _SAMPLING_IGNORES:
            del sampling[key]
        return Stage("hot", {**self._model, "soft": sampling}, compute, needs=("crystal",))

    def soft(self, snapshots: Sequence[Snapshot]) -> Stage[list[LabelledStructure]]:
        """Label snapshots, strained ones and ones with a vacancy."""

        async def compute(step: Step) -> list[LabelledStructure]:
            made = soft_structures(snapshots, self._recipe.soft, self._groups)
            return await self._run.labelled(step, made)

        settings = {**self._model, "groups": self._groups, "soft": self._recipe.soft}
        return Stage("soft", settings, compute, needs=("crystal", "hot"))

    def given(self) -> Stage[tuple[list[LabelledStructure], tuple[str, ...]]]:
        """Label the user's frames; those that cannot be fitted are left out, with a sentence."""
        frames, seed = self._run.project.frames, self._recipe.soft.seed

        async def compute(step: Step) -> tuple[list[LabelledStructure], tuple[str, ...]]:
            labelled = await self._run.labelled(step, user_structures(frames, self._groups, seed))
            kept, notes = [], []
            for frame, one in zip(frames, labelled, strict=True):
                largest = float(np.linalg.norm(one.forces.sum(axis=0), axis=1).max())
                if largest <= LARGEST:
                    kept.append(one)
                    continue
                notes.append(
                    f"{frame.where} was left out: a force of {largest:.0f} eV/Å, above "
                    f"{LARGEST:g} eV/Å, would outweigh all others"
                )
                log.warning("user structure left out", reason=notes[-1])
            return kept, tuple(notes)

        most = self._recipe.given.most
        settings = {**self._model, "groups": self._groups, "most": most, "seed": seed}
        files = {str(file): file for file in self._run.project.given}
        return Stage("given", settings, compute, files=files)

    def hard(self, crystal: Frame) -> Stage[dict[str, Path]]:
        """Relax the atoms of the strained cells, and label the cells."""
        size, cells = self._recipe.hard.strain, list(names())

        async def compute(step: Step) -> dict[str, Path]:
            listed = (PERFECT, *(name for name, _, _ in cells))
            files = {name: step.folder / f"{name}.npz" for name in listed}
            if all(file.exists() for file in files.values()):
                return files
            evaluate = model_evaluator(self._run.expensive, "expensive")
            constants = await force_constants(evaluate, crystal)
            structures = [Structure.of(crystal, PERFECT, "hard")]
            for name, kind, sign in cells:
                frame = strained_cell(crystal, kind, sign * size)
                relaxed = await relax_atoms(evaluate, frame, constants)
                structures.append(Structure.of(relaxed, name, "hard"))
            # a second relaxation differs in the last digits, so all cells are labelled together
            for file in files.values():
                file.unlink(missing_ok=True)
            await self._run.labelled(step, structures)
            return files

        return Stage("hard", {**self._model, "strain": size}, compute, needs=("crystal",))

    def partition(self, crystal: Frame, reach: float) -> Stage[dict[str, Path]]:
        """Label the perfect crystal's site energies."""

        async def compute(step: Step) -> dict[str, Path]:
            return label_files(
                step.folder, await self._run.labelled(step, [one_hot(crystal, reach)])
            )

        return Stage("partition", {**self._model, "reach": reach}, compute, needs=("crystal",))

    def strains(self, data: ReferenceData) -> Stage[dict[str, Path]]:
        """Label the site energies of the strained cells."""

        async def compute(step: Step) -> dict[str, Path]:
            structures = [
                one_hot(data.labels(cell).structure.frame, data.reach, name)
                for name, (cell, _, _) in one_hot_names().items()
            ]
            return label_files(step.folder, await self._run.labelled(step, structures))

        settings = {**self._model, "reach": data.reach}
        return Stage("strains", settings, compute, needs=("crystal", "hard"))


def _check_stability(properties: BulkProperties, run: Distillation, card: ModelCard) -> None:
    if properties.stable:
        return
    lowest = min((min(values) for values in properties.phonons.values()), default=0.0)
    raise ConfigError(
        f"{card.name} is not stable in the crystal of {run.project.structure}: a strain or a "
        f"phonon lowers its energy (lowest phonon {lowest:.2f} THz), so it cannot be distilled "
        "there; give the structure that it prefers, or a better model"
    )


def _read_properties(file: Path) -> BulkProperties:
    try:
        return msgspec.json.decode(file.read_bytes(), type=BulkProperties)
    except (OSError, msgspec.MsgspecError) as error:
        raise ConfigError(
            f"{file} cannot be read ({error}); delete the folder {file.parent} to compute it again"
        ) from error
