"""The pipeline of a co-training: from a recipe to two models and a report.

Large expert alone (where it has no model), bulk structures from its MD, both together, a control
without agreement, report. A stopped start goes on where it stopped.
"""

from __future__ import annotations

import asyncio
import contextlib
import shutil
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec
import numpy as np
from ase.io import write

from mixserver.core.labels import element_symbols
from mixserver.core.structures import as_atoms
from mixserver.cotrain.config.load import CotrainingProject, worker_command
from mixserver.cotrain.config.schema import Expert
from mixserver.cotrain.judging import compared, stability
from mixserver.cotrain.training import run_training
from mixserver.distill.context import Distillation
from mixserver.distill.data.reference_data import ReferenceData, collect_reference_data
from mixserver.distill.data.splits import split_structures
from mixserver.distill.progress import Progress
from mixserver.distill.recipe_workers import expensive_workers
from mixserver.distill.report import write_report
from mixserver.distill.results import Curve, Parity, Result
from mixserver.distill.step_cache import RunFolder, Stage, Step, open_folder
from mixserver.distill.validation.benchmark import WrittenCandidate, benchmark
from mixserver.wire.training import Agreement, ExpertJob, Finished, Keys, TrainingJob

_TIED: Final = "co-trained"
_CONTROL: Final = "control"
_NOT_THE_RESULT: Final = ("threads", "checkpoint")
"""Keys of [training] that do not change what comes out."""


@dataclass(frozen=True, slots=True)
class CotrainingOutput:
    """The output of a co-training."""

    large: Path
    small: Path
    report: Path
    """HTML."""
    result: Result


@dataclass(frozen=True, slots=True)
class _Trained:
    """Two models, and how they came about."""

    large: Path
    small: Path
    finished: Finished


async def cotrain(
    project: CotrainingProject, progress: Progress, tell: Callable[[str], None]
) -> CotrainingOutput:
    """Train a small expert that agrees with a large one on the bulk, and report.

    `tell` gets a line of text for each epoch.

    Raises:
        ConfigError: the recipe, the data, the models or the crystal do not allow it.
        MixserverError: workers or the training failed.
    """
    with open_folder(project.folder) as run:
        return await _Pipeline(project, run, progress, tell).execute()


