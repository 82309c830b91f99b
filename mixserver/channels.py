"""Several parts of one mixed potential, each for an address of i-PI of its own.

i-PI's multiple time stepping wants the cheap potential often and the rest seldom, ring-polymer
contraction wants the rest on few beads. Both are served from one set of workers and regions: what
was evaluated for some positions serves every channel that asks for the same.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple, TypeVar

import numpy as np

from mixserver.cluster import Cluster
from mixserver.config import Channel
from mixserver.dispatch.batch import Reply as Answer
from mixserver.dispatch.dispatcher import Dispatcher
from mixserver.frame import Frame, Topology
from mixserver.mixing.mixer import Mixed, Mixer, Parts
from mixserver.record.recorder import Recorder
from mixserver.record.report import Report, extras
from mixserver.region.region import Region
from mixserver.region.selecting import Selecting
from mixserver.step import Frames, MixerFor, Stopwatch, mixed_report
from mixserver.wire.ipi import Reply, Request
from mixserver.wire.worker import Evaluate, Role

_MOST: Final = 256
"""Frames whose answers are kept: all beads of a step."""
_MOST_BYTES: Final = 1 << 28
_PER_ATOM: Final = 200
"""Bytes per atom that the answers about a frame take."""

_T = TypeVar("_T")


class _Rest(NamedTuple):
    """All that mixing needs beyond the plain cheap answer."""

    region: Region
    clusters: tuple[Cluster, ...]
    expensive: Sequence[Answer]
    parts: Parts


@dataclass(slots=True)
class _Known:
    """What is known about one frame, or being evaluated."""

    frame: Frame
    tasks: dict[str, asyncio.Task[Any]] = field(default_factory=dict)

    async def once(self, what: str, make: Callable[[], Coroutine[Any, Any, _T]]) -> _T:
        """Evaluate something unless it was; again if that failed.

        Who asked may hang up: the evaluation goes on, for i-PI will ask for it again.
        """
        task: asyncio.Task[_T] | None = self.tasks.get(what)
        if task is None or (task.done() and (task.cancelled() or task.exception() is not None)):
            task = self.tasks[what] = asyncio.ensure_future(make())
            task.add_done_callback(_look)
        return await asyncio.shield(task)


class ChannelStep:
    """Two models and a region, for several channels; see `step.MixedStep`."""

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
    ) -> None:
        self._frames = Frames(topology)
        self._selector = selector
        self._mixer_for = mixer_for
        self._mixer: Mixer | None = None
        self._dispatcher = dispatcher
        self._recorder = recorder
        self._with_extras = with_extras
        self._with_lambda = with_lambda
        self._kept: OrderedDict[int, _Known] = OrderedDict()
        self._most = max(4, min(_MOST, _MOST_BYTES // (_PER_ATOM * max(1, len(topology)))))

    async def answer(self, request: Request, channel: Channel = "mixed") -> Reply:
        """The part of the potential that a channel stands for; see `step.Step.answer`."""
        watch = Stopwatch(time.monotonic())
        known = self._know(self._frames.next(request))
        waiting = time.monotonic()
        mixer = self._mixer = self._mixer or await self._mixer_for()
        if channel == "cheap":
            plain = await self._plain(known, mixer)
            watch.waiting += time.monotonic() - waiting
            return self._tell_cheap(known.frame, plain, watch)
        needs = channel == "mixed" or mixer.correction_needs_plain
        whole: Answer | None = None
        if needs:  # both at once
            whole, rest = await _both(self._plain(known, mixer), self._rest(known, mixer))
        else:
            rest = await self._rest(known, mixer)
        watch.waiting += time.monotonic() - waiting
        mix = mixer.mix if channel == "mixed" else mixer.correction
        mixed = mix(
            known.frame,
            rest.region,
            rest.clusters,
            whole.result if whole is not None else None,
            [answer.result for answer in rest.expensive],
            rest.parts,
        )
        self._selector.done(known.frame, mixed.jump)
        return self._tell(known.frame, rest, mixed, whole, watch)

    def _know(self, frame: Frame) -> _Known:
        """What is known about these very positions."""
        key = hash((frame.positions.tobytes(), frame.cell.tobytes()))
        known = self._kept.get(key)
        if known is None or not _same(known.frame, frame):
            known = self._kept[key] = _Known(frame)
            while len(self._kept) > self._most:
                self._kept.popitem(last=False)
        self._kept.move_to_end(key)
        return known

    async def _plain(self, known: _Known, mixer: Mixer) -> Answer:
        """The cheap model's answer about everything, with the criterion's values if due."""
        due = self._selector.due(known.frame.bead)
        what = f"plain {due.criterion}"

        async def ask() -> Answer:
            (answer,) = await self._dispatcher.run(
                [("cheap", mixer.plain(known.frame, due.criterion))]
            )
            return answer

        return await known.once(what, ask)

    async def _rest(self, known: _Known, mixer: Mixer) -> _Rest:
        async def ask() -> _Rest:
            frame = known.frame
            self._selector.begin(frame)
            due = self._selector.due(frame.bead)
            if due.criterion:
                values = (await self._plain(known, mixer)).result.values
                if values is None:  # checked by the dispatcher
                    raise RuntimeError("a checked result lacks the criterion's values")
                self._selector.observe(frame.bead, values)
            region = self._selector.select(frame)
            clusters = mixer.carve(frame, region)
            asked, questions = mixer.parts(frame, region)
            jobs: list[tuple[Role, Evaluate]] = [
                ("expensive", job) for job in mixer.expensive(frame, region, clusters)
            ]
            jobs += [("cheap", job) for job in questions]
            answers = await self._dispatcher.run(jobs)
            count = len(clusters)
            parts = (asked, [answer.result for answer in answers[count:]])
            return _Rest(region, clusters, answers[:count], parts)

        return await known.once("rest", ask)

    def _tell_cheap(self, frame: Frame, plain: Answer, watch: Stopwatch) -> Reply:
        total, result = watch.total, plain.result
        report = Report(
            evaluation=frame.number,
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
            virial=result.virial,
            extras=extras(report) if self._with_extras else "",
        )

    def _tell(
        self, frame: Frame, rest: _Rest, mixed: Mixed, whole: Answer | None, watch: Stopwatch
    ) -> Reply:
        report = mixed_report(
            frame,
            rest.region,
            rest.clusters,
            mixed,
            whole,
            rest.expensive,
            work=self._selector.work(frame.bead),
            age=self._frames.age,
            total=watch.total,
            waiting=watch.waiting,
        )
        told = rest.region if self._with_lambda else None
        self._recorder.note(report, frame, rest.region)
        return Reply(
            energy=mixed.energy,
            forces=mixed.forces,
            virial=mixed.virial,
            extras=extras(report, told) if self._with_extras or told else "",
        )


async def _both(plain: Awaitable[Answer], rest: Awaitable[_Rest]) -> tuple[Answer, _Rest]:
    """Wait for both; the first to fail fails both."""
    return await asyncio.gather(plain, rest)


def _look(task: asyncio.Task[Any]) -> None:
    """Whoever waited got the error; that nobody did is no error of its own."""
    if not task.cancelled():
        task.exception()


def _same(one: Frame, other: Frame) -> bool:
    return np.array_equal(one.cell, other.cell) and np.array_equal(one.positions, other.positions)
