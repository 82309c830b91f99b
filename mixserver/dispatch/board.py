"""The job board: who is doing what. Knows no sockets, no arrays and no clock.

Feed it events, do what it says: `handle(event, now)` returns the actions to carry out, in order.

A job waits in its role's queue or is at one or more workers; the first answer counts. A worker is
idle or at one job; if it was at a job that has been answered elsewhere or withdrawn, it stays busy
until it says something about it. A worker that falls silent keeps its place but is not asked, and
its job goes back to the head of the queue; once heard, it is counted on again. A worker that joins
again from the same process has only lost its connection: it keeps the job it still holds.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import TypeAlias

from mixserver.dispatch.actions import (
    Action,
    Assign,
    Back,
    Contradicted,
    Doubted,
    Drop,
    Finish,
    GiveUp,
    Hung,
    Lost,
    Overdue,
    Paused,
    Served,
    Starved,
    Submitted,
    TakeIn,
    Tick,
    TurnAway,
    Withdrawn,
)
from mixserver.dispatch.admission import taken, unfit
from mixserver.dispatch.events import Answered, Event, Failed, Heard, Joined, Left
from mixserver.dispatch.history import How
from mixserver.dispatch.places import Job, Place, idle_workers, pair, second
from mixserver.dispatch.policy import Policy
from mixserver.wire.worker import ModelCard, Role

Stimulus: TypeAlias = Event | Submitted | Withdrawn | Tick | Paused


class Board:
    """The state machine. All state changes in `handle`."""

    def __init__(self, policy: Policy) -> None:
        self._policy = policy
        self._places: dict[str, Place] = {}
        self._open: dict[int, Job] = {}
        self._waiting: dict[Role, list[int]] = {role: [] for role in policy.roles}
        self._pins: dict[Role, str] = {r: pin for r, pin in policy.roles.items() if pin}
        self._cards: dict[Role, ModelCard] = {}
        self._doubted: set[int] = set()
        """Jobs that one worker calls faulty."""
        self._suspended: set[int] = set()
        self._starved: dict[Role, float] = {}
        self._last_loss: dict[Role, str] = {}

    @property
    def places(self) -> dict[str, Place]:
        """Every worker's place, by name. Not to be changed."""
        return self._places

    @property
    def suspended(self) -> Collection[int]:
        """Jobs over which too many workers were lost, unless some of these come back: until that
        is known, they are given to no other.
        """  # noqa: D205 - one sentence
        return self._suspended

    def card(self, role: Role) -> ModelCard | None:
        """The card of the first worker taken in for a role; it outlives the worker."""
        return self._cards.get(role)

    def nobody(self, role: Role) -> str:
        """Why a role has no worker that could be asked."""
        last = self._last_loss.get(role)
        there = any(place.role == role for place in self._places.values())
        return f"no {role} worker {'answers' if there else 'is left'}" + (
            f" (the last was {last})" if last else ""
        )

    def handle(self, event: Stimulus, now: float) -> list[Action]:
        """Take note of an event.

        Args:
            event: what happened.
            now: seconds on any clock that does not go backwards.

        Returns:
            What to do about it, in order.
        """
        return [
            *self._take_note(event, now),
            *self._judge(now),
            *self._supply(now),
            *self._hand_out(now),
        ]

    def _take_note(self, event: Stimulus, now: float) -> Iterator[Action]:
        match event:
            case Submitted(job, role, stream):
                self._open[job] = Job(role, stream)
                self._waiting[role].append(job)
            case Withdrawn(job):
                self._close(job)
            case Tick():
                yield from self._look_round(now)
            case Paused(seconds):
                self._make_up_for(seconds, now)
            case Joined():
                yield from self._joined(event, now)
            case Left(worker, reason, orderly, unsent):
                yield from self._lose(worker, reason, None if orderly or unsent else "gone", now)
            case Heard(worker) | Answered(worker) | Failed(worker):
                if worker in self._places:
                    yield from self._heard(worker, now)
                    if not isinstance(event, Heard):
                        yield from self._told(event, now)

    def _joined(self, event: Joined, now: float) -> Iterator[Action]:
        """Take a worker in, or turn it away; one that has its name already is not affected."""
        worker, role = event.worker, event.role
        before = self._places.get(worker)
        again = before is not None and before.process == event.process
        if wrong := unfit(event, self._policy, self._pins):
            if again:
                yield from self._lose(worker, "joined again, but does not fit any more", None, now)
            yield TurnAway(worker, wrong)
            return
        if before is not None and not again:
            silence = now - before.heard
            if not before.silent and silence <= 2.0 * self._policy.heartbeat_s:
                yield TurnAway(worker, taken(event, before.process, silence))
            if not before.silent:
                return  # unanswered, it asks again soon: then it is known whether that one lives
            yield from self._lose(worker, "another worker took its name", "gone", now)
        elif before is not None and before.job != event.job:
            yield from self._lose(worker, "joined again", None, now)
        for job in self._open.values():  # it lives, so none of them has broken it
            job.history.pardon(worker, event.process)
        self._pins[role] = event.card.fingerprint
        self._cards.setdefault(role, event.card)
        place = Place(role, event.card, event.process, heard=now, idle_since=now)
        place.stream = before.stream if before is not None and again else None
        self._places[worker] = place
        yield TakeIn(worker, role, event.card)
        if event.job is not None:
            self._resume(worker, event.job, now)

    def _resume(self, worker: str, number: int, now: float) -> None:
        """A worker has joined with a job in its hands, perhaps of another server."""
        place, job = self._places[worker], self._open.get(number)
        place.job, place.due = number, now + self._policy.job_timeout_s
        if job is None or worker not in job.history.given:
            return
        place.stream, place.due = job.stream, job.history.given[worker]
        if job.at is None:
            self._waiting[job.role].remove(number)
            job.at = worker

    def _heard(self, worker: str, now: float) -> Iterator[Action]:
        place = self._places[worker]
        place.heard = now
        if place.silent:
            place.silent = False
            job = self._open.get(place.job) if place.job is not None else None
            if job is not None:
                job.history.pardon(worker, place.process)
            yield Back(worker)

    def _told(self, event: Answered | Failed, now: float) -> Iterator[Action]:
        """A worker says how its job went."""
        worker, place = event.worker, self._places[event.worker]
        number = event.result.job if isinstance(event, Answered) else event.job
        own = isinstance(event, Failed) and event.blame == "worker"
        if place.job != number and place.job is not None:
            # a busy worker that answers what it was not asked will never answer what it was
            yield from self._fault(
                worker, f"answered job {number} but was asked for job {place.job}", now
            )
        elif own:
            yield from self._fault(worker, event.message if isinstance(event, Failed) else "", now)
        elif place.job == number:  # else it is said twice, or after it was let go
            place.job, place.idle_since, place.overdue, place.hung = None, now, False, False
            job = self._open.get(number)
            if job is None or worker not in job.history.given:
                return
            if isinstance(event, Failed):
                yield from self._refused(number, job, worker, event.message)
                return
            for other, why in job.history.refusals.items():
                yield Contradicted(number, worker, f"{other}: {why}")
            self._close(number)
            yield Finish(number, worker, event.result)

    def _refused(self, number: int, job: Job, worker: str, why: str) -> Iterator[Action]:
        """A worker calls a job faulty: that is believed of two, or if there is no other to ask."""
        job.history.refusals[worker] = why
        if len(job.history.refusals) > 1 or not second(job, self._places):
            self._close(number)
            yield GiveUp(number, "input", job.history.refused(number))
            return
        self._doubted.add(number)
        yield Doubted(worker, number, why)
        if job.at == worker:
            job.at = None
            self._waiting[job.role].insert(0, number)

    def _fault(self, worker: str, reason: str, now: float) -> Iterator[Action]:
        yield Drop(worker, reason)
        yield from self._lose(worker, reason, "failed", now)

    def _lose(self, worker: str, reason: str, how: How | None, now: float) -> Iterator[Action]:
        """Forget a worker; others get its job. Without a "how" the job is not suspected of it."""
        place = self._places.pop(worker, None)
        if place is None:
            return
        self._last_loss[place.role] = f"{worker}: {reason}"
        yield Lost(worker, reason, place.job if place.job in self._open else None)
        self._requeue(worker, place, reason, how, now)

    def _requeue(self, worker: str, place: Place, reason: str, how: How | None, now: float) -> None:
        """A worker is not counted on for its job any more; the job heads its queue."""
        number = place.job
        job = self._open.get(number) if number is not None else None
        if number is None or job is None or job.at != worker:
            return
        job.at = None
        self._waiting[job.role].insert(0, number)
        if how is not None:
            job.history.lose(worker, place.process, how, reason, now)
            if job.history.losses >= self._policy.failures:
                self._suspended.add(number)

    def _judge(self, now: float) -> Iterator[Action]:
        """Give up jobs that broke too many workers, or that all who can be asked call faulty."""
        if not self._suspended and not self._doubted:
            return
        policy = self._policy
        for number in sorted(self._suspended):
            history = self._open[number].history
            if history.losses < policy.failures:
                self._suspended.discard(number)
            elif history.certain(now - policy.patience_s) >= policy.failures:
                self._close(number)
                yield GiveUp(number, "input", history.blamed(number))
        for number in sorted(self._doubted):
            job = self._open[number]
            if job.at is None and not second(job, self._places):
                self._close(number)
                yield GiveUp(number, "input", job.history.refused(number))

    def _close(self, number: int) -> None:
        self._doubted.discard(number)
        self._suspended.discard(number)
        job = self._open.pop(number, None)
        if job is not None and number in self._waiting[job.role]:
            self._waiting[job.role].remove(number)

    def _look_round(self, now: float) -> Iterator[Action]:
        """Who is silent, who is late, who will never answer."""
        policy = self._policy
        for worker, place in list(self._places.items()):
            silence = now - place.heard
            if silence > policy.patience_s and not place.silent:
                place.silent = True
                reason = f"silent for {silence:.1f} s"
                self._last_loss[place.role] = f"{worker}: {reason}"
                yield Lost(worker, reason, place.job if place.job in self._open else None)
                self._requeue(worker, place, reason, "gone", now)
            if place.job is None:
                continue
            late = now - place.due
            if late > 0.0 and not place.overdue and not place.silent:
                place.overdue = True
                limit = f"{policy.job_timeout_s:g} s, which is workers.job_timeout_s"
                reason = f"job {place.job} not done within {limit}"
                self._last_loss[place.role] = f"{worker}: {reason}"
                if place.job in self._open:
                    yield Overdue(worker, place.job)
                    self._requeue(worker, place, reason, "late", now)
            if late > policy.hung_s - policy.job_timeout_s:
                reason = f"job {place.job} not done within {policy.hung_s:g} s"
                if not place.hung:
                    place.hung = True
                    yield Hung(worker, place.process, reason)
                if not place.silent:  # one that cannot hear it may come back as it is
                    yield Drop(worker, reason)
                    yield from self._lose(worker, reason, "late", now)

    def _make_up_for(self, seconds: float, now: float) -> None:
        """No worker was heard or given a job for a while, through no fault of theirs."""
        for place in self._places.values():
            place.heard = min(now, place.heard + seconds)
            place.due += seconds
        for job in self._open.values():
            job.history.later(seconds)
        self._starved = {role: since + seconds for role, since in self._starved.items()}

    def _supply(self, now: float) -> Iterator[Action]:
        """Which roles and jobs have no worker that could be asked, and whether that is the end."""
        for role, waiting in self._waiting.items():
            if not waiting and role not in self._starved:
                continue
            alive = any(p.role == role and p.healthy for p in self._places.values())
            if alive or not waiting:
                if self._starved.pop(role, None) is not None and alive:
                    yield Served(role)
                continue
            if role not in self._starved:
                self._starved[role] = now
                yield Starved(role, self.nobody(role))
            if self._policy.when_none == "stop":
                first = role not in self._cards
                grace = self._policy.first_worker_s if first else self._policy.patience_s
                if now - self._starved[role] >= grace:
                    for number in list(waiting):
                        self._close(number)
                        yield GiveUp(number, "nobody", self.nobody(role))

    def _hand_out(self, now: float) -> Iterator[Action]:
        """Give waiting jobs to idle workers."""
        for role, waiting in self._waiting.items():
            if not waiting or not (idle := idle_workers(role, self._places)):
                continue
            ready = [number for number in waiting if number not in self._suspended]
            for number, worker in pair(ready, idle, self._open, self._places).items():
                waiting.remove(number)
                place, job = self._places[worker], self._open[number]
                place.job, place.stream, place.overdue = number, job.stream, False
                place.due, place.hung = now + self._policy.job_timeout_s, False
                job.at = worker
                job.history.given[worker] = place.due
                yield Assign(worker, number)
