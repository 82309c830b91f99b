"""One evaluation, from i-PI's request to its reply: the whole of mixserver in a few lines.

`MixedStep` answers with two models and a region, `PlainStep` passes everything through to one.
Neither knows a socket: who asks and who evaluates are given to them.
"""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from mixserver.arrays import Matrix
from mixserver.cluster import Cluster
from mixserver.comparison import Comparison
from mixserver.config import Channel
from mixserver.dispatch.batch import Batch
from mixserver.dispatch.batch import Reply as Answer
from mixserver.dispatch.dispatcher import Dispatcher
from mixserver.frame import Frame, Topology
from mixserver.mixing.mixer import Mixed, Mixer, Parts
from mixserver.record.recorder import Recorder
from mixserver.record.report import Report, extras
from mixserver.region.region import Region
from mixserver.region.selecting import Selecting
from mixserver.wire.ipi import Reply, Request
from mixserver.wire.worker import Evaluate, Role

MixerFor = Callable[[], Awaitable[Mixer]]
"""Makes the mixer once both models have introduced themselves."""


class Step(Protocol):
    """Answers upstream's requests."""

    async def answer(self, request: Request, channel: Channel = "mixed") -> Reply:
        """Evaluate one request.

        Args:
            request: what upstream asks.
            channel: which part of the potential it asks for.

        Raises:
            EvaluationError: it could not be evaluated.
            UpstreamError: it makes no sense.
        """


@dataclass(slots=True)
class Stopwatch:
    """Where the time of one evaluation went, in seconds, on the event loop's clock."""

    started: float
    waiting: float = 0.0

    async def answers(self, batch: Batch) -> list[Answer]:
        """Wait for a batch's answers, when the server has nothing else to do; count the wait.

        It lasts until the last of them was answered. What the server does with an answer after
        that is its own time.
        """
        idle = time.monotonic()
        answers = await batch.answers()
        self.waiting += max(0.0, batch.last_answer - idle)
        return answers

    @property
    def total(self) -> float:
        """Seconds since the request came."""
        return time.monotonic() - self.started


class Frames:
    """Turns requests into frames, and counts them.

    Args:
        topology: names the atoms.
        comparison: compares their positions with the structure that names them; None for none.
    """

    def __init__(self, topology: Topology, comparison: Comparison | None = None) -> None:
        self._topology = topology
        self._comparison = comparison
        self._numbers = itertools.count()
        self._began = time.monotonic()

    def next(self, request: Request) -> Frame:
        """The frame of the next evaluation.

        Raises:
            UpstreamError: it makes no sense, or is another structure than the reference.
        """
        frame = self._topology.frame(
            request.positions,
            request.cell,
            bead=request.slot if request.bead is None else request.bead,
            number=next(self._numbers),
        )
        if self._comparison is not None:
            self._comparison.check(frame)
        return frame

    @property
    def age(self) -> float:
        """Seconds since the first frame could come."""
        return time.monotonic() - self._began


class MixedStep:
    """Two models and a region: carve, ask, mix."""

    def __init__(
        self,
        topology: Topology,
        selector: Selecting,
        mixer_for: MixerFor,
        dispatcher: Dispatcher,
        recorder: Recorder,
        *,
        with_extras: bool = True,
        with_lambda: bool = False,
        comparison: Comparison | None = None,
    ) -> None:
        self._frames = Frames(topology, comparison)
        self._selector = selector
        self._mixer_for = mixer_for
        self._mixer: Mixer | None = None
        self._dispatcher = dispatcher
        self._recorder = recorder
        self._with_extras = with_extras
        self._with_lambda = with_lambda

    async def answer(self, request: Request, channel: Channel = "mixed") -> Reply:
        """One energy, one force field, one virial for one request; see `Step.answer`."""
        watch = Stopwatch(time.monotonic())
        frame = self._frames.next(request)
        mixer = self._mixer or await self._meet(watch)
        self._selector.begin(frame)
        due = self._selector.due(frame.bead)
        with self._dispatcher.batch() as batch:
            if due.choose:  # the seeds depend on what the cheap model's worker measures first
                batch.ask("cheap", mixer.plain(frame, due.criterion))
                (plain,) = await watch.answers(batch)
                self._observe(frame, plain)
            region = self._selector.select(frame)
            ask_cheap = not due.choose and (mixer.needs_cheap(region) or bool(due.criterion))
            if ask_cheap:  # on its way before the clusters are carved: it evaluates meanwhile
                batch.ask("cheap", mixer.cheap(frame, region, due.criterion))
            clusters = mixer.carve(frame, region)
            for job in mixer.expensive(frame, region, clusters):
                batch.ask("expensive", job)
            asked, questions = mixer.parts(frame, region) if due.choose else ((), ())
            for job in questions:
                batch.ask("cheap", job)
            answers = await watch.answers(batch)
        whole: Answer | None = plain if due.choose else None
        if ask_cheap:
            whole, answers = answers[0], answers[1:]
            if due.criterion:
                self._observe(frame, whole)
        results = [answer.result for answer in answers]
        parts: Parts | None = (asked, results[len(clusters) :]) if due.choose else None
        mixed = mixer.mix(
            frame,
            region,
            clusters,
            whole.result if whole else None,
            results[: len(clusters)],
            parts,
        )
        self._selector.done(frame, mixed.jump)
        report = mixed_report(
            frame,
            region,
            clusters,
            mixed,
            whole,
            answers[: len(clusters)],
            work=self._selector.work(frame.bead),
            age=self._frames.age,
            total=watch.total,
            waiting=watch.waiting,
        )
        told = region if self._with_lambda else None
        reply = Reply(
            energy=mixed.energy,
            forces=mixed.forces,
            virial=symmetric(mixed.virial),
            extras=extras(report, told) if self._with_extras or told else "",
        )
        self._recorder.note(report, frame, region)
        return reply

    async def _meet(self, watch: Stopwatch) -> Mixer:
        """Wait for both models to introduce themselves: their reach decides what is carved."""
        started = time.monotonic()
        self._mixer = await self._mixer_for()
        watch.waiting += time.monotonic() - started
        return self._mixer

    def _observe(self, frame: Frame, cheap: Answer) -> None:
        values = cheap.result.values
        if values is None:  # checked by the dispatcher: a worker that was asked has answered
            raise RuntimeError("a checked result lacks the criterion's values")
        self._selector.observe(frame.bead, values)


