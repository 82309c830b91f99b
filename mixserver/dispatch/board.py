"""The job board: who is doing what. Knows no sockets, no arrays and no clock.

Feed it events, do what it says: `handle(event, now)` returns the actions to carry out, in order.

A job waits in its role's queue or is at one or more workers; the first answer counts. A worker is
idle or at one job; if it was at a job that has been answered elsewhere or withdrawn, it stays busy
until it says something about it. A worker that falls silent keeps its place but is not asked, and
its job goes back to the head of the queue; once heard, it is counted on again.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TypeAlias

from mixserver.dispatch.actions import (
    Action,
    Assign,
    Back,
    Drop,
    Finish,
    GiveUp,
    Lost,
    Overdue,
    Served,
    Starved,
    Submitted,
    TakeIn,
    Tick,
    TurnAway,
    Withdrawn,
)
from mixserver.dispatch.events import Answered, Event, Failed, Heard, Joined, Left
from mixserver.dispatch.policy import Policy
from mixserver.wire.worker import UNITS, ModelCard, Role

Stimulus: TypeAlias = Event | Submitted | Withdrawn | Tick


@dataclass(slots=True)
class Place:
    """One worker's place on the board."""

    role: Role
    card: ModelCard
    heard: float
    """When it was last heard."""
    idle_since: float
    job: int | None = None
    """What it was asked last and has said nothing about yet."""
    due: float = 0.0
    """When it should be done with `job`."""
    stream: int | None = None
    """The stream of its last job: what its engine is warm for."""
    silent: bool = False
    overdue: bool = False


@dataclass(slots=True)
class _Job:
    role: Role
    stream: int
    at: str | None = None
    """The worker counted on for it; None if it waits."""
    story: list[tuple[str, str]] = field(default_factory=list)
    """Workers it broke, and how."""


