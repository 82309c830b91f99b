"""Supervision of local workers: wait until they join, end those that hang, restart those that end.

No wait is unlimited: a worker that neither joins nor ends is given up, with its log quoted. This
module handles processes and names of workers, and does not depend on what they evaluate.
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

from mixserver.config import Local
from mixserver.core.errors import InternalError, MixserverError, NoWorkerError, WorkerFault
from mixserver.core.processes import ManagedProcess, how_ended, read_proc_stat
from mixserver.dispatch.dispatcher import Dispatcher
from mixserver.wire.worker import Role

log = structlog.get_logger(__name__)

WORKER_GRACE_S: Final = 5.0
_AGAIN_S: Final = 1.2
"""A worker finishes its job at the first SIGTERM, and leaves at a second one a second later."""
_EARLY: Final = "a worker of this machine ended before it could join"
_POLL_S: Final = 0.5
_REPORT_S: Final = 60.0
"""A worker that takes longer to join is reported, then again at intervals that double."""
_LOG_LINES: Final = 6
"""Lines quoted from the log of a worker that does not join."""


@dataclass(slots=True)
class LocalWorker:
    """One local worker, across its restarts."""

    local: Local
    name: str
    """Of the process, e.g. "expensive-1-0"."""
    start: Callable[[str], Awaitable[ManagedProcess]]
    """Starts its process, which joins under the given name."""
    started: ManagedProcess | None = None
    starts: int = 0
    began: float = 0.0
    not_joined: str = ""
    """Why it was ended, if it did not join in time after its last start; else ""."""

    @property
    def joins_as(self) -> str:
        """The name it joins under: new at each start, as the server may know the last."""
        return self.name if self.starts < 2 else f"{self.name}.{self.starts}"

    @property
    def process(self) -> ManagedProcess:
        """The process that was started last."""
        if self.started is None:
            raise RuntimeError(f"worker {self.name} was never started")
        return self.started

    async def launch(self) -> None:
        """Start it, or start it again.

        Raises:
            ConfigError: its command cannot be started.
        """
        self.starts += 1
        self.began, self.not_joined = time.monotonic(), ""
        if self.started is not None:
            file = self.started.log_file or Path(os.devnull)
            with contextlib.suppress(OSError), file.open("a") as words:
                words.write(f"--- started again, as {self.joins_as} ---\n")
        self.started = await self.start(self.joins_as)

    async def end(self) -> None:
        """End its process, if it runs: its job is of no use any more."""
        if self.started is not None:
            await self.started.end(WORKER_GRACE_S, again_s=_AGAIN_S, harmless=True)

    def why_not_joined(self) -> str:
        """What a worker that runs but has not joined seems to be doing, with the end of its log."""
        process, seen = self.process, process_activity(self.process.pid)
        words = [] if seen is None else [seen.description]
        with contextlib.suppress(OSError):
            log_file = (process.log_file or Path(os.devnull)).stat()
            quiet = max(0.0, time.time() - log_file.st_mtime)
            grown = (
                f"its log last grew {quiet:.0f} s ago" if log_file.st_size else "its log is empty"
            )
            words.append(grown)
        return f"{', '.join(words)}; {process.quoted_log(_LOG_LINES)}"


@dataclass(slots=True)
class WorkerSupervisor:
    """Waits for local workers, and keeps them running.

    Args:
        dispatcher: whose workers they are.
        workers: all of them, started.
        join_s: how long one may take to join; 0 is without limit.
        on_role_lost: called when the last worker of a role is gone; None if others may join.
    """

    dispatcher: Dispatcher
    workers: Sequence[LocalWorker]
    join_s: float
    on_role_lost: Callable[[NoWorkerError], None] | None = None
    left: Counter[Role] = field(init=False)
    """Workers per role that are not gone for good."""
    _ending: set[asyncio.Task[Any]] = field(init=False, default_factory=set)

    def __post_init__(self) -> None:
        self.left = Counter(worker.local.role for worker in self.workers)

    async def wait_until_ready(self) -> None:
        """Wait until each role has a worker.

        Raises:
            WorkerFault: a worker ended before that, or none of a role joined in time; the end of
                its log is quoted.
        """
        roles = {worker.local.role for worker in self.workers}
        cards = {asyncio.ensure_future(self.dispatcher.card(role)): role for role in roles}
        ends = {asyncio.ensure_future(w.process.wait()): w.process for w in self.workers}
        waited: set[asyncio.Future[Any]] = {*cards, *ends}
        report_s = _REPORT_S
        try:
            while not all(card.done() for card in cards):
                done, _ = await asyncio.wait(
                    waited, timeout=_POLL_S, return_when=asyncio.FIRST_COMPLETED
                )
                for process in [ends[task] for task in ends if task in done]:
                    raise WorkerFault(
                        f"{_EARLY}: {process.name} {how_ended(process.returncode or 0)}; "
                        f"{process.quoted_log()}"
                    )
                for card in [task for task in cards if task in done]:
                    self._card_or_why(card, cards[card])
                waited -= done
                missing = [w for w in self.workers if self._awaited(w, cards)]
                age = max((time.monotonic() - w.began for w in missing), default=0.0)
                if missing and 0.0 < self.join_s < age:
                    raise self._join_timeout(missing[0])
                if missing and age > report_s:
                    report_s *= 2.0
                    self._report_waiting(missing)
        finally:
            for task in (*cards, *ends):
                task.cancel()
            await asyncio.gather(*cards, *ends, return_exceptions=True)

    async def supervise(self, worker: LocalWorker) -> None:
        """Restart one worker whenever it ends, until it is gone for good."""
        try:
            why = await self._restart_while_allowed(worker)
        except MixserverError as error:  # it cannot even be started again
            why = f"could not be started again: {error}"
        except Exception as error:
            log.exception("supervision of a worker failed", worker=worker.name)
            why = f"is no longer supervised: {InternalError.of(error)}"
        role = worker.local.role
        self.left[role] -= 1
        lost = self.on_role_lost if self.left[role] == 0 else None
        log.warning("worker is gone for good", worker=worker.name, why=why, raised=bool(lost))
        if lost is not None:
            lost(
                NoWorkerError(
                    f"the last {role} worker, {worker.name}, is gone and no other can join: "
                    f"this run's worker address is private. It {why}"
                )
            )

    async def _restart_while_allowed(self, worker: LocalWorker) -> str:
        """Restart it as often as `restarts` allows; the reason why it is gone in the end."""
        for starts in range(worker.local.restarts, 0, -1):
            code = await self._end_of(worker)
            log.warning(
                "worker ended; starting it again",
                worker=worker.name,
                status=code,
                starts_left=starts - 1,
            )
            await worker.end()
            await worker.launch()
        code = await self._end_of(worker)
        if worker.not_joined:
            return f"was ended for good, after all its restarts: {worker.not_joined}"
        return f"{how_ended(code)} for good, after all its restarts; {worker.process.quoted_log()}"

    def terminate_hung(self, name: str, process: str) -> None:
        """End a worker that no longer answers; `supervise` starts it again."""
        for worker in self.workers:
            if worker.joins_as == name:
                log.warning("worker hangs; ending it", worker=name, process=process)
                ending = asyncio.ensure_future(worker.end())
                self._ending.add(ending)
                ending.add_done_callback(self._ending.discard)

    async def _end_of(self, worker: LocalWorker) -> int:
        """Wait until it ends, by itself or for not joining in time; its exit status."""
        end = asyncio.ensure_future(worker.process.wait())
        report_s = _REPORT_S
        try:
            while not end.done() and not self._joined(worker):
                await asyncio.wait({end}, timeout=_POLL_S)
                age = time.monotonic() - worker.began
                if not end.done() and 0.0 < self.join_s < age and not self._joined(worker):
                    worker.not_joined = str(self._join_timeout(worker))
                    log.error("worker does not join", error=worker.not_joined)
                    await worker.end()
                elif age > report_s and not self._joined(worker):
                    report_s *= 2.0
                    self._report_waiting([worker])
            return await end
        finally:
            end.cancel()

    def _joined(self, worker: LocalWorker) -> bool:
        return any(view.name == worker.joins_as for view in self.dispatcher.workers())

    def _awaited(self, worker: LocalWorker, cards: dict[asyncio.Task[Any], Role]) -> bool:
        return any(role == worker.local.role for card, role in cards.items() if not card.done())

    def _card_or_why(self, card: asyncio.Task[Any], role: Role) -> None:
        try:
            card.result()
        except NoWorkerError as error:
            mine = next(w for w in self.workers if w.local.role == role)
            raise WorkerFault(
                f"{error}\n{mine.name}, a worker of this machine, runs but has not joined: "
                f"{mine.why_not_joined()}"
            ) from error

    def _join_timeout(self, worker: LocalWorker) -> WorkerFault:
        return WorkerFault(
            f"worker {worker.name} runs but has not joined within {self.join_s:g} s "
            f"(workers.join_s; raise it if its model takes so long to load): "
            f"{worker.why_not_joined()}"
        )

    def _report_waiting(self, missing: Sequence[LocalWorker]) -> None:
        for worker in missing:
            log.warning(
                "still waiting for a worker to join",
                worker=worker.name,
                for_s=round(time.monotonic() - worker.began),
                why=worker.why_not_joined(),
            )


@dataclass(frozen=True, slots=True)
class ProcessActivity:
    """Activity of the running processes of a session, from /proc."""

    seconds: float
    """Processor time used so far."""
    states: frozenset[str]
    """Of their threads: "R" runs or wants to, "D" waits for a disk, "S" sleeps."""

    @property
    def description(self) -> str:
        """What they seem to be doing, for a message."""
        doing = (
            "it computes"
            if "R" in self.states
            else "it waits for a disk"
            if "D" in self.states
            else "it waits for something"
        )
        return f"{doing} ({self.seconds:.0f} s of processor time so far)"


def process_activity(session: int) -> ProcessActivity | None:
    """Activity of the processes of a session; None if there are none, or no /proc."""
    ticks, states = 0, set[str]()
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError, ValueError, IndexError):
            fields = read_proc_stat(process)
            if int(fields[3]) == session:
                ticks += int(fields[11]) + int(fields[12])
                states |= {read_proc_stat(thread)[0] for thread in (process / "task").iterdir()}
    if not states:
        return None
    return ProcessActivity(ticks / os.sysconf("SC_CLK_TCK"), frozenset(states))
