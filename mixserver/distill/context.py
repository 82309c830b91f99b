"""What every stage of a distillation works with: project, run folder, expensive model, progress."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mixserver.dispatch.dispatcher import Dispatcher
from mixserver.distill.config.load import DistillationProject
from mixserver.distill.config.schema import Recipe
from mixserver.distill.data.labelling import label_structures
from mixserver.distill.data.labels import LabelledStructure, Structure
from mixserver.distill.progress import Progress, StepProgress
from mixserver.distill.step_cache import RunFolder, Step


@dataclass(frozen=True, eq=False)
class Distillation:
    """One distillation at work."""

    project: DistillationProject
    run: RunFolder
    expensive: Dispatcher
    """Has workers of the expensive model."""
    progress: Progress

    @property
    def recipe(self) -> Recipe:
        """The settings in distill.toml."""
        return self.project.recipe

    @property
    def folder(self) -> Path:
        """Where everything is kept."""
        return self.project.folder

    def step_progress(self, step: str) -> StepProgress:
        """The progress of one step."""
        return lambda done, total: self.progress(step, done, total)

    async def labelled(
        self, step: Step, structures: Sequence[Structure]
    ) -> list[LabelledStructure]:
        """Structures with labels, which are kept in the folder of a step."""
        return await label_structures(
            structures, self.expensive, step.folder, progress=self.step_progress(step.name)
        )
