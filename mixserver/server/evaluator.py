"""One evaluation, from i-PI's request to its reply: the centre of mixserver.

The evaluator knows no socket. A region model divides the frame, a mixer plans the jobs and combines
their results, and the dispatcher has the jobs evaluated by workers.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

import msgspec

from mixserver.config import Channel
from mixserver.core.frame import Frame, Topology
from mixserver.dispatch.batch import JobResult
from mixserver.dispatch.dispatcher import Dispatcher
from mixserver.mixing.jobs import WHOLE, JobKey, whole_system_job
from mixserver.mixing.mixer import MixedResult, Mixer
from mixserver.region.protocol import RegionModel
from mixserver.region.region import Region
from mixserver.server.records.recorder import Recorder
from mixserver.server.records.report import Report, extras
from mixserver.server.reference.comparison import StructureComparison
from mixserver.server.timing import Timing
from mixserver.wire.ipi import Reply, Request
from mixserver.wire.worker import Result

MakeMixer = Callable[[], Awaitable[Mixer]]
"""Makes the mixer once the workers of all models have introduced themselves."""
JobResults = Mapping[JobKey, JobResult]


class Answer(Protocol):
    """Answers i-PI's requests: the evaluator, or what guards it."""

    async def __call__(self, request: Request, channel: Channel = "mixed") -> Reply:
        """Evaluate the part of the potential that the channel stands for.

        Raises:
            EvaluationError: it could not be evaluated.
            UpstreamError: it makes no sense.
        """


@dataclass(frozen=True, slots=True)
class Evaluated:
    """One evaluation of a frame."""

    mixed: MixedResult
    jobs: JobResults
    """All results that it was made of, and who evaluated them."""
    region: Region | None = None
    """None where only the cheap model was requested."""
    work: float = 0.0
    """The lambda work of the bead so far, in eV."""


class Evaluating(Protocol):
    """Evaluates one frame: each by itself, or shared between channels."""

    async def __call__(
        self, mixer: Mixer, frame: Frame, channel: Channel, timing: Timing
    ) -> Evaluated:
        """Evaluate a frame; `timing` counts the wait."""


def results(jobs: JobResults) -> dict[JobKey, Result]:
    """Only the results, for a mixer."""
    return {key: job.result for key, job in jobs.items()}


class Separately:
    """Evaluates each frame by itself; see `Evaluating`."""

    def __init__(self, region_model: RegionModel, dispatcher: Dispatcher) -> None:
        self._region_model = region_model
        self._dispatcher = dispatcher

    async def __call__(
        self, mixer: Mixer, frame: Frame, channel: Channel, timing: Timing
    ) -> Evaluated:
        """Evaluate a frame; the channel is always "mixed"."""
        with (
            self._region_model.evaluation(frame) as evaluation,
            self._dispatcher.batch() as batch,
        ):
            found: dict[JobKey, JobResult] = {}
            criterion, selects = evaluation.criterion, evaluation.selects
            if selects:  # the seeds depend on values that the cheap model's worker computes first
                batch.submit(WHOLE, "cheap", whole_system_job(frame, criterion=criterion))
                found = await timing.gather(batch)
                evaluation.record_criterion(found[WHOLE].result.values)
                criterion = ""
            region = evaluation.region()
            plan = mixer.plan(frame, region, criterion=criterion, whole_known=selects)
            for key, job in plan:
                batch.submit(key, key.role, job)
            found |= await timing.gather(batch)
            if criterion:
                evaluation.record_criterion(found[WHOLE].result.values)
            mixed = mixer.combine(plan, results(found))
            evaluation.commit(mixed.lambda_update_energy)
        return Evaluated(mixed, found, region, evaluation.work)


class Evaluator:
    """Answers requests: an `Answer`.

    Args:
        topology: the atoms.
        evaluating: evaluates frames.
        make_mixer: see `MakeMixer`.
        recorder: keeps the reports.
        with_extras: whether i-PI is sent a summary of the report.
        with_lambda: whether i-PI is sent lambda.
        comparison: compares frames with the structure that names the atoms; None for none.
    """

    def __init__(
        self,
        topology: Topology,
        evaluating: Evaluating,
        make_mixer: MakeMixer,
        recorder: Recorder,
        *,
        with_extras: bool = True,
        with_lambda: bool = False,
        comparison: StructureComparison | None = None,
    ) -> None:
        self._topology = topology
        self._evaluating = evaluating
        self._make_mixer = make_mixer
        self._mixer: Mixer | None = None
        self._recorder = recorder
        self._with_extras = with_extras
        self._with_lambda = with_lambda
        self._comparison = comparison
        self._numbers = itertools.count()
        self._began = time.monotonic()

    async def __call__(self, request: Request, channel: Channel = "mixed") -> Reply:
        """One energy, one force field, one virial for one request; see `Answer`."""
        timing = Timing()
        frame = self._frame(request)
        mixer = self._mixer or await self._wait_for_models(timing)
        evaluated = await self._evaluating(mixer, frame, channel, timing)
        mixed, region = evaluated.mixed, evaluated.region
        report = self._report(frame, channel, evaluated, timing)
        virial, text = mixed.virial, mixed.extras
        if text is None:  # mixed: i-PI reads one triangle only, so rounding errors must go
            virial = (virial + virial.T) / 2
        sent = region if self._with_lambda else None
        if not text:
            text = extras(report, sent) if self._with_extras or sent is not None else ""
        reply = Reply(energy=mixed.energy, forces=mixed.forces, virial=virial, extras=text)
        self._recorder.record(report, frame, region)
        return reply

    def _frame(self, request: Request) -> Frame:
        """The frame of a request.

        Raises:
            UpstreamError: it makes no sense, or is another structure than the reference.
        """
        frame = self._topology.frame(
            request.positions,
            request.cell,
            bead=request.slot if request.bead is None else request.bead,
            number=next(self._numbers),
            parameters=request.parameters,
            request_id=request.rid,
        )
        if self._comparison is not None:
            self._comparison.check(frame)
        return frame

    async def _wait_for_models(self, timing: Timing) -> Mixer:
        """Wait for the models to introduce themselves: their receptive fields decide the plan."""
        started = time.monotonic()
        self._mixer = await self._make_mixer()
        timing.waiting += time.monotonic() - started
        return self._mixer

    def _report(
        self, frame: Frame, channel: Channel, evaluated: Evaluated, timing: Timing
    ) -> Report:
        total = timing.total
        cheap = [job for key, job in evaluated.jobs.items() if key.role == "cheap"]
        expensive = [job for key, job in evaluated.jobs.items() if key.role == "expensive"]
        slowest = max(cheap, key=lambda job: job.took_s, default=None)
        return Report(
            evaluation=frame.number,
            channel=channel,
            bead=frame.bead,
            time_s=time.monotonic() - self._began,
            energy=evaluated.mixed.energy,
            work=evaluated.work,
            ms_total=1e3 * total,
            ms_cheap=1e3 * slowest.took_s if slowest is not None else None,
            ms_expensive=1e3 * max(job.took_s for job in expensive) if expensive else None,
            ms_waiting=1e3 * timing.waiting,
            ms_own=1e3 * (total - timing.waiting),
            cheap_worker=slowest.worker if slowest is not None else "",
            expensive_workers=tuple(job.worker for job in expensive),
            **msgspec.structs.asdict(evaluated.mixed.diagnostics),
        )
