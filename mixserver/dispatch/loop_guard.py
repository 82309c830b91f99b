"""Ends the run when a timer or callback of the event loop fails.

asyncio alone would log the exception and go on, with a heartbeat or clock that never runs again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

import structlog

from mixserver.core.errors import MixserverError

log = structlog.get_logger(__name__)


def end_on_loop_error(
    loop: asyncio.AbstractEventLoop, stop: Callable[[MixserverError], object]
) -> None:
    """From now on an exception in a timer or callback of an event loop ends the run.

    Exceptions that did not arise in a callback, such as those of tasks never awaited, are logged
    only.

    Args:
        loop: the event loop.
        stop: ends the run with an error; called for the first such exception only.
    """
    ended = False

    def handler(_: asyncio.AbstractEventLoop, context: Mapping[str, Any]) -> None:
        nonlocal ended
        error = context.get("exception")
        if "handle" in context and isinstance(error, Exception) and not ended:
            ended = True
            stop(  # before it is logged, which may fail
                MixserverError(
                    f"mixserver itself failed ({type(error).__name__}: {error}), in "
                    f"{context.get('message')}. The run was ended because its timers can no longer "
                    "be relied on; please report this with server.log, which has the traceback."
                )
            )
        log.error(
            "the event loop caught an exception", where=context.get("message"), exc_info=error
        )

    loop.set_exception_handler(handler)