def mixed_report(
    frame: Frame,
    region: Region,
    clusters: Sequence[Cluster],
    mixed: Mixed,
    cheap: Answer | None,
    expensive: Sequence[Answer],
    *,
    work: float,
    age: float,
    total: float,
    waiting: float,
    channel: Channel = "mixed",
) -> Report:
    """What is known about one mixed evaluation.

    Args:
        frame: what was evaluated.
        region: its division.
        clusters: as carved from both.
        mixed: the answer.
        cheap: the cheap model's answer about everything, if it was asked.
        expensive: one answer per cluster.
        work: eV, all jumps of the energy so far.
        age: seconds since the first frame could come.
        total: seconds that the evaluation took.
        waiting: seconds of it that went by waiting for workers.
        channel: which part of the potential was asked for.
    """
    return Report(
        evaluation=frame.number,
        channel=channel,
        bead=frame.bead,
        time_s=age,
        energy=mixed.energy,
        energy_is=mixed.energy_is,
        work=work,
        seeds=len(region.seeds),
        core=mixed.core,
        blend=mixed.blend,
        buffer=mixed.buffer,
        halo=mixed.halo,
        clusters=len(clusters),
        ms_total=1e3 * total,
        ms_cheap=1e3 * cheap.took_s if cheap else None,
        ms_expensive=1e3 * max(a.took_s for a in expensive) if expensive else None,
        ms_waiting=1e3 * waiting,
        ms_own=1e3 * (total - waiting),
        mismatch_max=mixed.mismatch_max,
        mismatch_rms=mixed.mismatch_rms,
        core_mismatch_max=mixed.core_mismatch_max,
        core_mismatch_rms=mixed.core_mismatch_rms,
        gap_max=mixed.gap_max,
        gap_rms=mixed.gap_rms,
        pull_max=mixed.pull_max,
        net_force=math.hypot(*mixed.net_force.tolist()),
        cheap_worker=cheap.worker if cheap else "",
        expensive_workers=tuple(a.worker for a in expensive),
    )


def symmetric(virial: Matrix) -> Matrix:
    """(3, 3) eV of a mixed energy without its rounding errors: i-PI reads one triangle only."""
    return (virial + virial.T) / 2


class PlainStep:
    """One model and no region: what i-PI sends goes out as it came, and what the model says back.

    Workers that need wrapped atoms or a cell in a standard orientation see to it themselves.
    """

    def __init__(
        self,
        topology: Topology,
        role: Role,
        dispatcher: Dispatcher,
        recorder: Recorder,
        *,
        with_extras: bool = True,
        wrap: bool = False,
    ) -> None:
        self._frames = Frames(topology)
        self._wrap = wrap
        self._role = role
        self._dispatcher = dispatcher
        self._recorder = recorder
        self._with_extras = with_extras

    async def answer(self, request: Request, channel: Channel = "mixed") -> Reply:
        """What the one model says, unchanged; see `Step.answer`."""
        watch = Stopwatch(time.monotonic())
        frame = self._frames.next(request)
        question = Evaluate(
            job=0,
            stream=frame.bead,
            positions=frame.wrapped if self._wrap else frame.positions,
            numbers=frame.topology.numbers,
            cell=frame.cell,
            pbc=frame.topology.pbc,
            parameters=request.parameters,
            rid=request.rid,
        )
        with self._dispatcher.batch() as batch:
            batch.ask(self._role, question)
            answers = await watch.answers(batch)
        result = answers[0].result
        total = watch.total
        took = 1e3 * answers[0].took_s
        cheap = self._role == "cheap"
        report = Report(
            evaluation=frame.number,
            bead=frame.bead,
            time_s=self._frames.age,
            energy=result.energy,
            energy_is=self._role,
            ms_total=1e3 * total,
            ms_cheap=took if cheap else None,
            ms_expensive=None if cheap else took,
            ms_waiting=1e3 * watch.waiting,
            ms_own=1e3 * (total - watch.waiting),
            cheap_worker=answers[0].worker if cheap else "",
            expensive_workers=() if cheap else (answers[0].worker,),
        )
        own = extras(report) if self._with_extras else ""
        self._recorder.note(report, frame, None)
        return Reply(
            energy=result.energy,
            forces=result.forces,
            virial=result.virial,
            extras=result.extras or own,
        )