class Board:
    """The state machine. All state changes in `handle`."""

    def __init__(self, policy: Policy) -> None:
        self._policy = policy
        self._places: dict[str, Place] = {}
        self._open: dict[int, _Job] = {}
        self._waiting: dict[Role, list[int]] = {role: [] for role in policy.roles}
        self._pins: dict[Role, str] = {r: pin for r, pin in policy.roles.items() if pin}
        self._cards: dict[Role, ModelCard] = {}
        self._starved: dict[Role, float] = {}
        self._last_loss: dict[Role, str] = {}

    @property
    def places(self) -> dict[str, Place]:
        """Every worker's place, by name. Not to be changed."""
        return self._places

    def card(self, role: Role) -> ModelCard | None:
        """The card of the first worker taken in for a role; it outlives the worker."""
        return self._cards.get(role)

    def handle(self, event: Stimulus, now: float) -> list[Action]:
        """Take note of an event.

        Args:
            event: what happened.
            now: seconds on any clock that does not go backwards.

        Returns:
            What to do about it, in order.
        """
        return [*self._take_note(event, now), *self._supply(now), *self._hand_out(now)]

    def _take_note(self, event: Stimulus, now: float) -> Iterator[Action]:
        match event:
            case Submitted(job, role, stream):
                self._open[job] = _Job(role, stream)
                self._waiting[role].append(job)
            case Withdrawn(job):
                self._close(job)
            case Tick():
                yield from self._look_round(now)
            case Joined(worker, role, card):
                yield from self._lose(worker, "joined again")
                yield from self._consider(worker, role, card, now)
            case Left(worker, reason, orderly):
                yield from self._lose(worker, reason, breaks=not orderly)
            case Heard(worker) | Answered(worker) | Failed(worker):
                if worker in self._places:
                    yield from self._heard(worker, now)
                    if not isinstance(event, Heard):
                        yield from self._told(event, now)

    def _consider(self, worker: str, role: Role, card: ModelCard, now: float) -> Iterator[Action]:
        """Take a worker in, or turn it away."""
        if role not in self._policy.roles:
            wanted = ", ".join(self._policy.roles)
            yield TurnAway(
                worker,
                f"worker {worker} joined for role {role!r}, but this server asks only: {wanted}. "
                f"Start it with --role {next(iter(self._policy.roles))}, or add "
                f"[models.{role}] to mix.toml.",
            )
            return
        if card.units != UNITS:
            yield TurnAway(
                worker,
                f"worker {worker} speaks in {card.units!r}, but this protocol has {UNITS!r}: have "
                "it convert what it sends and gets.",
            )
            return
        pin = self._pins.get(role, card.fingerprint)
        if card.fingerprint != pin:
            whose = "mix.toml" if self._policy.roles[role] else "the first worker that joined"
            yield TurnAway(
                worker,
                f"worker {worker} has model {card.name!r} with fingerprint {card.fingerprint}, "
                f"but the {role} model of this run is {pin} ({whose} says so). Start it with the "
                f"same model, or correct models.{role}.fingerprint and start a new run.",
            )
            return
        self._pins[role] = pin
        self._cards.setdefault(role, card)
        self._places[worker] = Place(role, card, heard=now, idle_since=now)
        yield TakeIn(worker, role, card)

    def _heard(self, worker: str, now: float) -> Iterator[Action]:
        place = self._places[worker]
        place.heard = now
        if place.silent:
            place.silent = False
            job = self._open.get(place.job) if place.job is not None else None
            if job is not None:  # it was only slow: what it said of itself then is taken back
                job.story = [told for told in job.story if told[0] != worker]
            yield Back(worker)

    def _told(self, event: Answered | Failed, now: float) -> Iterator[Action]:
        """A worker says how its job went."""
        worker, place = event.worker, self._places[event.worker]
        number = event.result.job if isinstance(event, Answered) else event.job
        if place.job != number:
            # said twice, or after it was let go: nothing is lost. But a busy worker that answers
            # what it was not asked will never answer what it was.
            if place.job is not None:
                yield from self._fault(
                    worker, f"answered job {number} but was asked for job {place.job}"
                )
            elif isinstance(event, Failed) and event.blame == "worker":
                yield from self._fault(worker, event.message)
            return
        if isinstance(event, Failed) and event.blame == "worker":
            yield from self._fault(worker, event.message)
            return
        place.job, place.idle_since, place.overdue = None, now, False
        if number in self._open:
            self._close(number)
            if isinstance(event, Answered):
                yield Finish(number, worker, event.result)
            else:
                why = event.message.removeprefix(f"job {number}: ")  # as engines begin
                yield GiveUp(
                    number,
                    "input",
                    f"worker {worker} says that job {number} cannot be evaluated: {why}",
                )

    def _fault(self, worker: str, reason: str) -> Iterator[Action]:
        yield Drop(worker, reason)
        yield from self._lose(worker, reason)

    def _lose(self, worker: str, reason: str, *, breaks: bool = True) -> Iterator[Action]:
        """Forget a worker; others get its job."""
        place = self._places.pop(worker, None)
        if place is None:
            return
        self._last_loss[place.role] = f"{worker}: {reason}"
        yield Lost(worker, reason, place.job if place.job in self._open else None)
        yield from self._requeue(worker, place, reason if breaks else "")

    def _requeue(self, worker: str, place: Place, reason: str) -> Iterator[Action]:
        """A worker is not counted on for its job any more: the job goes to the head of its queue.

        A job that broke too many workers is blamed itself. Without a reason nothing is suspected.
        """
        number = place.job
        job = self._open.get(number) if number is not None else None
        if number is None or job is None or job.at != worker:
            return
        job.at = None
        if reason:
            job.story.append((worker, reason))
        if len(job.story) >= self._policy.failures:
            story = "; ".join(f"{who}: {what}" for who, what in job.story)
            self._close(number)
            yield GiveUp(
                number,
                "input",
                f"job {number} was given to {len(job.story)} workers and none survived it, so the "
                f"job is blamed: {story}",
            )
        else:
            self._waiting[job.role].insert(0, number)

    def _close(self, number: int) -> None:
        job = self._open.pop(number, None)
        if job is not None and number in self._waiting[job.role]:
            self._waiting[job.role].remove(number)

    def _look_round(self, now: float) -> Iterator[Action]:
        """Who is silent, who is late."""
        for worker, place in list(self._places.items()):
            silence = now - place.heard
            if silence > self._policy.patience_s and not place.silent:
                place.silent = True
                reason = f"silent for {silence:.1f} s"
                self._last_loss[place.role] = f"{worker}: {reason}"
                yield Lost(worker, reason, place.job if place.job in self._open else None)
                yield from self._requeue(worker, place, reason)
            elif place.job is not None and now > place.due and not place.overdue:
                place.overdue = True
                if place.job in self._open:
                    yield Overdue(worker, place.job)
                    yield from self._requeue(
                        worker, place, f"not done within {self._policy.job_timeout_s:g} s"
                    )

    def _supply(self, now: float) -> Iterator[Action]:
        """Which roles have nobody, and whether that is the end."""
        for role, waiting in self._waiting.items():
            alive = any(p.role == role and not p.silent for p in self._places.values())
            if alive or not waiting:
                if self._starved.pop(role, None) is not None and alive:
                    yield Served(role)
                continue
            if role not in self._starved:
                self._starved[role] = now
                yield Starved(role)
            if self._policy.when_none == "stop":
                first = role not in self._cards
                grace = self._policy.first_worker_s if first else self._policy.patience_s
                if now - self._starved[role] >= grace:
                    for number in list(waiting):
                        self._close(number)
                        yield GiveUp(number, "nobody", self.nobody(role))

    def nobody(self, role: Role) -> str:
        """Why a role has no worker."""
        last = self._last_loss.get(role)
        return f"no {role} worker is left" + (f" (the last was {last})" if last else "")

    def _hand_out(self, now: float) -> Iterator[Action]:
        """Give the longest waiting jobs to idle workers: each to one that is warm for it, else to
        the one that has been idle longest.
        """  # noqa: D205 - one sentence
        for role, waiting in self._waiting.items():
            if not waiting:
                continue
            idle = sorted(
                (
                    name
                    for name, place in self._places.items()
                    if place.role == role and place.job is None and not place.silent
                ),
                key=lambda name: self._places[name].idle_since,
            )
            if not idle:
                continue
            chosen = waiting[: len(idle)]
            del waiting[: len(idle)]
            pairs: dict[int, str] = {}
            for number in chosen:
                stream = self._open[number].stream
                warm = next((w for w in idle if self._places[w].stream == stream), None)
                if warm is not None:
                    pairs[number] = warm
                    idle.remove(warm)
            for number in chosen:
                worker = pairs.get(number) or idle.pop(0)
                place, job = self._places[worker], self._open[number]
                place.job, place.stream, place.overdue = number, job.stream, False
                place.due = now + self._policy.job_timeout_s
                job.at = worker
                yield Assign(worker, number)
