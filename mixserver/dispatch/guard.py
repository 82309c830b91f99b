"""A server whose timers have died must not go on as if nothing had happened."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

import structlog

from mixserver.errors import MixserverError

log = structlog.get_logger(__name__)


def end_on_loop_error(
    loop: asyncio.AbstractEventLoop, stop: Callable[[MixserverError], object]
) -> None:
    """From now on an exception in a timer or a callback of an event loop ends the run.

    asyncio prints such an exception and goes on: a heartbeat or a clock that died that way would
    stay dead unnoticed. What never ran in a callback, such as an exception of a
    task that was never awaited, is logged alone.

    Args:
        loop: the event loop.
        stop: ends the run with an error; called for the first such exception only.
    """
    ended = False

    def handler(_: asyncio.AbstractEventLoop, context: Mapping[str, Any]) -> None:
        nonlocal ended
        error = context.get("exception")
        log.error(
            "the event loop caught an exception", where=context.get("message"), exc_info=error
        )
        if "handle" in context and isinstance(error, Exception) and not ended:
            ended = True
            stop(
                MixserverError(
                    f"mixserver itself failed ({type(error).__name__}: {error}), in "
                    f"{context.get('message')}. The run was ended because its timers can no longer "
                    "be relied on; please report this with server.log, which has the traceback."
                )
            )

    loop.set_exception_handler(handler)
