"""The local workers of a run: waited for until they join, ended when they hang, started again.

Nothing here waits for ever: a worker that neither joins nor ends is given up, and its log quoted.
Knows processes and names of workers; not what they evaluate.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import structlog

from mixserver.children import Child, stat_of
from mixserver.config import Local
from mixserver.dispatch.dispatcher import Dispatcher
from mixserver.errors import InternalError, MixserverError, NoWorkerError, WorkerFault
from mixserver.wire.worker import Role

log = structlog.get_logger(__name__)

WORKER_GRACE_S: Final = 5.0
_EARLY: Final = "a worker of this machine ended before it could join"
_LOOK_S: Final = 0.5
_SAY_S: Final = 60.0
"""A worker that takes longer to join is reported, and again after twice as long each time."""
_WORDS: Final = 6
"""Lines quoted of the log of a worker that does not join."""


@dataclass(slots=True)
class Worker:
    """One local worker, through all its starts."""

    local: Local
    name: str
    """Of the process, e.g. "expensive-1-0"."""
    start: Callable[[str], Awaitable[Child]]
    """Starts its process, which must join under this name."""
    child: Child | None = None
    starts: int = 0
    began: float = 0.0
    late: str = ""
    """Why it was ended, if it did not join in time after its last start."""

    @property
    def joins_as(self) -> str:
        """The name it joins under; another after every start, as the last may not be forgotten."""
        return self.name if self.starts < 2 else f"{self.name}.{self.starts}"

    @property
    def process(self) -> Child:
        """What was started last."""
        if self.child is None:
            raise RuntimeError(f"worker {self.name} was never started")
        return self.child

    async def launch(self) -> None:
        """Start it, once more.

        Raises:
            ConfigError: its command cannot be started.
        """
        self.starts += 1
        self.began, self.late = time.monotonic(), ""
        if self.child is not None:
            with contextlib.suppress(OSError), self.child.log_file.open("a") as words:
                words.write(f"--- started again, as {self.joins_as} ---\n")
        self.child = await self.start(self.joins_as)

    def why_not(self) -> str:
        """What can be seen of a worker that runs and does not join, its log quoted."""
        child, seen = self.process, look(self.process.pid)
        words = [] if seen is None else [seen.words]
        with contextlib.suppress(OSError):
            log_file = child.log_file.stat()
            quiet = max(0.0, time.time() - log_file.st_mtime)
            grown = (
                f"its log last grew {quiet:.0f} s ago" if log_file.st_size else "its log is empty"
            )
            words.append(grown)
        return f"{', '.join(words)}. Its {child.quoted(_WORDS)}"


@dataclass(slots=True)
class Keeper:
    """Keeps local workers running.

    Args:
        dispatcher: whose workers they are.
        workers: all of them, started.
        join_s: how long one may take to join; 0 for ever.
        lost: called with the last worker of a role, if no other can come in its place.
    """

    dispatcher: Dispatcher
    workers: Sequence[Worker]
    join_s: float
    lost: Callable[[NoWorkerError], None] | None = None
    left: Counter[Role] = field(init=False)
    """How many of each role are not gone for good."""
    _ending: set[asyncio.Task[Any]] = field(init=False, default_factory=set)

    def __post_init__(self) -> None:
        self.left = Counter(worker.local.role for worker in self.workers)

    async def until_served(self) -> None:
        """Wait until each role has a worker.

        Raises:
            WorkerFault: a worker ended before that, or none of a role joined in time; its last
                words are quoted.
        """
        roles = {worker.local.role for worker in self.workers}
        cards = {asyncio.ensure_future(self.dispatcher.card(role)): role for role in roles}
        ends = {asyncio.ensure_future(w.process.wait()): w.process for w in self.workers}
        waited: set[asyncio.Future[Any]] = {*cards, *ends}
        say_s = _SAY_S
        try:
            while not all(card.done() for card in cards):
                done, _ = await asyncio.wait(
                    waited, timeout=_LOOK_S, return_when=asyncio.FIRST_COMPLETED
                )
                for child in [ends[task] for task in ends if task in done]:
                    raise WorkerFault(
                        f"{_EARLY}: {child.name} ended with status {child.returncode}; its "
                        f"{child.quoted()}"
                    )
                for card in [task for task in cards if task in done]:
                    self._card_or_why(card, cards[card])
                waited -= done
                missing = [w for w in self.workers if self._awaited(w, cards)]
                age = max((time.monotonic() - w.began for w in missing), default=0.0)
                if missing and 0.0 < self.join_s < age:
                    raise self._late(missing[0])
                if missing and age > say_s:
                    say_s *= 2.0
                    self._say(missing)
        finally:
            for task in (*cards, *ends):
                task.cancel()
            await asyncio.gather(*cards, *ends, return_exceptions=True)

    async def keep(self, worker: Worker) -> None:
        """Look after one worker until it is gone for good."""
        try:
            why = await self._keep(worker)
        except MixserverError as error:  # it cannot even be started again
            why = f"could not be started again: {error}"
        except Exception as error:
            log.exception("worker is no longer looked after", worker=worker.name)
            why = f"is no longer looked after: {InternalError.of(error)}"
        log.warning("worker is gone for good", worker=worker.name, why=why)
        role = worker.local.role
        self.left[role] -= 1
        if self.lost is not None and self.left[role] == 0:
            self.lost(
                NoWorkerError(
                    f"the last {role} worker, {worker.name}, is gone and no other can come: this "
                    f"run's door is private. It {why}"
                )
            )

    async def _keep(self, worker: Worker) -> str:
        """Start it again as often as it may be; why it is gone in the end."""
        for starts in range(worker.local.restarts, 0, -1):
            code = await self._end_of(worker)
            log.warning(
                "worker ended, starting it again",
                worker=worker.name,
                status=code,
                starts_left=starts - 1,
            )
            await worker.process.end(WORKER_GRACE_S)
            await worker.launch()
        code = await self._end_of(worker)
        if worker.late:
            return f"was ended for good, after all its restarts: {worker.late}"
        return (
            f"ended with status {code} for good, after all its restarts. Its "
            f"{worker.process.quoted()}"
        )

    def end_hung(self, name: str, process: str) -> None:
        """End a worker that will never answer; `keep` starts it again."""
        for worker in self.workers:
            if worker.joins_as == name:
                log.warning("worker hangs, ending it", worker=name, process=process)
                ending = asyncio.ensure_future(worker.process.end(WORKER_GRACE_S))
                self._ending.add(ending)
                ending.add_done_callback(self._ending.discard)

    async def _end_of(self, worker: Worker) -> int:
        """Wait until it ends, by itself or because it does not join in time; its exit status."""
        end = asyncio.ensure_future(worker.process.wait())
        say_s = _SAY_S
        try:
            while not end.done() and not self._joined(worker):
                await asyncio.wait({end}, timeout=_LOOK_S)
                age = time.monotonic() - worker.began
                if not end.done() and 0.0 < self.join_s < age and not self._joined(worker):
                    worker.late = str(self._late(worker))
                    log.error("worker does not join", error=worker.late)
                    await worker.process.end(WORKER_GRACE_S)
                elif age > say_s and not self._joined(worker):
                    say_s *= 2.0
                    self._say([worker])
            return await end
        finally:
            end.cancel()

    def _joined(self, worker: Worker) -> bool:
        return any(view.name == worker.joins_as for view in self.dispatcher.workers())

    def _awaited(self, worker: Worker, cards: dict[asyncio.Task[Any], Role]) -> bool:
        return any(role == worker.local.role for card, role in cards.items() if not card.done())

    def _card_or_why(self, card: asyncio.Task[Any], role: Role) -> None:
        try:
            card.result()
        except NoWorkerError as error:
            mine = next(w for w in self.workers if w.local.role == role)
            raise WorkerFault(
                f"{error}\n{mine.name}, a worker of this machine, runs and has not joined: "
                f"{mine.why_not()}"
            ) from error

    def _late(self, worker: Worker) -> WorkerFault:
        return WorkerFault(
            f"worker {worker.name} runs but has not joined within {self.join_s:g} s "
            f"(workers.join_s; raise it if its model takes so long to load): {worker.why_not()}"
        )

    def _say(self, missing: Sequence[Worker]) -> None:
        for worker in missing:
            log.warning(
                "still waiting for a worker to join",
                worker=worker.name,
                for_s=round(time.monotonic() - worker.began),
                why=worker.why_not(),
            )


@dataclass(frozen=True, slots=True)
class Seen:
    """What can be seen of the processes of a session that still run."""

    seconds: float
    """Processor time that they used."""
    states: frozenset[str]
    """Of their threads: "R" runs or wants to, "D" waits for a disk, "S" sleeps."""

    @property
    def words(self) -> str:
        """What they seem to be doing."""
        doing = (
            "it computes"
            if "R" in self.states
            else "it waits for a disk"
            if "D" in self.states
            else "it waits for something"
        )
        return f"{doing} ({self.seconds:.0f} s of processor time so far)"


def look(session: int) -> Seen | None:
    """Look at the processes of a session; None if none can be seen."""
    ticks, states = 0, set[str]()
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError, ValueError, IndexError):
            fields = stat_of(process)
            if int(fields[3]) == session:
                ticks += int(fields[11]) + int(fields[12])
                states |= {stat_of(thread)[0] for thread in (process / "task").iterdir()}
    if not states:
        return None
    return Seen(ticks / os.sysconf("SC_CLK_TCK"), frozenset(states))
