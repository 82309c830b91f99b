"""Reading and checking cotrain.toml, before any model is made."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from mixserver.config.load import convert_toml, read_settings
from mixserver.core.errors import ConfigError
from mixserver.core.frame import Frame
from mixserver.core.structures import read_structure
from mixserver.cotrain.config.schema import Expert, Recipe
from mixserver.distill.config import schema as distilling
from mixserver.distill.config.load import DistillationProject
from mixserver.distill.config.validation import problems as distill_problems
from mixserver.distill.data.splits import split_structures

_SHARE = 0.15
"""Of the bulk structures, that the report tests with."""


@dataclass(frozen=True, eq=False)
class CotrainingProject:
    """One co-training: a recipe, its location, and the bulk crystal."""

    file: Path
    """The cotrain.toml itself."""
    recipe: Recipe
    crystal: Frame

    @property
    def base(self) -> Path:
        """The folder to which paths in the recipe are relative."""
        return self.file.parent

    @property
    def folder(self) -> Path:
        """The folder of all results."""
        return self.base / self.recipe.folder

    def paths(self, names: tuple[str, ...]) -> tuple[Path, ...]:
        """Files of the recipe as absolute paths."""
        return tuple((self.base / name).resolve() for name in names)

    def bulk(self, model: Path, folder: str) -> DistillationProject:
        """What `mixserver.distill` needs to look at the bulk of a model, in a folder below ours."""
        return DistillationProject(
            self.file, bulk_recipe(self.recipe, str(model), folder), self.crystal
        )


def worker_command(recipe: Recipe, model: str) -> tuple[str, ...]:
    """Arguments of mixserver-worker for one of the networks."""
    return (recipe.engine, model, "--dtype", "float64", "--device", recipe.training.device)


def bulk_recipe(recipe: Recipe, model: str, folder: str) -> distilling.Recipe:
    """The recipe of a distillation that looks at the bulk as this one does."""
    return distilling.Recipe(
        name=recipe.name,
        structure=recipe.structure,
        folder=str(Path(recipe.folder) / folder),
        expensive=distilling.Expensive(
            command=worker_command(recipe, model),
            count=recipe.workers.count,
            threads=recipe.workers.threads,
        ),
        soft=recipe.soft,
        hold=recipe.hold,
        hard=distilling.Hard(form="tolerance"),
        partition=distilling.Partition(strain=0.0, groups=1),
        fit=distilling.Fit(validation=_SHARE),
    )


def load_cotraining(path: Path) -> CotrainingProject:
    """Read a cotrain.toml, or the one in a folder, and the crystal it names.

    Raises:
        ConfigError: no such file, no TOML, an unknown key, a value of the wrong kind, values that
            contradict each other, or a file that does not exist.
    """
    file, text = read_settings(path, "cotrain.toml")
    recipe = parse_cotraining(text, file.name)
    project = CotrainingProject(file, recipe, read_structure(file.parent / recipe.structure)[1])
    if not all(project.crystal.topology.pbc):
        raise ConfigError(
            f"{file.name}: structure {recipe.structure} does not repeat in all three directions; "
            'the experts agree on a bulk crystal: give a cell with pbc="T T T"'
        )
    for key, names in _files(recipe):
        for found in project.paths(names):
            if not found.is_file():
                raise ConfigError(
                    f"{file.name}: {key} names {found}, which does not exist; paths are relative "
                    "to the recipe"
                )
    return project


def parse_cotraining(text: str, name: str = "cotrain.toml") -> Recipe:
    """Turn the text of a cotrain.toml into typed values.

    Raises:
        ConfigError: no TOML, an unknown key, a value of the wrong kind, a contradiction.
    """
    recipe = convert_toml(text, name, Recipe)
    problem = next(_problems(recipe), "")
    if problem:
        raise ConfigError(f"{name}: {problem}")
    return recipe


def _files(recipe: Recipe) -> Iterator[tuple[str, tuple[str, ...]]]:
    for key, expert in (("large", recipe.large), ("small", recipe.small)):
        yield f"{key}.data", expert.data
        yield f"{key}.model", (expert.model,) if expert.model else ()
    yield "agreement.data", recipe.agreement.data


def _problems(recipe: Recipe) -> Iterator[str]:
    training, agreement = recipe.training, recipe.agreement
    for key, expert in (("large", recipe.large), ("small", recipe.small)):
        yield from _expert(key, expert)
    if recipe.small.fixed:
        yield "small.fixed = true leaves nothing to train: use mixserver check for two given models"
    if not agreement.md and not agreement.data:
        yield (
            "[agreement] has neither md nor data, so there is no bulk to agree on: set md = true, "
            "or give files of bulk structures"
        )
    if agreement.energy < 0.0 or agreement.forces < 0.0 or agreement.stage_two <= 0.0:
        yield "agreement.energy and .forces must be 0 or more, and .stage_two more than 0"
    if agreement.energy == 0.0 and agreement.forces == 0.0:
        yield "agreement.energy and agreement.forces are both 0: the experts would not be tied"
    if agreement.start < 0 or agreement.ramp < 0 or agreement.batch < 1:
        yield "agreement.start and .ramp must be 0 or more, and .batch 1 or more"
    if agreement.start >= training.epochs:
        yield (
            f"agreement.start = {agreement.start} is not before the last of training.epochs = "
            f"{training.epochs}: the experts would never be tied"
        )
    if training.epochs < 1 or training.checkpoint < 1 or training.threads < 1:
        yield "training.epochs, .checkpoint and .threads must be at least 1"
    if not 0 <= training.stage_two < training.epochs:
        yield (
            f"training.stage_two = {training.stage_two} must be 0 (none) or an epoch before "
            f"training.epochs = {training.epochs}"
        )
    if training.patience < 0 or not 0.0 < training.validation <= 0.5:
        yield "training.patience must be 0 or more, and training.validation above 0 and at most 0.5"
    yield from distill_problems(bulk_recipe(recipe, "model", "bulk"))
    soft = recipe.soft
    names = [f"{t:g}K-{at}" for t in soft.temperatures for at in range(soft.snapshots)]
    if agreement.md and "test" not in split_structures(names, _SHARE).values():
        yield (
            f"soft.snapshots = {soft.snapshots} leaves no bulk structure to test with; raise it "
            "to a dozen"
        )


def _expert(key: str, expert: Expert) -> Iterator[str]:
    if expert.fixed and not expert.model:
        yield f"{key}.fixed = true needs {key}.model, the file of the model that is taken as it is"
    if not expert.fixed and not expert.data:
        yield f"{key}.data is empty: give files of labelled structures" + (
            ", or a model with fixed = true" if key == "large" else ""
        )
    if not expert.weight > 0.0:
        yield f"{key}.weight = {expert.weight:g} must be more than 0"
