"""The running server: workers can connect, i-PI is answered, and everything is closed at the end.

Knows when a run is over: i-PI sent EXIT, an evaluation failed for good, or `stop` was called.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial

import structlog

from mixserver.core.errors import ConfigError, InternalError, MixserverError, ResultsDiffer
from mixserver.core.frame import Frame
from mixserver.core.structures import write_frame
from mixserver.dispatch.loop_guard import end_on_loop_error
from mixserver.ipi.session import Session
from mixserver.server.build import Parts
from mixserver.server.evidence import save_evidence
from mixserver.server.region_memory import JournalledRegion
from mixserver.server.regions import REGION_STATE, save_region_state
from mixserver.wire.ipi import Reply, Request

log = structlog.get_logger(__name__)


class Service:
    """Answers i-PI's force requests with the parts a mix.toml was built into."""

    def __init__(self, parts: Parts) -> None:
        self.parts = parts
        self.failure: MixserverError | None = None
        """Why the run had to stop, if it had to."""
        self.upstreams: list[Session] = []
        self._stop = asyncio.Event()
        self._closing: asyncio.Future[None] | None = None
        self._failed = parts.recorder.folder / "failed.xyz"

    @contextlib.asynccontextmanager
    async def listening(self) -> AsyncIterator[None]:
        """Workers can connect inside this context; leaving it ends their connections.

        Whatever fails or is cancelled on the way out, every step of closing is done.

        Raises:
            ConfigError: an address is in use or none.
        """
        async with contextlib.AsyncExitStack() as closing:
            if isinstance(self.parts.region_model, JournalledRegion):
                closing.callback(self.parts.region_model.close)
            closing.callback(self._save_regions)
            closing.callback(self.parts.recorder.close)
            await self.parts.dispatcher.open()
            closing.push_async_callback(self.parts.dispatcher.close, "the server ends")
            self._save_regions()  # a fixed lambda is known by now; it survives even a killed server
            loop = asyncio.get_running_loop()
            end_on_loop_error(loop, self._timers_died)
            closing.callback(loop.set_exception_handler, None)
            yield

    async def serve(self) -> None:
        """Answer i-PI until it sends EXIT or `stop` is called.

        An evaluation that fails ends this, unless it only took too long: i-PI gives a request
        that failed to the next driver that connects, for ever. The frame is kept.

        Raises:
            MixserverError: an evaluation failed in a way that trying again cannot cure.
            InternalError: something failed that must not; its traceback is in the log.
        """
        gc.collect()
        gc.freeze()  # what was imported need not be looked through in mid-evaluation
        self.upstreams = [
            make(self._keeping(partial(self.parts.answer, channel=channel)))
            for channel, make in self.parts.upstreams
        ]
        sessions = [asyncio.ensure_future(upstream.run()) for upstream in self.upstreams]
        stop = asyncio.ensure_future(self._stop.wait())
        try:
            # every session ends with i-PI's EXIT; a stop or a session's error ends them all
            pending: set[asyncio.Future[None] | asyncio.Future[bool]] = {*sessions}
            while pending and not stop.done():
                done, _ = await asyncio.wait({*pending, stop}, return_when=asyncio.FIRST_COMPLETED)
                for task in done - {stop}:
                    task.result()
                pending -= done
                if done - {stop}:  # EXIT; i-PI never sends it where it requested nothing
                    for upstream in self.upstreams:
                        upstream.stop_reconnecting()
        except MixserverError:
            raise
        except Exception as error:
            wrong = InternalError.of(error)
            log.exception("the server failed", error=str(wrong))
            raise wrong from error
        finally:
            stop.cancel()
            for upstream in self.upstreams:
                upstream.stop()
            await asyncio.gather(*sessions, return_exceptions=True)
        if self.failure is not None:
            raise self.failure

    def stop(self, failure: MixserverError | None = None) -> None:
        """End `serve` soon; with a failure, `serve` raises it."""
        if failure is not None and self.failure is None:
            log.error("the run ends", error=str(failure), kind=type(failure).__name__, raised=True)
            self.failure = failure
        self._stop.set()

    def _timers_died(self, error: MixserverError) -> None:
        """Nothing can be relied on any more: end `serve`, or what asks without it."""
        self.stop(error)
        if not self.upstreams:
            self._closing = asyncio.ensure_future(self.parts.dispatcher.close(str(error)))

    def _keeping(
        self, answer: Callable[[Request], Awaitable[Reply]]
    ) -> Callable[[Request], Awaitable[Reply]]:
        """The same answer, but a request that fails is kept, to be looked at."""

        async def keeping(request: Request) -> Reply:
            try:
                return await answer(request)
            except Exception as error:
                if isinstance(error, ResultsDiffer):
                    save_evidence(error, self.parts.recorder.folder)
                ours = isinstance(error, MixserverError) and not isinstance(error, ConfigError)
                if self._keep(request) and ours:
                    where = f"{str(error).rstrip('.')}. The frame is saved: {self._failed}"
                    error.args = (where, *error.args[1:])
                raise

        return keeping

    def _save_regions(self) -> None:
        """Write the state of regions, for a restart."""
        if self.parts.region_model is not None:
            file = self.parts.recorder.folder / REGION_STATE
            try:
                save_region_state(self.parts.region_model, file)
            except OSError as problem:
                log.warning(
                    "the state of regions was not saved", file=str(file), error=str(problem)
                )

    def _keep(self, request: Request) -> bool:
        """Save the frame that failed, to be looked at; False if it cannot be. Must not fail."""
        try:
            frame = Frame(self.parts.topology, request.positions, request.cell)
            write_frame(self._failed, frame)
        except (OSError, ValueError) as problem:  # a wrong atom count cannot be written
            log.warning(
                "the failed frame was not saved", file=str(self._failed), error=str(problem)
            )
            return False
        return True
