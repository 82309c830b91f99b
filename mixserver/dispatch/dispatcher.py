"""The asyncio shell around the scheduler: sends jobs to workers, validates results, keeps time.

Decides nothing: the scheduler does. Knows listeners by their protocol only.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Self

import structlog

from mixserver.core.errors import NoWorkerError
from mixserver.dispatch.batch import Batch, JobResult
from mixserver.dispatch.combined_jobs import HOLD_S, HeldJobs
from mixserver.dispatch.event_log import EventLogger
from mixserver.dispatch.listener_group import ListenerGroup
from mixserver.dispatch.model_cards import ModelCards
from mixserver.dispatch.policy import Policy
from mixserver.dispatch.scheduling.actions import (
    AcceptWorker,
    Action,
    AssignJob,
    CompleteJob,
    DropWorker,
    FailJob,
    JobCancelled,
    RejectWorker,
    ServerPaused,
    Tick,
    WorkerHung,
    WorkerLost,
)
from mixserver.dispatch.scheduling.assignment import idle_workers
from mixserver.dispatch.scheduling.events import (
    Listener,
    ResultReceived,
    WorkerEvent,
)
from mixserver.dispatch.scheduling.scheduler import Scheduler, SchedulerEvent
from mixserver.dispatch.submitted_jobs import SubmittedJobs
from mixserver.dispatch.tally import Tally
from mixserver.dispatch.transition_log import PER_JOB, Transition, TransitionLog
from mixserver.dispatch.validation import validated
from mixserver.dispatch.views import DispatchView, WorkerView, dispatch_view
from mixserver.wire.worker import STOCK_CLIENT, Evaluate, ModelCard, Role

log = structlog.get_logger(__name__)


class Dispatcher:
    """Evaluates jobs on the workers that are connected.

    Args:
        policy: the rules.
        listeners: where workers connect; opened and closed with the dispatcher.
        clock: seconds that never go backwards; the event loop's by default.
    """

    def __init__(
        self,
        policy: Policy,
        listeners: Sequence[Listener],
        *,
        clock: Callable[[], float] | None = None,
    ) -> None:
        self.on_hung: Callable[[str, str], None] | None = None
        """Called with the name and process ("HOST:PID") of a worker that will never return."""
        self._policy = policy
        self._listeners = ListenerGroup(listeners)
        self._scheduler = Scheduler(policy)
        self._jobs = SubmittedJobs(policy.audit)
        self._held = HeldJobs(policy.batch_sites)
        self._holding: asyncio.TimerHandle | None = None
        self._cards = ModelCards()
        self._pending: deque[SchedulerEvent] = deque()
        self._handling = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._closed = "the dispatcher is not open"
        """Why nothing can be submitted, while there is no loop."""
        self._clock = clock
        self._timer: asyncio.TimerHandle | None = None
        self._tick_s, self._last_tick = policy.tick_s, 0.0
        self._transitions = TransitionLog()
        self._tally = Tally()
        self._logger = EventLogger(policy, self._listeners.start_command)

    async def open(self) -> None:
        """Open the listeners.

        Raises:
            ConfigError: an address is malformed or in use; no listener is left open.
        """
        self._loop = asyncio.get_running_loop()
        self._clock = self._clock or self._loop.time
        self._last_tick = self._clock()
        await self._listeners.open(self._report)
        self._tick()
        log.info("listening for workers", addresses=self._listeners.addresses)

    async def close(self, reason: str) -> None:
        """Say goodbye to every worker; pending batches raise `NoWorkerError`."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._holding is not None:
            self._holding.cancel()
            self._holding = None
        error = NoWorkerError(f"nothing is evaluated any more: {reason}")
        for number, job in self._jobs.take_all():
            self._feed(JobCancelled(number))
            if job.batch is not None:
                job.batch.fail(error)
        self._cards.fail(error)
        self._loop = None
        self._closed = str(error)
        await self._listeners.close(reason)

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close("the server ends" if error is None else f"the server ends: {error}")

    async def run(self, jobs: Sequence[tuple[Role, Evaluate]]) -> list[JobResult]:
        """Evaluate jobs, all at once.

        Args:
            jobs: what is evaluated by which role. Job numbers are assigned here; arrays are not
                copied and must not change until this returns.

        Returns:
            One result per job, in the same order.

        Raises:
            BadInput: a job is at fault; the others are cancelled.
            NoWorkerError: no worker is left for one (only under "stop"), or the dispatcher closed.
        """
        for role, _ in jobs:
            self._check_role(role)
        with self.batch() as batch:
            for index, (role, evaluate) in enumerate(jobs):
                batch.submit(index, role, evaluate)
            return list((await batch.gather()).values())

    def batch(self) -> Batch:
        """Jobs that are submitted one by one and gathered together; see `Batch`."""
        self._check_open()
        return Batch(self._submit, self._cancel)

    async def card(self, role: Role) -> ModelCard:
        """The model card of a role; waits for the first worker of the role.

        Raises:
            NoWorkerError: none joined (only under "stop"), or the dispatcher closed.
        """
        self._check_open()
        self._check_role(role)
        stop = self._policy.when_none == "stop"
        try:
            return await self._cards.wait(role, self._policy.first_worker_s if stop else None)
        except TimeoutError:
            raise self._no_worker(self._scheduler.no_worker_message(role), role) from None

    def workers(self) -> list[WorkerView]:
        """Every accepted worker, for a display."""
        return list(self.view().workers)

    def view(self) -> DispatchView:
        """All workers and roles, for a display."""
        return dispatch_view(self._scheduler, self._tally, self._jobs, self._now())

    def transitions(self, *, worker: str | None = None, job: int | None = None) -> list[Transition]:
        """The latest decisions about a worker or a job, or all, oldest first."""
        return self._transitions.select(worker=worker, job=job)

    def check_deadlines(self) -> None:
        """Look for silent and overdue workers; happens regularly by itself."""
        self._feed(Tick())

    def _submit(self, role: Role, evaluate: Evaluate, batch: Batch) -> int:
        now = self._now()
        self._check_role(role)
        event = self._jobs.submit(role, evaluate, batch, now)
        checked = self._jobs[event.job].check is not None
        if checked or not self._held.hold(role, evaluate, event.job, self._cards.get(role)):
            self._feed(event)
        elif self._holding is None and self._loop is not None:
            self._holding = self._loop.call_later(HOLD_S, self._submit_held)
        return event.job

    def _submit_held(self) -> None:
        """Submit the jobs that have waited for others."""
        self._holding = None
        idle = len(idle_workers("expensive", self._scheduler.workers))
        for numbers in self._held.take(idle):
            event = self._jobs.combine(numbers, self._now())
            if event is not None:
                self._feed(event)

    def _cancel(self, number: int) -> None:
        if (unwanted := self._jobs.cancel(number)) is not None:
            self._feed(JobCancelled(unwanted))

    def _check_open(self) -> None:
        if self._loop is None:
            raise NoWorkerError(self._closed)

    def _check_role(self, role: Role) -> None:
        if role not in self._policy.roles:
            raise NoWorkerError(f"no {role} model is configured; mix.toml lacks [models.{role}]")

    def _now(self) -> float:
        self._check_open()
        return self._clock() if self._clock is not None else 0.0

    def _tick(self) -> None:
        if self._loop is not None:
            # rescheduled first: whatever fails below, the timer goes on
            self._timer = self._loop.call_later(self._tick_s, self._tick)
            self.check_deadlines()

    def _report(self, listener: Listener, event: WorkerEvent) -> None:
        """Called by the listeners."""
        if not self._listeners.admits(listener, event):
            return
        if isinstance(event, ResultReceived):
            job = self._jobs.get(event.result.job)
            if job is not None:
                worker = self._scheduler.workers.get(event.worker)
                symmetric = worker is not None and worker.card.engine != STOCK_CLIENT
                event = validated(event, job.evaluate, symmetric=symmetric)
        self._feed(event)

    def _feed(self, event: SchedulerEvent) -> None:
        """Pass an event to the scheduler. Listeners may report more while it is handled."""
        self._pending.append(event)
        if self._handling or self._loop is None:
            return
        self._handling = True
        try:
            while self._pending:
                now, event = self._now(), self._pending.popleft()
                late = now - self._last_tick - self._tick_s
                if late > self._tick_s:  # this process did not run: no worker's fault
                    self._last_tick = now
                    self._handle(ServerPaused(late), now)
                if isinstance(event, Tick):
                    self._last_tick = now
                self._handle(event, now)
        finally:
            self._handling = False

    def _handle(self, event: SchedulerEvent, now: float) -> None:
        for action in self._scheduler.handle(event, now):
            self._carry_out(action, now)
            if type(action) not in PER_JOB:
                self._transitions.record(action, now)
                self._tally.count(action)
                self._logger.log(action)

    def _carry_out(self, action: Action, now: float) -> None:
        match action:
            case AssignJob(worker, number):
                job = self._jobs[number]
                job.assigned[worker] = now
                self._transitions.append((now, "AssignJob", worker, number, ""))
                self._listeners.send(worker, job.evaluate)
            case CompleteJob(number, worker, result):
                card = self._cards.get(self._jobs[number].role)
                dtype = card.dtype if card is not None else ""
                done, second = self._jobs.complete(number, worker, result, dtype, now)
                self._tally.complete(worker, done.took_s)
                self._transitions.append((now, "CompleteJob", worker, number, ""))
                if second is not None:
                    self._feed(second)
            case FailJob(number, "no_worker", reason):
                error = self._no_worker(reason, self._jobs[number].role)
                self._jobs.give_up(number, reason, error, now)
            case FailJob(number, _, reason):
                history = self._transitions.describe(number)
                for event in self._jobs.fail(number, reason, history, now):
                    self._feed(event)
            case AcceptWorker(worker, role, card):
                self._listeners.accept(worker)
                self._cards.add(role, card)
            case RejectWorker(worker, reason):
                self._listeners.reject(worker, reason)
            case DropWorker(worker, reason):
                self._listeners.drop(worker, f"{reason}. Restart the worker to have it back.")
            case WorkerLost(worker) if worker not in self._scheduler.workers:
                self._listeners.forget(worker)
                self._tally.forget(worker)
            case WorkerHung(worker, process) if self.on_hung is not None:
                self.on_hung(worker, process)

    def _no_worker(self, reason: str, role: Role) -> NoWorkerError:
        return NoWorkerError(f"{reason}. Start one with: {self._listeners.start_command(role)}")
