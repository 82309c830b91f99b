"""Several parts of one mixed potential, each for an address of i-PI of its own.

i-PI's multiple time stepping wants the cheap potential often and the rest seldom, ring-polymer
contraction wants the rest on few beads. Both are served from one set of workers and regions: what
is evaluated for some positions, or was, serves every channel that asks for the same.
"""

from __future__ import annotations

import contextlib
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Final, NamedTuple

import numpy as np

from mixserver.cluster import Cluster
from mixserver.comparison import Comparison
from mixserver.config import Channel
from mixserver.dispatch.batch import Reply as Answer
from mixserver.dispatch.dispatcher import Dispatcher
from mixserver.frame import Frame, Topology
from mixserver.mixing.mixer import Mixed, Mixer
from mixserver.record.recorder import Recorder
from mixserver.record.report import Report, extras
from mixserver.region.region import Region
from mixserver.region.selecting import Due, Selecting
from mixserver.sharing import Shared, Times, together, waited
from mixserver.step import Frames, MixerFor, Stopwatch, mixed_report, symmetric
from mixserver.wire.ipi import Reply, Request
from mixserver.wire.worker import Evaluate

_MOST: Final = 256
"""Frames whose answers are kept: all beads of a step, and then some."""
_MOST_BYTES: Final = 1 << 28
_PER_ATOM: Final = 200
"""Bytes per atom that the answers about a frame take."""


class _Rest(NamedTuple):
    """All that mixing needs beyond the plain cheap answer."""

    frame: Frame
    region: Region
    clusters: tuple[Cluster, ...]
    expensive: Sequence[Answer]
    asked: Sequence[Cluster]
    """Clusters of the parts."""
    parts: Sequence[Answer]


@dataclass(slots=True)
class _Known:
    """What is known about some positions, or being evaluated."""

    frame: Frame
    plain: Shared[Answer] | None = None
    criterion: str = ""
    """Whose values come with `plain`."""
    rests: dict[int, Shared[_Rest]] = field(default_factory=dict)
    """By bead where regions have a memory, so that each bead counts its own; else under 0."""

    @property
    def running(self) -> bool:
        """Whether anything is being evaluated."""
        plain = self.plain is not None and self.plain.running
        return plain or any(rest.running for rest in self.rests.values())


