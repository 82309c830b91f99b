"""The pipeline of a distillation: from a recipe to a potential and a report.

Reference data, fits with stability tests, ablations and comparisons, benchmark, sweep, report.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path

import structlog

from mixserver.core.arrays import Block
from mixserver.core.errors import ConfigError
from mixserver.distill.comparison import check_compared_potentials, compared_candidates
from mixserver.distill.config.load import DistillationProject
from mixserver.distill.context import Distillation
from mixserver.distill.data.reference_data import ReferenceData, collect_reference_data
from mixserver.distill.fitting.candidates import describe_candidate, parity
from mixserver.distill.fitting.descriptor_rows import (
    RowFiles,
    compute_reference_rows,
    compute_rows,
)
from mixserver.distill.fitting.design_matrix import Design
from mixserver.distill.fitting.inputs import FitInputs, build_design, pair_basis
from mixserver.distill.fitting.pair_basis import PairBasis
from mixserver.distill.fitting.selection import (
    FitOptions,
    SelectedFit,
    fit_coefficients,
    select_fit,
)
from mixserver.distill.potential.hybrid import read_pair_styles
from mixserver.distill.potential.writer import write_potential
from mixserver.distill.progress import Progress
from mixserver.distill.recipe_workers import expensive_workers, lammps_command
from mixserver.distill.report import write_report
from mixserver.distill.results import Candidate, Result
from mixserver.distill.step_cache import open_folder
from mixserver.distill.summary import notes, pinned, provenance, recommended
from mixserver.distill.validation.active_learning import fit_until_stable
from mixserver.distill.validation.benchmark import WrittenCandidate, benchmark
from mixserver.wire.descriptor import SnapDescriptor

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class DistillationOutput:
    """The output of a distillation."""

    potential: Path
    """LAMMPS commands for the worker."""
    report: Path
    """HTML."""
    result: Result


async def distill(
    project: DistillationProject, progress: Progress, *, sweep: bool = False
) -> DistillationOutput:
    """Make a cheap potential from an expensive model; `sweep` compares several descriptors too.

    Raises:
        ConfigError: the recipe, the structure, the model or the constraints do not allow it.
        MixserverError: workers failed.
    """
    read_pair_styles(project.reference or (), project.elements)  # report errors early
    with open_folder(project.folder) as run:
        await check_compared_potentials(project)
        async with expensive_workers(project, project.folder / "workers") as dispatcher:
            pipeline = _Pipeline(Distillation(project, run, dispatcher, progress))
            return await pipeline.execute(sweep=sweep)


@dataclass(frozen=True, eq=False)
class _Fit:
    """The fit of a recipe with one set of descriptors."""

    label: str
    inputs: FitInputs
    descriptor: SnapDescriptor
    design: Design
    selected: SelectedFit
    commands: Path

    def candidate(self) -> WrittenCandidate:
        """Errors and ghost forces of the fit."""
        candidate = describe_candidate(
            self.label,
            self.design,
            self.inputs,
            self.selected.coefficients,
            solution=self.selected.solution,
            weight=self.selected.ghost,
            descriptor=self.descriptor,
        )
        command = lammps_command(self.inputs.project, self.commands)
        return WrittenCandidate(candidate, command)


class _Pipeline:
    """The stages after the reference data; each takes and returns values."""

    def __init__(self, run: Distillation) -> None:
        self._run, self._project, self._recipe = run, run.project, run.recipe
        self._fits = run.folder / "fits"
        self._pair_rows: dict[PairBasis, dict[str, Block]] = {}
        """Cache: pair rows do not depend on descriptors."""

    async def execute(self, *, sweep: bool) -> DistillationOutput:
        """Run all stages and write the potential and the report."""
        run, project = self._run, self._project
        data = await collect_reference_data(run, cheap_reach=self._longest_reach())
        self._fits.mkdir(exist_ok=True)
        data, best, tests = await fit_until_stable(run, data, self._constrained_fit)
        with run.run.timed("fit"):
            run.progress("fit", 0, 1)
            candidates = await asyncio.to_thread(self._with_ablations, best)
            compared, dropped = await compared_candidates(run, data)
            run.progress("fit", 1, 1)
        with run.run.timed("judge"):
            judged = await benchmark(run, data, [*candidates, *compared], self._fits, step="judge")
        swept = await self._sweep(data) if sweep else []
        result = Result(
            name=self._recipe.name,
            elements=project.elements,
            expensive=data.card.name,
            fingerprint=data.card.fingerprint,
            bulk=data.bulk,
            ghost_free=bool(data.partition),
            candidates=tuple(judged),
            trials=tuple(tests),
            front=best.selected.front,
            parity=await asyncio.to_thread(parity, best.inputs, best.selected.coefficients),
            sweep=tuple(swept),
            recommended=recommended(swept),
            seconds=run.run.seconds,
            notes=(*notes(data, best.selected), *dropped),
            pinned=pinned(project),
        )
        potential = write_potential(
            run.folder,
            self._recipe.name,
            best.descriptor,
            best.inputs.pairs,
            best.selected.coefficients,
            reference=project.reference or (),
            notes=provenance(project, data, best.descriptor),
        )
        return DistillationOutput(potential, write_report(result, run.folder), result)

    def _longest_reach(self) -> float:
        """The longest receptive field (Å) of all potentials that may be fitted."""
        pair, cutoffs = self._recipe.pair, (*self._recipe.sweep.cutoffs, None)
        return max(
            *(self._project.descriptor(cutoff=cutoff).reach for cutoff in cutoffs),
            pair.cutoff if pair.functions else 0.0,
        )

    async def _inputs(self, data: ReferenceData, descriptor: SnapDescriptor) -> FitInputs:
        """Compute the descriptor rows of all labelled structures."""
        files, folder = list(data.files.values()), self._run.folder / "rows"
        step = f"rows 2J={descriptor.twojmax} {descriptor.cutoff:g} Å"
        reference: RowFiles | None = None
        with self._run.run.timed(step):
            rows = await compute_rows(descriptor, files, folder, self._run.step_progress(step))
            if self._project.reference is not None:
                reference = await compute_reference_rows(self._project.reference, files, folder)
        pairs = pair_basis(self._project, data)
        cache = self._pair_rows.setdefault(pairs, {})
        return FitInputs(self._project, data, rows, reference, pairs, cache)

    async def _constrained_fit(self, data: ReferenceData) -> _Fit:
        """The fit that the recipe describes."""
        descriptor = self._project.descriptor()
        inputs = await self._inputs(data, descriptor)
        self._run.progress("fit", 0, 1)
        # on a thread, since workers give up on a server that stays silent
        return await asyncio.to_thread(self._fit, "constrained", inputs, descriptor)

    def _fit(
        self,
        label: str,
        inputs: FitInputs,
        descriptor: SnapDescriptor,
        *,
        design: Design | None = None,
        options: FitOptions | None = None,
        file: str = "",
    ) -> _Fit:
        """Fit and write a potential: as the recipe describes, or with other options."""
        design = build_design(inputs) if design is None else design
        if options is None:
            selected = select_fit(design, self._recipe)
        else:
            selected = SelectedFit(fit_coefficients(design, self._recipe, options))
        commands = write_potential(
            self._fits,
            f"{self._recipe.name}-{file or label.replace(' ', '-')}",
            descriptor,
            inputs.pairs,
            selected.coefficients,
            reference=self._project.reference or (),
        )
        return _Fit(label, inputs, descriptor, design, selected, commands)

    def _with_ablations(self, best: _Fit) -> list[WrittenCandidate]:
        """The fit of the recipe, and the same without one thing at a time."""
        options = {"unconstrained": FitOptions(constrained=False)}
        if best.inputs.data.partition:
            options = {"no partition rows": FitOptions(), **options}
        fits = [best]
        for label, changed in options.items():
            fits.append(
                self._fit(label, best.inputs, best.descriptor, design=best.design, options=changed)
            )
        if best.inputs.pairs.functions:
            try:
                fits.append(self._fit("SNAP alone", best.inputs.without_pairs(), best.descriptor))
            except ConfigError as error:  # too few coefficients for the constraints, for instance
                log.warning("SNAP without pair functions cannot be fitted", reason=str(error))
        return [fit.candidate() for fit in fits]

    async def _sweep(self, data: ReferenceData) -> list[Candidate]:
        """All resolutions and cutoffs of the recipe, fitted alike and timed side by side."""
        listed: list[WrittenCandidate] = []
        failed: list[Candidate] = []
        seconds = self._run.run.seconds
        before = set(seconds)
        with self._run.run.timed("sweep"):
            for twojmax in self._recipe.sweep.twojmax:
                for cutoff in self._recipe.sweep.cutoffs:
                    descriptor = self._project.descriptor(twojmax=twojmax, cutoff=cutoff)
                    label = f"2J = {twojmax}, {cutoff:g} Å"
                    inputs = await self._inputs(data, descriptor)
                    file = f"sweep-2J{twojmax}-{cutoff:g}"
                    try:
                        fit = await asyncio.to_thread(
                            self._fit, label, inputs, descriptor, file=file
                        )
                    except ConfigError as error:
                        failed.append(
                            Candidate(label=label, descriptor=descriptor, trouble=str(error))
                        )
                    else:
                        listed.append(fit.candidate())
            found = await benchmark(
                self._run, data, listed, self._fits, step="sweep", thorough=False
            )
        # descriptor rows are listed separately
        seconds["sweep"] -= sum(seconds[step] for step in seconds.keys() - before - {"sweep"})
        return found + failed
