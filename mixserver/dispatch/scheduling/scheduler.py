"""The scheduler: which worker evaluates which job. Knows no sockets, no arrays and no clock.

A pure state machine: `handle(event, now)` returns the actions to carry out, in order.

A job is queued for its role or assigned to one or more workers; the first result counts. One that
takes much longer than usual goes to an idle worker, too. A worker is idle or has one job; if that
job was completed elsewhere or cancelled, the worker stays busy until it returns it. A silent worker
keeps its state but gets no jobs, and its job goes back to the head of the queue; once it sends
anything, it is counted on again. A worker that joins again from the same process has only lost its
connection: it keeps the job that it still holds. A process whose result is wrong is quarantined.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import TypeAlias

from mixserver.dispatch.policy import Policy
from mixserver.dispatch.scheduling.actions import (
    AcceptWorker,
    Action,
    CompleteJob,
    DisputeResolved,
    FailJob,
    JobCancelled,
    JobDisputed,
    JobSubmitted,
    RejectWorker,
    ServerPaused,
    Tick,
    WorkerRecovered,
)
from mixserver.dispatch.scheduling.admission import admission_error, name_taken_error
from mixserver.dispatch.scheduling.assigner import Assigner
from mixserver.dispatch.scheduling.events import (
    FailureReceived,
    ResultReceived,
    WorkerAlive,
    WorkerEvent,
    WorkerJoined,
    WorkerLeft,
)
from mixserver.dispatch.scheduling.job_table import JobTable
from mixserver.dispatch.scheduling.losses import WorkerLosses
from mixserver.dispatch.scheduling.quarantine import Quarantine
from mixserver.dispatch.scheduling.roles import Roles
from mixserver.dispatch.scheduling.scheduler_state import (
    Job,
    Workers,
    WorkerState,
    has_second_opinion,
    shift,
)
from mixserver.wire.worker import Role

SchedulerEvent: TypeAlias = WorkerEvent | JobSubmitted | JobCancelled | Tick | ServerPaused


class Scheduler:
    """The state machine. All state changes in `handle`.

    Args:
        policy: the rules.
    """

    def __init__(self, policy: Policy) -> None:
        self._policy = policy
        self._roles = Roles(policy)
        self._workers: dict[str, WorkerState] = {}
        self._jobs = JobTable(policy)
        self._assigner = Assigner(policy, self._jobs, self._workers)
        self._quarantine = Quarantine()
        self._losses = WorkerLosses(
            policy, self._roles, self._workers, self._jobs, self._quarantine
        )

    @property
    def workers(self) -> Workers:
        """Every accepted worker by name. Read only."""
        return self._workers

    @property
    def roles(self) -> Roles:
        """What is known about every role. Read only."""
        return self._roles

    @property
    def queues(self) -> Mapping[Role, Sequence[int]]:
        """The jobs of every role that wait for a worker. Read only."""
        return self._jobs.queues

    @property
    def suspended(self) -> Collection[int]:
        """Jobs that are assigned to no worker until lost ones had time to come back."""
        return self._jobs.suspended

    def no_worker_message(self, role: Role) -> str:
        """Why a role has no worker that could take a job."""
        return self._roles.no_worker_message(role, self._workers)

    def handle(self, event: SchedulerEvent, now: float) -> list[Action]:
        """Process an event.

        Args:
            event: what happened.
            now: seconds on any clock that does not go backwards.

        Returns:
            What to do about it, in order.
        """
        jobs, actions = self._jobs, list[Action]()
        if isinstance(event, JobSubmitted):  # the two events of every job come first
            jobs.submit(event.job, event.role, event.stream, event.size)
            if event.checks:
                state = self._workers.get(event.checks)
                jobs.submit_check(event.job, (event.checks, state.process if state else ""))
        elif isinstance(event, ResultReceived):
            actions += self._received(event, now)
        else:
            actions += self._process(event, now)
        if jobs.suspects:
            actions += jobs.fail_at_fault(self._workers, now)
        actions += self._roles.changes(jobs.queues, self._workers, now)
        for role in self._roles.expired(now):
            reason = self.no_worker_message(role)
            actions += jobs.fail_role(role, reason)
        for role, queue in jobs.queues.items():
            if queue:
                actions += self._assigner.assign(role, queue, now)
        return actions

    def _process(self, event: SchedulerEvent, now: float) -> Iterator[Action]:
        match event:
            case JobCancelled(job):
                self._jobs.close(job)
            case Tick():
                for worker in list(self._workers):
                    yield from self._losses.check_silence(worker, now)
                    yield from self._losses.check_deadline(worker, now)
                yield from self._assigner.copy_late_jobs(now)
            case ServerPaused(seconds):
                shift(self._workers, self._jobs.open, seconds, now)
                self._roles.shift(seconds)
            case WorkerJoined():
                yield from self._join(event, now)
            case WorkerLeft(worker, reason, orderly, unsent):
                yield from self._losses.lose(
                    worker, reason, None if orderly or unsent else "gone", now
                )
            case WorkerAlive(worker):
                yield from self._seen(worker, now)
            case FailureReceived():
                yield from self._received(event, now)

    # Joining.

    def _join(self, event: WorkerJoined, now: float) -> Iterator[Action]:
        """Accept or reject a worker; a rejection does not affect the present owner of its name."""
        worker, role = event.worker, event.role
        before = self._workers.get(worker)
        reconnects = before is not None and before.process == event.process
        error = admission_error(event, self._policy, self._roles.pins)
        if error := error or self._quarantine.error(event):
            if reconnects:
                yield from self._losses.lose(
                    worker, "joined again, but does not fit any more", None, now
                )
            yield RejectWorker(worker, error)
            return
        if before is not None and not reconnects:
            silence = now - before.last_seen
            if not before.silent and silence <= 2.0 * self._policy.heartbeat_s:
                yield RejectWorker(worker, name_taken_error(event, before.process, silence))
            if not before.silent:
                return  # it repeats its Hello soon; by then it is known whether the owner lives
            yield from self._losses.lose(worker, "another worker took its name", "gone", now)
        elif before is not None and before.job != event.job:
            yield from self._losses.lose(worker, "joined again", None, now)
        for job in self._jobs.open.values():  # it is alive, so none of them has broken it
            job.history.forgive(worker, event.process)
        self._roles.pin(role, event.card.fingerprint)
        state = WorkerState(role, event.card, event.process, last_seen=now, idle_since=now)
        state.stream = before.stream if before is not None and reconnects else None
        self._workers[worker] = state
        yield AcceptWorker(worker, role, event.card)
        if event.job is not None:
            self._resume(worker, event.job, now)

    def _resume(self, worker: str, number: int, now: float) -> None:
        """A worker has joined while it holds a job, perhaps of another server."""
        state, job = self._workers[worker], self._jobs.get(number)
        state.job, state.due = number, now + self._policy.job_timeout_s
        if job is None or worker not in job.history.assigned:
            return
        state.stream, state.due = job.stream, job.history.assigned[worker]
        self._jobs.assign(number, worker)

    # Results and failures.

    def _seen(self, worker: str, now: float) -> list[Action]:
        """A worker has sent something."""
        state = self._workers.get(worker)
        if state is None:
            return []
        state.last_seen = now
        if not state.silent:
            return []
        state.silent = False
        if (job := self._jobs.get(state.job)) is not None:
            job.history.forgive(worker, state.process)
        return [WorkerRecovered(worker)]

    def _received(self, event: ResultReceived | FailureReceived, now: float) -> list[Action]:
        actions = self._seen(event.worker, now)
        if event.worker in self._workers:
            actions += self._returned(event, now)
        return actions

    def _returned(self, event: ResultReceived | FailureReceived, now: float) -> Iterator[Action]:
        """A worker returns a job, with a result or a failure."""
        worker, state = event.worker, self._workers[event.worker]
        number = event.result.job if isinstance(event, ResultReceived) else event.job
        if state.job != number and state.job is not None:
            # a busy worker that returns another job than its own will never return its own
            reason = f"answered job {number} but was asked for job {state.job}"
            yield from self._losses.drop(worker, reason, now)
        elif isinstance(event, FailureReceived) and event.blame == "worker":
            yield from self._losses.drop(worker, event.message, now)
        elif state.job == number:  # otherwise it is repeated, or the worker was dropped meanwhile
            state.job, state.idle_since, state.overdue, state.hung = None, now, False, False
            job = self._jobs.get(number)
            if job is None or worker not in job.history.assigned:
                return
            if isinstance(event, FailureReceived):
                yield from self._refused(event, job)
                return
            self._assigner.completed(job, state, now)
            for other, why in job.history.refusals.items():
                yield DisputeResolved(number, worker, f"{other}: {why}")
            self._jobs.close(number)
            yield CompleteJob(number, worker, event.result)
            for other in job.history.doubted & self._workers.keys():
                yield from self._losses.drop(other, job.history.refusals[other], now, kind=None)

    def _refused(self, event: FailureReceived, job: Job) -> Iterator[Action]:
        """A worker reports that a job is at fault: two must agree, unless no other is left.

        A strange result on which two agree is the model's: whether it is sent to i-PI is decided
        by those who know the limits of the whole structure.
        """
        number, worker, reason = event.job, event.worker, event.message
        job.history.refusals[worker] = reason
        if event.result is not None:
            job.history.doubted.add(worker)
        if len(job.history.refusals) > 1 or not has_second_opinion(job, self._workers):
            self._jobs.close(number)
            if event.result is not None:
                yield CompleteJob(number, worker, event.result)
            else:
                yield FailJob(number, "input", job.history.refusal_message(number))
            return
        self._jobs.dispute(number)
        yield JobDisputed(worker, number, reason)
        self._jobs.requeue(number, worker)
