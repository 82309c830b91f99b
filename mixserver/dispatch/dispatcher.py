"""The asyncio shell around the board: asks workers, checks what they say, keeps the time.

Knows doors only by their protocol, and decides nothing: the board does.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

import msgspec
import structlog

from mixserver.dispatch import check
from mixserver.dispatch.actions import (
    Action,
    Assign,
    Drop,
    Finish,
    GiveUp,
    Hung,
    Lost,
    Paused,
    Submitted,
    TakeIn,
    Tick,
    TurnAway,
    Withdrawn,
)
from mixserver.dispatch.batch import Batch, Reply
from mixserver.dispatch.board import Board, Stimulus
from mixserver.dispatch.events import Answered, Door, Event, Failed, Joined
from mixserver.dispatch.numbers import job_numbers
from mixserver.dispatch.policy import Policy
from mixserver.dispatch.telling import Teller
from mixserver.dispatch.views import WorkerView, view
from mixserver.errors import BadInput, NoWorkerError
from mixserver.wire.worker import Evaluate, ModelCard, Role

log = structlog.get_logger(__name__)


@dataclass(slots=True)
class _Question:
    role: Role
    evaluate: Evaluate
    batch: Batch
    asked: float
    handed: dict[str, float] = field(default_factory=dict)
    """When it was handed to which worker."""


class Dispatcher:
    """Has questions answered by whichever workers are there.

    Args:
        policy: the rules.
        doors: where workers come in; opened and closed with the dispatcher.
        clock: seconds that never go backwards; the event loop's by default.
    """

    def __init__(
        self,
        policy: Policy,
        doors: Sequence[Door],
        *,
        clock: Callable[[], float] | None = None,
    ) -> None:
        self.on_hung: Callable[[str, str], None] | None = None
        """Called with a worker's name and process ("HOST:PID") once it will never answer."""
        self._policy = policy
        self._doors = tuple(doors)
        self._board = Board(policy)
        self._door_of: dict[str, Door] = {}
        self._joins: tuple[str, Door] | None = None
        """Who wants to join just now, and by which door."""
        self._questions: dict[int, _Question] = {}
        self._numbers = job_numbers()
        self._todo: deque[Stimulus] = deque()
        self._busy = False
        self._joining: dict[Role, set[asyncio.Future[ModelCard]]] = {r: set() for r in policy.roles}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._ended = "the dispatcher is not open"
        self._now = clock
        self._timer: asyncio.TimerHandle | None = None
        self._looked = 0.0
        self._teller = Teller(policy, self._cure)

    async def open(self) -> None:
        """Open the doors.

        Raises:
            ConfigError: an address is in use or none; nothing is left open.
        """
        self._loop = asyncio.get_running_loop()
        self._now = self._now or self._loop.time
        self._looked = self._now()
        async with contextlib.AsyncExitStack() as opened:
            for door in self._doors:
                await door.open(self._report)
                opened.push_async_callback(door.close, "another door could not be opened")
            opened.pop_all()
        self._tick()
        log.info("doors open", addresses=[door.address for door in self._doors])

    async def close(self, reason: str) -> None:
        """Say goodbye to every worker; whoever waits for an answer gets `NoWorkerError`."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        error = NoWorkerError(f"nothing is evaluated any more: {reason}")
        for number in list(self._questions):
            question = self._questions.pop(number)
            self._feed(Withdrawn(number))
            question.batch.failed(error)
        for futures in self._joining.values():
            for future in futures:
                _fail(future, error)
        self._loop = None
        self._ended = str(error)
        async with contextlib.AsyncExitStack() as closing:  # each, though another fails
            for door in reversed(self._doors):
                closing.push_async_callback(door.close, reason)

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

    async def run(self, questions: Sequence[tuple[Role, Evaluate]]) -> list[Reply]:
        """Have questions answered, all at once.

        Args:
            questions: who is to evaluate what. Job numbers are given here; arrays are not copied
                and must not change until this returns.

        Returns:
            One reply per question, in the same order.

        Raises:
            BadInput: a question is at fault; the others are withdrawn.
            NoWorkerError: nobody is left for one (only under "stop"), or the dispatcher closed.
        """
        for role, _ in questions:
            self._known(role)
        with self.batch() as batch:
            for role, evaluate in questions:
                batch.ask(role, evaluate)
            return await batch.answers()

    def batch(self) -> Batch:
        """Questions that are asked one after the other and answered together; see `Batch`."""
        self._running()
        return Batch(self._submit, self._withdraw)

    def _submit(self, role: Role, evaluate: Evaluate, batch: Batch) -> int:
        asked = self._time()
        self._known(role)
        number = next(self._numbers)
        numbered = msgspec.structs.replace(evaluate, job=number)
        self._questions[number] = _Question(role, numbered, batch, asked)
        self._feed(Submitted(number, role, evaluate.stream))
        return number

    def _withdraw(self, number: int) -> None:
        if self._questions.pop(number, None) is not None:
            self._feed(Withdrawn(number))

    async def card(self, role: Role) -> ModelCard:
        """What the model of a role says of itself; waits for the first worker of the role.

        The card outlives its worker: all workers of a role have the same model.

        Raises:
            NoWorkerError: none came (only under "stop"), or the dispatcher closed.
        """
        loop = self._running()
        self._known(role)
        if (card := self._board.card(role)) is not None:
            return card
        future: asyncio.Future[ModelCard] = loop.create_future()
        self._joining[role].add(future)
        try:
            stop = self._policy.when_none == "stop"
            async with asyncio.timeout(self._policy.first_worker_s if stop else None):
                return await future
        except TimeoutError:
            raise self._nobody(self._board.nobody(role), role) from None
        finally:
            self._joining[role].discard(future)

    def workers(self) -> list[WorkerView]:
        """Every worker there is, for a display."""
        now = self._time()
        return [view(name, place, now) for name, place in self._board.places.items()]

    def _running(self) -> asyncio.AbstractEventLoop:
        if self._loop is None:
            raise NoWorkerError(self._ended)
        return self._loop

    def _known(self, role: Role) -> None:
        if role not in self._policy.roles:
            raise NoWorkerError(f"no {role} model is configured; mix.toml lacks [models.{role}]")

    def _time(self) -> float:
        self._running()
        return self._now() if self._now is not None else 0.0

    def _tick(self) -> None:
        # first of all: whatever goes wrong below, the clock goes on
        self._timer = self._running().call_later(self._policy.tick_s, self._tick)
        self.look_round()

    def look_round(self) -> None:
        """Notice who is silent and who is late; the dispatcher does so by itself all the time."""
        self._feed(Tick())

    def _report(self, door: Door, event: Event) -> None:
        """What the doors call."""
        if isinstance(event, Joined):
            self._joins = event.worker, door
        elif self._door_of.get(event.worker) is not door:
            return
        elif isinstance(event, Answered):
            question = self._questions.get(event.result.job)
            if question is not None and (wrong := check.fault(question.evaluate, event.result)):
                wrong = f"worker {event.worker} {wrong} for job {event.result.job}"
                event = Failed(event.worker, event.result.job, "worker", wrong)
        self._feed(event)

    def _door_of_newcomer(self, worker: str) -> Door:
        if self._joins is not None and self._joins[0] == worker:
            return self._joins[1]
        return self._door_of[worker]

    def _feed(self, event: Stimulus) -> None:
        """Tell the board, and do what it says. Doors may report while that is being done."""
        self._todo.append(event)
        if self._busy or self._loop is None:
            return
        self._busy = True
        try:
            while self._todo:
                now, event = self._time(), self._todo.popleft()
                late = now - self._looked - self._policy.tick_s
                if late > self._policy.tick_s:  # this process stood still: judge no worker by it
                    self._looked = now
                    self._handle(Paused(late), now)
                if isinstance(event, Tick):
                    self._looked = now
                self._handle(event, now)
        finally:
            self._busy = False

    def _handle(self, event: Stimulus, now: float) -> None:
        for action in self._board.handle(event, now):
            self._do(action, now)
            if not isinstance(action, Assign | Finish):  # these come with every evaluation
                self._teller.tell(action)

    def _do(self, action: Action, now: float) -> None:
        match action:
            case Assign(worker, job):
                question = self._questions[job]
                question.handed[worker] = now
                self._door_of[worker].send(worker, question.evaluate)
            case Finish(job, worker, result):
                question = self._questions.pop(job)
                handed = question.handed[worker]
                reply = Reply(result, worker, handed - question.asked, now - handed)
                question.batch.answered(job, reply, now)
            case GiveUp(job, kind, reason):
                question = self._questions.pop(job)
                question.batch.failed(
                    BadInput(reason) if kind == "input" else self._nobody(reason, question.role)
                )
            case TakeIn(worker, role, card):
                self._door_of[worker] = self._door_of_newcomer(worker)
                self._door_of[worker].welcome(worker)
                for future in self._joining[role]:
                    if not future.done():
                        future.set_result(card)
            case TurnAway(worker, reason):
                self._door_of_newcomer(worker).drop(worker, reason)
            case Drop(worker, reason):
                self._door_of[worker].drop(worker, f"{reason}. Restart the worker to have it back.")
            case Lost(worker) if worker not in self._board.places:
                self._door_of.pop(worker, None)
            case Hung(worker, process) if self.on_hung is not None:
                self.on_hung(worker, process)

    def _nobody(self, reason: str, role: Role) -> NoWorkerError:
        return NoWorkerError(f"{reason}. Start one with: {self._cure(role)}")

    def _cure(self, role: Role) -> str:
        addresses = " or ".join(d.address for d in self._doors if "://" in d.address) or "ADDRESS"
        own = f"mixserver-worker ENGINE --server {addresses} --role {role}"
        stock = [d.address for d in self._doors if getattr(d, "role", None) == role]
        if not stock:
            return own
        return f"{own}, or a stock i-PI client at {' or '.join(stock)} (LAMMPS: fix ipi)"


def _fail(future: asyncio.Future[Any], error: Exception) -> None:
    if not future.done():
        future.set_exception(error)