class ChannelStep:
    """Two models and a region, for several channels; see `step.MixedStep`.

    The same positions are evaluated once, whoever asks: at the same time, or again later. Who hangs
    up leaves what others wait for; what nobody waits for is withdrawn. A region with memory counts
    the evaluations of mixed and correction, each bead its own, and of a bead it shares the last.
    """

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
        self._kept: OrderedDict[tuple[int, bytes], _Known] = OrderedDict()
        self._last: dict[int, _Known] = {}
        """Where each bead was when its region was asked for last."""
        self._most = max(4, min(_MOST, _MOST_BYTES // (_PER_ATOM * max(1, len(topology)))))

    async def answer(self, request: Request, channel: Channel = "mixed") -> Reply:
        """The part of the potential that a channel stands for; see `step.Step.answer`."""
        watch = Stopwatch(time.monotonic())
        frame = self._frames.next(request)
        mixer = self._mixer or await self._meet(watch)
        known = self._know(frame)
        since = time.monotonic()
        if channel == "cheap":
            plain = self._plain(known, mixer, may=self._wanted(frame.bead))
            await together(plain)
            watch.waiting += waited(since, plain)
            return self._tell_cheap(frame, await plain.result(), watch)
        rest = self._rest(known, frame, mixer)
        whole: Answer | None = None
        if channel == "mixed" or mixer.correction_needs_plain:
            plain = self._plain(known, mixer)
            await together(plain, rest)  # the cheap model evaluates while clusters are carved
            watch.waiting += waited(since, plain, rest)
            whole = await plain.result()
        else:
            await together(rest)
            watch.waiting += waited(since, rest)
        return self._tell(frame, channel, mixer, whole, await rest.result(), watch)

    async def _meet(self, watch: Stopwatch) -> Mixer:
        """Wait for both models to introduce themselves: their reach decides what is carved."""
        started = time.monotonic()
        self._mixer = await self._mixer_for()
        watch.waiting += time.monotonic() - started
        return self._mixer

    def _know(self, frame: Frame) -> _Known:
        """What is known about these very positions, whichever bead they are of."""
        # a sum of integers is the same wherever in memory the numbers lie
        bits = np.ascontiguousarray(frame.positions).view(np.int64)
        key = (int(bits.sum()), frame.cell.tobytes())
        known = self._kept.get(key)
        if known is None or not np.array_equal(known.frame.positions, frame.positions):
            known = self._kept[key] = _Known(frame)
            while len(self._kept) > self._most and not next(iter(self._kept.values())).running:
                self._kept.popitem(last=False)
        self._kept.move_to_end(key)
        return known

    def _plain(
        self, known: _Known, mixer: Mixer, *, must: str = "", may: str = ""
    ) -> Shared[Answer]:
        """The cheap model's answer about everything.

        Args:
            known: about what.
            mixer: knows the question.
            must: the criterion whose values must come with it.
            may: the criterion whose values shall come with it unless it is there already.
        """
        plain = known.plain
        if plain is None or not plain.usable or must not in ("", known.criterion):
            known.criterion = must or may
            question = mixer.plain(known.frame, known.criterion)
            plain = known.plain = Shared(partial(self._ask, question))
        return plain

    async def _ask(self, question: Evaluate, times: Times) -> Answer:
        with self._dispatcher.batch() as batch:
            batch.ask("cheap", question)
            (answer,) = await batch.answers()
        times.last_answer = batch.last_answer
        return answer

    def _wanted(self, bead: int) -> str:
        """The criterion whose values a region may want at the positions of a cheap request.

        It is asked for along with the forces, which costs little, lest the same positions be
        evaluated again for it. Nobody says which bead of the other channels they belong to.
        """
        beads = list(self._last) or [bead]
        return next(filter(None, (self._selector.due(b).criterion for b in beads)), "")

    def _rest(self, known: _Known, frame: Frame, mixer: Mixer) -> Shared[_Rest]:
        """All beyond the plain answer. What is begun here counts as an evaluation of its bead."""
        remembers = self._selector.remembers
        whose = frame.bead if remembers else 0
        rest = known.rests.get(whose)
        if rest is not None and rest.usable:
            return rest
        if remembers:
            before = self._last.get(frame.bead)
            if before is not None:  # its region is not that of a later evaluation there
                before.rests.pop(whose, None)
            self._last[frame.bead] = known
        self._selector.begin(frame)
        due = self._selector.due(frame.bead)
        sample = self._plain(known, mixer, must=due.criterion) if due.criterion else None
        rest = Shared(partial(self._divide, frame, mixer, due, sample))
        known.rests[whose] = rest
        return rest

    async def _divide(
        self, frame: Frame, mixer: Mixer, due: Due, sample: Shared[Answer] | None, times: Times
    ) -> _Rest:
        """Select, carve and ask."""
        with contextlib.ExitStack() as stack:
            if sample is not None:
                stack.enter_context(sample)  # evaluated meanwhile
                if due.choose:
                    self._observe(frame, await sample.result())
            began = time.monotonic()
            region = self._selector.select(frame)
            clusters = mixer.carve(frame, region)
            batch = stack.enter_context(self._dispatcher.batch())
            for job in mixer.expensive(frame, region, clusters):
                batch.ask("expensive", job)
            asked, questions = mixer.parts(frame, region)
            for job in questions:
                batch.ask("cheap", job)
            asked_all = time.monotonic()
            times.busy.append((began, asked_all))
            answers = await batch.answers()
            times.last_answer = max(asked_all, batch.last_answer)
            if sample is not None and not due.choose:
                self._observe(frame, await sample.result())
                times.last_answer = max(times.last_answer, sample.times.last_answer)
        count = len(clusters)
        return _Rest(frame, region, clusters, answers[:count], asked, answers[count:])

    def _observe(self, frame: Frame, cheap: Answer) -> None:
        values = cheap.result.values
        if values is None:  # checked by the dispatcher: a worker that was asked has answered
            raise RuntimeError("a checked result lacks the criterion's values")
        self._selector.observe(frame.bead, values)

    def _tell_cheap(self, frame: Frame, plain: Answer, watch: Stopwatch) -> Reply:
        total, result = watch.total, plain.result
        report = Report(
            evaluation=frame.number,
            channel="cheap",
            bead=frame.bead,
            time_s=self._frames.age,
            energy=result.energy,
            energy_is="cheap",
            ms_total=1e3 * total,
            ms_cheap=1e3 * plain.took_s,
            ms_waiting=1e3 * watch.waiting,
            ms_own=1e3 * (total - watch.waiting),
            cheap_worker=plain.worker,
        )
        self._recorder.note(report, frame, None)
        return Reply(
            energy=result.energy,
            forces=result.forces,
            virial=symmetric(result.virial),
            extras=extras(report) if self._with_extras else "",
        )

    def _tell(
        self,
        frame: Frame,
        channel: Channel,
        mixer: Mixer,
        whole: Answer | None,
        rest: _Rest,
        watch: Stopwatch,
    ) -> Reply:
        mix: Callable[..., Mixed] = mixer.mix if channel == "mixed" else mixer.correction
        mixed = mix(
            rest.frame,
            rest.region,
            rest.clusters,
            whole.result if whole is not None else None,
            [answer.result for answer in rest.expensive],
            (rest.asked, [answer.result for answer in rest.parts]),
        )
        self._selector.done(rest.frame, mixed.jump)
        cheap = [*rest.parts] if whole is None else [whole, *rest.parts]
        report = mixed_report(
            frame,
            rest.region,
            rest.clusters,
            mixed,
            max(cheap, key=lambda answer: answer.took_s, default=None),
            rest.expensive,
            work=self._selector.work(frame.bead),
            age=self._frames.age,
            total=watch.total,
            waiting=watch.waiting,
            channel=channel,
        )
        told = rest.region if self._with_lambda else None
        self._recorder.note(report, frame, rest.region)
        return Reply(
            energy=mixed.energy,
            forces=mixed.forces,
            virial=symmetric(mixed.virial),
            extras=extras(report, told) if self._with_extras or told else "",
        )
