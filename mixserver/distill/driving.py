"""One i-PI with a session of its own: started, answered, ended in order.

Knows neither what i-PI simulates nor who evaluates it: `answer` is given.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final

from mixserver.children import Child, start
from mixserver.errors import MixserverError, UpstreamError
from mixserver.private import private_folder
from mixserver.upstream import Upstream
from mixserver.wire.ipi import Reply, Request

Answer = Callable[[Request], Awaitable[Reply]]

_CONTACT_S: Final = 120.0
"""How long i-PI may take to start."""
_GRACE_S: Final = 60.0
"""How long i-PI may take to end: it finishes its step and writes RESTART."""
_FAILED_GRACE_S: Final = 5.0
"""The same after a failure, when little is lost without a RESTART: there are checkpoints."""
_LAST_FORCE_S: Final = 10.0
"""How long i-PI's last request may still be answered when it is told to end."""


async def drive(name: str, source: Path, socket: str, answer: Answer) -> None:
    """Have i-PI do what an input says, from beginning to end.

    However this ends, i-PI is gone; unless `answer` failed it has written its RESTART, if it had
    begun to move.

    Args:
        name: of the process, for messages.
        source: i-PI's input or RESTART; i-PI runs in its folder and logs there.
        socket: the address of its <ffsocket>, which is a unix socket.
        answer: evaluates a request. Its first error ends it all: no second try would cure it.

    Raises:
        MixserverError: what `answer` raised.
        UpstreamError: i-PI did not start, or ended early; its last words are quoted.
    """
    failed: asyncio.Future[MixserverError] = asyncio.get_running_loop().create_future()

    async def guarded(request: Request) -> Reply:
        try:
            return await answer(request)
        except MixserverError as error:
            if not failed.done():
                failed.set_result(error)
            # a refusal would have i-PI ask again in the middle of its end; hanging up comes next
            never: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
            return await never

    with private_folder() as private:
        upstream = Upstream(
            f"unix:{socket}",
            guarded,
            sockets_prefix=f"{private}/",
            first_contact_s=_CONTACT_S,
        )
        child = await start(
            name,
            # -P: a file of the folder must not stand in for a module
            [sys.executable, "-P", "-m", "mixserver.ipi_host", "-S", f"{private}/", source.name],
            folder=source.parent,
            log_file=source.parent / "i-pi.log",
            environment={"OMP_NUM_THREADS": "1"},
        )
        await _serve(upstream, child, failed)


async def _serve(upstream: Upstream, child: Child, failed: asyncio.Future[MixserverError]) -> None:
    """Answer i-PI until it is done, something failed, or this is cancelled."""
    serving = asyncio.ensure_future(upstream.run())
    ending = asyncio.ensure_future(child.wait())
    told_to_stop = True
    try:
        waited: set[asyncio.Future[Any]] = {serving, ending, failed}
        await asyncio.wait(waited, return_when=asyncio.FIRST_COMPLETED)
        if serving.done() and serving.exception() is None:  # i-PI said EXIT and closes its files
            await asyncio.wait({ending}, timeout=_GRACE_S)
        told_to_stop = False
    finally:
        grace = _FAILED_GRACE_S if failed.done() else _GRACE_S
        leaving = asyncio.ensure_future(child.end(grace))
        if told_to_stop:  # i-PI writes its RESTART after its last force
            await asyncio.wait({leaving}, timeout=_LAST_FORCE_S)
        upstream.stop()
        code = await leaving
        ending.cancel()
        (served,) = await asyncio.gather(serving, return_exceptions=True)
    if failed.done():
        raise failed.result()
    if isinstance(served, BaseException):
        raise served
    if code != 0:
        raise UpstreamError(
            f"i-PI ended with status {code}; its last words ({child.log_file}):\n"
            f"{child.last_words(8)}"
        )
