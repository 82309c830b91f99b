"""The i-PI process: started, answered until it is done, and ended so that it writes its RESTART.

`mixserver run` and the trajectories of `mixserver distill` start i-PI here. i-PI writes RESTART
after SIGTERM, once its last request is answered or its connection is closed; so it gets the signal
first, then time for that request, and only then the session hangs up.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from pathlib import Path
from typing import Any, Final

from mixserver.core.disk import disk_problem
from mixserver.core.errors import UpstreamError
from mixserver.core.processes import ManagedProcess, how_ended, start_process
from mixserver.core.scratch import scratch_directory
from mixserver.ipi.session import Session
from mixserver.wire.ipi import Reply, Request
from mixserver.wire.text import clean

_GRACE_S: Final = 60.0
"""Time for i-PI to end after SIGTERM: it finishes its step and writes RESTART."""
_LAST_FORCE_S: Final = 10.0
"""How long i-PI's last request may still be answered after SIGTERM."""
_CONTACT_S: Final = 120.0
"""Time for i-PI to start."""
_REASON: Final = 2000
"""Characters of a reason."""
_LOG_LINES: Final = 8
"""Lines of i-PI's log that an error quotes."""


async def start_ipi(
    name: str,
    source: Path,
    sockets_prefix: str,
    *,
    environment: Mapping[str, str] | None = None,
    cheap_thermostat: bool = False,
    shot: Path | None = None,
) -> ManagedProcess:
    """Start i-PI in the folder of its input, where it also logs.

    `name` is for messages; `cheap_thermostat` lets its Langevin thermostat act outside the core
    only; `shot` is a file, with its whole path, of settings (see `mixserver.ipi.projectile`).

    Raises:
        ConfigError: it cannot be started.
    """
    options = [
        "-S",
        sockets_prefix,
        "--error-file",
        str(error_file(sockets_prefix)),
        *(["--cheap-thermostat"] if cheap_thermostat else []),
        *(["--shot", str(shot)] if shot is not None else []),
    ]
    return await start_process(
        name,
        # -P: a file in the folder must not be imported in place of a module
        [sys.executable, "-P", "-m", "mixserver.ipi.host", *options, source.name],
        folder=source.parent,
        log_file=source.parent / "i-pi.log",
        environment={"OMP_NUM_THREADS": "1", **(environment or {})},
    )


def error_file(sockets_prefix: str) -> Path:
    """Where i-PI's host leaves the reason of an error: beside its sockets, not where it writes."""
    return Path(f"{sockets_prefix}error.txt")


async def serve_until_done(
    process: ManagedProcess,
    serve: Coroutine[Any, Any, None],
    stop_serving: Callable[[], None],
    stop: asyncio.Event | None = None,
    *,
    error: Path | None = None,
) -> None:
    """Answer i-PI until it sends EXIT or ends, `stop` is set, or this is cancelled.

    However this ends, i-PI is gone, and has written its RESTART if it had begun to move.

    Args:
        process: i-PI.
        serve: answers its requests until it sends EXIT.
        stop_serving: makes `serve` hang up and return.
        stop: once set, i-PI is shut down cleanly.
        error: see `error_file`.

    Raises:
        MixserverError: what `serve` raised.
        UpstreamError: i-PI ended with an error by itself; the end of its log is quoted.
    """
    serving = asyncio.ensure_future(serve)
    ending = asyncio.ensure_future(process.wait())
    stopping = asyncio.ensure_future((stop or asyncio.Event()).wait())
    first = asyncio.FIRST_COMPLETED
    try:
        await asyncio.wait({serving, ending, stopping}, return_when=first)
        if serving.done() and serving.exception() is None:  # i-PI sent EXIT and closes its files
            await asyncio.wait({ending, stopping}, timeout=_GRACE_S, return_when=first)
    finally:
        leaving = asyncio.ensure_future(process.end(_GRACE_S))
        await asyncio.wait({leaving}, timeout=_LAST_FORCE_S)
        stop_serving()
        code = await leaving
        for task in (ending, stopping):
            task.cancel()
        (served,) = await asyncio.gather(serving, return_exceptions=True)
    if isinstance(served, BaseException):
        raise served
    if code != 0 and not (stop is not None and stop.is_set()):
        disk = "" if process.log_file is None else disk_problem(process.log_file.parent)
        reason = _left(error)
        raise UpstreamError(
            f"i-PI {how_ended(code)}{f', because {disk}' if disk else ''}; "
            f"{reason or process.quoted_log(_LOG_LINES)}"
        )


def _left(error: Path | None) -> str:
    """The reason that i-PI's host has left, or ""."""
    try:
        return "" if error is None else clean(error.read_text(encoding="utf-8"), _REASON)
    except OSError:
        return ""


async def run_ipi(
    name: str,
    source: Path,
    socket: str,
    answer: Callable[[Request], Awaitable[Reply]],
    *,
    shot: Path | None = None,
) -> None:
    """Run an i-PI input from beginning to end with a session of its own.

    Args:
        name: of the process, for messages.
        source: i-PI's input or RESTART; i-PI runs and logs in its folder.
        socket: the address of its <ffsocket>, which is a unix socket.
        answer: evaluates a request. Its first error ends the run, as in any session.
        shot: settings of a shot, for `start_ipi`.

    Raises:
        MixserverError: what `answer` raised.
        UpstreamError: i-PI did not start, or ended early; the end of its log is quoted.
    """
    with scratch_directory() as scratch:
        session = Session(
            f"unix:{socket}", answer, sockets_prefix=f"{scratch}/", first_contact_s=_CONTACT_S
        )
        process = await start_ipi(name, source, f"{scratch}/", shot=shot)
        await serve_until_done(
            process, session.run(), session.stop, error=error_file(f"{scratch}/")
        )
