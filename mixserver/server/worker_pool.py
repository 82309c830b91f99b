"""Workers without i-PI: a case's models, ready to evaluate, for checks and for a distillation."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import structlog

from mixserver.config import Case
from mixserver.core.errors import NoWorkerError
from mixserver.core.scratch import scratch_directory
from mixserver.server.build import Parts
from mixserver.server.local_workers import build_for_local_workers, running_local_workers
from mixserver.server.service import Service

log = structlog.get_logger(__name__)


@contextlib.asynccontextmanager
async def worker_pool(case: Case, folder: Path | None = None) -> AsyncIterator[Parts]:
    """A case's parts, with a worker for each of its models inside this context.

    The [[local]] workers are started. If there are none, it waits for the first worker of each role
    at the case's address, however long that takes. When the last local worker of a role is gone for
    good, all jobs end with `NoWorkerError`.

    Args:
        case: the case; i-PI is not served.
        folder: where workers log; None for a temporary one.

    Raises:
        ConfigError: a command cannot be started, or the address is in use or not valid.
        WorkerFault: a worker ended before it joined; the end of its log is quoted.
    """
    with scratch_directory() as scratch:
        logs = Path(scratch) if folder is None else folder
        parts = build_for_local_workers(case, logs, scratch)
        dispatcher = parts.dispatcher
        closing: list[asyncio.Task[None]] = []

        def close(error: NoWorkerError) -> None:
            closing.append(asyncio.create_task(dispatcher.close(str(error))))

        async with Service(parts).listening(), contextlib.AsyncExitStack() as stack:
            stack.push_async_callback(_finished, closing)
            if case.config.local:
                workers = running_local_workers(
                    case, parts, logs, on_role_lost=close, logs_stay=folder is not None
                )
                await stack.enter_async_context(workers)
            else:
                await _wait_for_workers(parts)
            yield parts


async def _finished(tasks: list[asyncio.Task[None]]) -> None:
    await asyncio.gather(*tasks)


async def _wait_for_workers(parts: Parts) -> None:
    for role in parts.models.roles:
        log.info(
            "waiting for workers",
            start=f"mixserver-worker ENGINE --server {parts.listener.address} --role {role}",
        )
        await parts.dispatcher.card(role)
