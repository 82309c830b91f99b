"""Several parts of one mixed potential, each for an address of i-PI of its own.

i-PI's multiple time stepping evaluates the cheap potential often and the correction seldom,
ring-polymer contraction evaluates the correction on few beads. Both use one set of workers and
regions: what is evaluated for some positions, or was, serves every channel that sends the same.
"""

from __future__ import annotations

import contextlib
import time
from collections import OrderedDict
from dataclasses import dataclass, field
from functools import partial
from typing import Final

import numpy as np

from mixserver.config import Channel
from mixserver.core.frame import Frame
from mixserver.dispatch.batch import JobResult
from mixserver.dispatch.dispatcher import Dispatcher
from mixserver.mixing.jobs import WHOLE, JobKey, Plan, whole_system_job
from mixserver.mixing.mixer import Diagnostics, MixedResult, Mixer
from mixserver.region.protocol import Evaluation, RegionModel
from mixserver.server.coalesce import SharedTask, wait_all
from mixserver.server.evaluator import Evaluated, JobResults, results
from mixserver.server.timing import Timing

_MOST: Final = 256
"""Frames whose results are kept: all beads of a step, and then some."""
_MOST_BYTES: Final = 1 << 28
_PER_ATOM: Final = 200
"""Bytes per atom that the results about a frame take."""


@dataclass(frozen=True, slots=True)
class _Divided:
    """All that mixing needs beyond the cheap result about the whole system."""

    evaluation: Evaluation
    plan: Plan
    jobs: JobResults


@dataclass(slots=True)
class _Known:
    """What is known about some positions, or is being evaluated."""

    frame: Frame
    whole: SharedTask[JobResult] | None = None
    criterion: str = ""
    """Whose values come with `whole`."""
    divided: dict[int, SharedTask[_Divided]] = field(default_factory=dict)
    """By bead where regions have a memory, so that each bead counts its own; else under 0."""

    @property
    def running(self) -> bool:
        """Whether anything is being evaluated."""
        return any(one.running for one in (self.whole, *self.divided.values()) if one is not None)


