"""`mixserver run --supervise`: the run is started again after a crash, until all steps are made.

The run is a child process, so whatever kills it leaves this one. It goes on from i-PI's RESTART or
its newest checkpoint, and so does the same command if it is started again itself, by Slurm,
systemd or a person. A run that fails again and again without making a step is given up.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import structlog

from mixserver.config import Case
from mixserver.core.errors import ConfigError, UpstreamError
from mixserver.core.processes import environment_program, start_process
from mixserver.core.scratch import scratch_directory
from mixserver.ipi.input import read_input, read_step
from mixserver.server.local_workers import LastingWorkers, has_private_listener
from mixserver.server.restart import newest_state
from mixserver.server.runs import is_running, run_folders

log = structlog.get_logger(__name__)

REFUSED: Final = 78
"""Exit status of a supervised run that cannot be right however often it is started."""
STOPPED: Final = 130
_GRACE_S: Final = 150.0
"""Time for the run to end after SIGTERM: i-PI finishes its step and writes RESTART."""
_EARLIER_S: Final = 90.0
"""Time for an earlier run, whose supervisor was killed, to end."""
_POLL_S: Final = 0.2
_EXPLAINED: Final = 3
"""Attempts in a row without a step that may end with an error message of the run."""
_CRASHES: Final = 5
"""The same for runs that are killed."""
_PAUSE_S: Final = 2.0
"""Before the second attempt without a step; doubled each time. The first is made at once."""
_LONGEST_PAUSE_S: Final = 60.0


@dataclass(frozen=True, slots=True)
class Attempts:
    """Attempts in a row after which no step was made, and what follows; a value without I/O."""

    explained: int = 0
    crashes: int = 0

    def after(self, status: int, *, progress: bool) -> Attempts:
        """The same after another attempt that ended with a status."""
        before = Attempts() if progress else self
        if status == 1:
            return Attempts(before.explained + 1, before.crashes)
        return Attempts(before.explained, before.crashes + 1)

    @property
    def too_many(self) -> bool:
        """Whether another attempt is unlikely to help."""
        return self.explained >= _EXPLAINED or self.crashes >= _CRASHES

    @property
    def pause_s(self) -> float:
        """Seconds before the next attempt."""
        count = self.explained + self.crashes
        return 0.0 if count < 2 else min(_PAUSE_S * 2.0 ** (count - 2), _LONGEST_PAUSE_S)


async def supervise(
    case: Case, options: Sequence[str], *, steps: int | None, stop: asyncio.Event
) -> bool:
    """Run a case until i-PI has made all its steps, however often the run crashes.

    Local workers outlive the run, so that their models need not be loaded again, unless they
    connect to an address of their own in mix.toml.

    Args:
        case: the case; its runs are made in its folder of runs.
        options: of `mixserver run`, besides those that this sets.
        steps: total steps; None for those of the case's input.
        stop: once set, the run is ended in order.

    Returns:
        Whether all steps are made; False if it was stopped.

    Raises:
        ConfigError: the run is refused, or another run of the case is still running.
        UpstreamError: it failed too often without making a step.
    """
    goal = steps or read_input(case.folder / case.config.ipi.input).total_steps
    await _wait_for_earlier(case, stop)
    reached, source = await asyncio.to_thread(_reached, case)
    if reached >= goal:
        log.info("all steps are made", steps=reached, file=str(source))
        return True
    case.runs.mkdir(parents=True, exist_ok=True)
    attempts = Attempts()
    with scratch_directory() as scratch:
        workers = None
        if case.config.local and has_private_listener(case) and not case.config.workers.keys:
            workers = LastingWorkers(case, scratch, case.runs)
            options = [*options, "--no-local", "--door", workers.address]
        try:
            while not stop.is_set():
                goes_on = [] if source is None else ["--from", str(source)]
                wanted = [*options, *goes_on, "--steps", str(goal)]
                status = await _attempt(case, wanted, workers, stop)
                if status in (0, STOPPED):
                    return status == 0
                if status == REFUSED:
                    raise ConfigError("the run is refused, see above; it was not started again")
                before = reached
                reached, source = await asyncio.to_thread(_reached, case)
                attempts = attempts.after(status, progress=reached > before)
                if not stop.is_set():
                    await _pause(attempts, status, reached, case, stop)
        finally:
            if workers is not None:
                await workers.end()
    return False


async def _wait_for_earlier(case: Case, stop: asyncio.Event) -> None:
    """Give a run whose supervisor was killed, by Slurm or systemd, time to write its RESTART."""
    newest, until = run_folders(case.runs)[-1:], time.monotonic() + _EARLIER_S
    if any(map(is_running, newest)):
        log.warning("waiting for an earlier run to end", folder=str(newest[0]))
    while (  # noqa: ASYNC110 - a lock on a file has no event
        any(map(is_running, newest)) and time.monotonic() < until and not stop.is_set()
    ):
        await asyncio.sleep(_POLL_S)


async def _attempt(
    case: Case, options: Sequence[str], workers: LastingWorkers | None, stop: asyncio.Event
) -> int:
    """Start the run and wait for its end; its exit status, negative for a signal."""
    if workers is not None:
        await workers.start()
    program = environment_program("mixserver")
    run = await start_process(
        "the run",
        [program, "run", str(case.file.absolute()), *options, "--supervised"],
        folder=Path.cwd(),
        log_file=None,
        environment={},
    )
    ending, stopping = asyncio.ensure_future(run.wait()), asyncio.ensure_future(stop.wait())
    waited: set[asyncio.Future[Any]] = {ending, stopping, *([workers.lost] if workers else [])}
    try:
        await asyncio.wait(waited, return_when=asyncio.FIRST_COMPLETED)
    finally:
        stopping.cancel()
        ending.cancel()
        status = await run.end(_GRACE_S)
    if stop.is_set():
        return status if status == 0 else STOPPED
    if workers is not None and workers.lost.done():
        log.error("the run cannot go on", error=str(workers.lost.result()))
        return 1
    return status


async def _pause(
    attempts: Attempts, status: int, reached: int, case: Case, stop: asyncio.Event
) -> None:
    """Wait before the next attempt.

    Raises:
        UpstreamError: there was enough of them.
    """
    how = f"status {status}" if status >= 0 else f"signal {-status}"
    if attempts.too_many:
        raise UpstreamError(
            f"the run ended with {how} and made no step beyond step {reached}, as before, so it is "
            f"not started again. See the messages above and the newest folder in {case.runs}; the "
            "same command goes on once the cause is removed"
        )
    pause_s = attempts.pause_s
    log.warning("the run ended early and goes on", ended=how, step=reached, after_s=pause_s)
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(pause_s):
            await stop.wait()


def _reached(case: Case) -> tuple[int, Path | None]:
    """Steps made so far, and the file to go on from; None if no run made a step."""
    source, _ = newest_state(case.runs)
    return (0, None) if source is None else (read_step(source), source)