class _Pipeline:
    """The stages; each takes and returns values."""

    def __init__(
        self,
        project: CotrainingProject,
        run: RunFolder,
        progress: Progress,
        tell: Callable[[str], None],
    ) -> None:
        self._project, self._run, self._progress, self._tell = project, run, progress, tell
        self._recipe = project.recipe

    async def execute(self) -> CotrainingOutput:
        """Run all stages, and write the models and the report."""
        recipe = self._recipe
        environments: list[Path] = list(self._project.paths(recipe.agreement.data))
        first: Path | None = None
        if recipe.large.model:
            (first,) = self._project.paths((recipe.large.model,))
        if recipe.agreement.md:
            if first is None:
                first = await self._alone()
            environments.insert(0, await self._environments(first))
        tied = await self._together(first, environments)
        control = await self._untied(tied, environments) if recipe.control else None
        for role, file in (("large", tied.large), ("small", tied.small)):
            shutil.copyfile(file, self._run.folder / f"{recipe.name}-{role}.model")
        result = await self._judge(tied, control, same=tied.large == first)
        report = await asyncio.to_thread(write_report, result, self._run.folder)
        return CotrainingOutput(
            large=self._run.folder / f"{recipe.name}-large.model",
            small=self._run.folder / f"{recipe.name}-small.model",
            report=report,
            result=result,
        )

    async def _alone(self) -> Path:
        """The large expert before there is a small one."""
        job = self._job(large=self._expert(self._recipe.large), small=None)
        finished = await self._trained("large", job)
        return Path(finished.models["large"])

    async def _environments(self, large: Path) -> Path:
        """Bulk structures of the large expert's MD, but for those that the report tests with."""
        async with self._bulk(large, "bulk") as run:
            data = await collect_reference_data(run, cheap_reach=self._reach())
        self._run.seconds.update(run.run.seconds)
        splits = split_structures(data.training, run.recipe.fit.validation)
        frames = []
        for name, split in splits.items():
            if split != "test":
                atoms = as_atoms(data.labels(name).structure.frame)
                if self._recipe.agreement.mask:
                    atoms.set_array(self._recipe.agreement.mask, np.ones(len(atoms), bool))
                frames.append(atoms)
        file = self._run.folder / "bulk.xyz"
        await asyncio.to_thread(write, file, frames, format="extxyz")
        return file

    async def _together(self, first: Path | None, environments: Sequence[Path]) -> _Trained:
        recipe = self._recipe
        job = self._job(
            large=self._expert(recipe.large, first),
            small=self._expert(recipe.small),
            agreement=self._agreement(environments),
        )
        finished = await self._trained("together", job, environments, first)
        large = Path(finished.models["large"]) if "large" in finished.models else first
        if large is None:
            raise ValueError("the training made no large model, and none was given")
        return _Trained(large, Path(finished.models["small"]), finished)

    async def _untied(self, tied: _Trained, environments: Sequence[Path]) -> Path:
        """The small expert trained by its data alone, from the same parameters."""
        agreement = self._agreement(environments)
        job = self._job(
            large=ExpertJob(model=str(tied.large), fixed=True),
            small=self._expert(self._recipe.small),
            agreement=msgspec.structs.replace(agreement, energy=0.0, forces=0.0),
        )
        finished = await self._trained("control", job, environments, tied.large)
        return Path(finished.models["small"])

    async def _judge(self, tied: _Trained, control: Path | None, *, same: bool) -> Result:
        """Look at all models' bulk, as a distillation does."""
        recipe = self._recipe
        listed = {_TIED: tied.small, **({_CONTROL: control} if control else {})}
        async with self._bulk(tied.large, "bulk" if same else "judged") as run:
            data = await collect_reference_data(run, cheap_reach=self._reach())
            written: list[WrittenCandidate] = []
            parity: tuple[Parity, ...] = ()
            for label, model in listed.items():
                command = worker_command(recipe, str(model))
                candidate, shown = await compared(run, data, label, model, command)
                written.append(candidate)
                parity = parity or shown
            command = worker_command(recipe, str(tied.small))
            test = await stability(run, data, _TIED, tied.small, command)
            folder = run.folder / "workers"
            judged = await benchmark(run, data, written, folder, step="judge")
            self._run.seconds.update(run.run.seconds)
        return Result(
            name=recipe.name,
            elements=tuple(_symbols(data)),
            expensive=data.card.name,
            fingerprint=data.card.fingerprint,
            bulk=data.bulk,
            ghost_free=bool(data.partition),
            candidates=tuple(judged),
            trials=(test,) if test else (),
            parity=parity,
            seconds=self._run.seconds,
            notes=self._notes(tied, data),
            trained=tuple(_curve(tied.finished)),
        )

    def _notes(self, tied: _Trained, data: ReferenceData) -> tuple[str, ...]:
        last = next(one for one in tied.finished.history if one.epoch == tied.finished.best)
        words = [
            f"parameters of epoch {tied.finished.best} of {self._recipe.training.epochs} "
            f"({tied.finished.why})"
        ]
        for name, errors in (("large", last.large), ("small", last.small)):
            if errors is not None:
                words.append(
                    f"{name} expert against the labels it was not trained with: "
                    f"{1e3 * errors.energy:.1f} meV per atom, {1e3 * errors.forces:.0f} meV/Å"
                )
        if last.agreement is not None:
            words.append(
                "site energies of the two on bulk structures that were held out: "
                f"{1e3 * last.agreement.energy:.2f} meV, forces "
                f"{1e3 * last.agreement.forces:.1f} meV/Å apart"
            )
        return (*words, *data.notes)

    def _bulk(self, large: Path, folder: str) -> AbstractAsyncContextManager[Distillation]:
        """A context with a `Distillation` of the large expert, in a folder below ours."""
        return _distillation(self._project, large.resolve(), folder, self._progress)

    def _reach(self) -> float:
        """The receptive field (Å) of the small expert, as its options say."""
        options = self._recipe.small.options
        return float(options.get("r_max", 5.0)) * int(options.get("num_interactions", 2))

    async def _trained(
        self,
        name: str,
        job: TrainingJob,
        environments: Sequence[Path] = (),
        first: Path | None = None,
    ) -> Finished:
        """Do a training in a step of its own, which a later start continues."""
        recipe = self._recipe
        settings = {
            "large": recipe.large,
            "small": recipe.small if job.small else None,
            "agreement": job.agreement.energy > 0 and recipe.agreement,
            "training": {
                key: value
                for key, value in msgspec.to_builtins(recipe.training).items()
                if key not in _NOT_THE_RESULT
            },
            "e0s": recipe.e0s,
            "keys": recipe.keys,
        }
        data = {*recipe.large.data, *(recipe.small.data if job.small else ())}
        files = {file: self._project.base / file for file in sorted(data)}
        files |= {f"bulk {at}": file for at, file in enumerate(environments)}
        if first is not None:
            files["model"] = first

        async def compute(step: Step) -> Finished:
            placed = msgspec.structs.replace(job, folder=str(step.folder.resolve()))
            progress = self._run_progress(step.name)
            return await run_training(placed, progress, self._tell)

        return await self._run.execute(Stage(name, settings, compute, files=files))

    def _run_progress(self, step: str) -> Callable[[int, int], None]:
        return lambda done, total: self._progress(step, done, total)

    def _expert(self, expert: Expert, model: Path | None = None) -> ExpertJob:
        given = [str(path) for path in self._project.paths((expert.model,) if expert.model else ())]
        return ExpertJob(
            data=tuple(str(path) for path in self._project.paths(expert.data)),
            model=str(model) if model is not None else "".join(given),
            fixed=expert.fixed,
            weight=expert.weight,
            options=expert.options,
        )

    def _agreement(self, environments: Sequence[Path]) -> Agreement:
        wanted = self._recipe.agreement
        return Agreement(
            data=tuple(str(path.resolve()) for path in environments),
            mask=wanted.mask,
            energy=wanted.energy,
            forces=wanted.forces,
            start=wanted.start,
            ramp=wanted.ramp,
            stage_two=wanted.stage_two,
            batch=wanted.batch,
            mutual=wanted.mutual,
        )

    def _job(
        self, *, large: ExpertJob, small: ExpertJob | None, agreement: Agreement | None = None
    ) -> TrainingJob:
        """A training of this recipe; its folder is set later."""
        recipe, keys = self._recipe, self._recipe.keys
        return TrainingJob(
            engine=recipe.engine,
            folder="",
            large=large,
            small=small,
            agreement=agreement or Agreement(),
            e0s=recipe.e0s,
            keys=Keys(energy=keys.energy, forces=keys.forces, stress=keys.stress),
            **msgspec.to_builtins(recipe.training),
        )


@contextlib.asynccontextmanager
async def _distillation(
    project: CotrainingProject, large: Path, folder: str, progress: Progress
) -> AsyncIterator[Distillation]:
    looked = project.bulk(large, folder)
    with open_folder(looked.folder) as run:
        async with expensive_workers(looked, looked.folder / "workers") as dispatcher:
            yield Distillation(looked, run, dispatcher, progress)


def _symbols(data: ReferenceData) -> list[str]:
    return element_symbols(data.card.species or ())


def _curve(finished: Finished) -> Iterator[Curve]:
    """Errors and differences over the epochs, for the report."""
    for one in finished.history:
        yield Curve(
            epoch=one.epoch,
            stage=one.stage,
            large=one.large.forces if one.large else None,
            small=one.small.forces if one.small else None,
            energies=one.agreement.energy if one.agreement else None,
            forces=one.agreement.forces if one.agreement else None,
        )