class Channels:
    """Evaluates frames for several channels; an `Evaluating`.

    The same positions are evaluated once, for all channels that request them at the same time or
    later. A client that disconnects does not affect others; jobs without a waiter are cancelled. If
    the region has memory, each bead counts its own mixed and correction evaluations, and only a
    bead's latest evaluation is shared. The number of `atoms` limits how many frames are kept.
    """

    def __init__(self, region_model: RegionModel, dispatcher: Dispatcher, atoms: int) -> None:
        self._region_model = region_model
        self._dispatcher = dispatcher
        self._kept: OrderedDict[tuple[int, bytes], _Known] = OrderedDict()
        self._last: dict[int, _Known] = {}
        """Where each bead was at its last evaluation with a region."""
        self._most = max(4, min(_MOST, _MOST_BYTES // (_PER_ATOM * max(1, atoms))))

    async def __call__(
        self, mixer: Mixer, frame: Frame, channel: Channel, timing: Timing
    ) -> Evaluated:
        """Evaluate the part of the potential that the channel stands for."""
        known = self._know(frame)
        since = time.monotonic()
        if channel == "cheap":
            whole = self._whole(known, optional=self._next_criterion(frame.bead))
            await wait_all(whole)
            timing.wait_for((whole.timing,), since)
            whole_result = await whole.result()
            return Evaluated(_cheap_alone(whole_result), {WHOLE: whole_result})
        divided = self._divided(known, frame, mixer)
        jobs: dict[JobKey, JobResult] = {}
        if channel == "mixed" or mixer.correction_needs_whole:
            whole = self._whole(known)
            await wait_all(whole, divided)  # the cheap model evaluates while clusters are carved
            timing.wait_for((whole.timing, divided.timing), since)
            jobs[WHOLE] = await whole.result()
        else:
            await wait_all(divided)
            timing.wait_for((divided.timing,), since)
        one = await divided.result()
        jobs |= one.jobs
        mixed = mixer.combine(one.plan, results(jobs), channel)
        if not one.evaluation.committed:  # the first of those who share it
            one.evaluation.commit(mixed.lambda_update_energy)
        return Evaluated(mixed, jobs, one.plan.region, one.evaluation.work)

    def _know(self, frame: Frame) -> _Known:
        """What is known about these very positions, of whichever bead."""
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

    def _whole(
        self, known: _Known, *, required: str = "", optional: str = ""
    ) -> SharedTask[JobResult]:
        """The cheap result about the whole system.

        Args:
            known: about what.
            required: the criterion whose values must come with it.
            optional: the criterion whose values come with it unless the result is there already.
        """
        whole = known.whole
        if whole is None or not whole.usable or required not in ("", known.criterion):
            known.criterion = required or optional
            evaluate = partial(self._evaluate_whole, known.frame, known.criterion)
            whole = known.whole = SharedTask(evaluate)
        return whole

    async def _evaluate_whole(self, frame: Frame, criterion: str, timing: Timing) -> JobResult:
        with self._dispatcher.batch() as batch:
            batch.submit(WHOLE, "cheap", whole_system_job(frame, criterion=criterion))
            found: dict[JobKey, JobResult] = await batch.gather()
        timing.last_result = batch.last_result
        return found[WHOLE]

    def _next_criterion(self, bead: int) -> str:
        """The criterion whose values a region may want at the positions of a cheap request.

        Its values come along with the forces at little cost, so that the same positions need not be
        evaluated again for it. Which bead of the other channels they belong to is unknown.
        """
        beads = list(self._last) or [bead]
        return next(filter(None, map(self._region_model.next_criterion, beads)), "")

    def _divided(self, known: _Known, frame: Frame, mixer: Mixer) -> SharedTask[_Divided]:
        """All beyond the whole system. A task that is made here is an evaluation of its bead."""
        has_memory = self._region_model.has_memory
        bead = frame.bead if has_memory else 0
        divided = known.divided.get(bead)
        if divided is not None and divided.usable:
            return divided
        if has_memory:
            before = self._last.get(bead)
            if before is not None:  # its region is not that of a later evaluation there
                before.divided.pop(bead, None)
            self._last[bead] = known
        evaluation = self._region_model.evaluation(frame)
        criterion = evaluation.criterion
        sample = self._whole(known, required=criterion) if criterion else None
        divided = SharedTask(partial(self._divide, frame, mixer, evaluation, sample))
        known.divided[bead] = divided
        return divided

    async def _divide(
        self,
        frame: Frame,
        mixer: Mixer,
        evaluation: Evaluation,
        sample: SharedTask[JobResult] | None,
        timing: Timing,
    ) -> _Divided:
        """Divide the frame, carve, and have the clusters evaluated."""
        with contextlib.ExitStack() as stack:
            if sample is not None:
                stack.enter_context(sample)  # evaluated meanwhile
                if evaluation.selects:
                    evaluation.record_criterion((await sample.result()).result.values)
            began = time.monotonic()
            plan = mixer.plan(frame, evaluation.region(), whole_known=True)
            batch = stack.enter_context(self._dispatcher.batch())
            for key, job in plan:
                batch.submit(key, key.role, job)
            submitted = time.monotonic()
            timing.busy.append((began, submitted))
            found = await batch.gather()
            timing.last_result = max(submitted, batch.last_result)
            if sample is not None and not evaluation.selects:
                evaluation.record_criterion((await sample.result()).result.values)
                timing.last_result = max(timing.last_result, sample.timing.last_result)
        return _Divided(evaluation, plan, found)


def _cheap_alone(whole_result: JobResult) -> MixedResult:
    result = whole_result.result
    diagnostics = Diagnostics(energy_is="cheap")
    return MixedResult(result.energy, result.forces, result.virial, diagnostics)
