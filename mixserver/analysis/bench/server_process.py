"""A server with its workers, in a process of its own, for a benchmark that asks it for forces.

    python -m mixserver.analysis.bench.server_process FOLDER

FOLDER holds the configuration as `write_server` leaves it. Records and logs go there, and so do the
sockets. It ends when it is sent EXIT; errors go to stderr.
"""

from __future__ import annotations

import asyncio
import logging
import sys
from pathlib import Path
from typing import Final

import msgspec
import structlog

from mixserver.config import Case, Config
from mixserver.core.errors import MixserverError
from mixserver.server.local_workers import build_for_local_workers, running_local_workers
from mixserver.server.service import Service

_FILE: Final = "config.msgpack"
ADDRESS: Final = "upstream"
"""Name of the unix socket in the folder, at which the server looks for i-PI."""


def write_server(folder: Path, config: Config) -> list[str]:
    """Write what a server needs, and return the command that starts it.

    Args:
        folder: private, with a short path; also where relative paths of the configuration start.
        config: its upstream.address is unix:`ADDRESS`.
    """
    (folder / _FILE).write_bytes(msgspec.msgpack.encode(config))
    return [sys.executable, "-P", "-m", "mixserver.analysis.bench.server_process", str(folder)]


async def _serve(folder: Path) -> None:
    config = msgspec.msgpack.decode((folder / _FILE).read_bytes(), type=Config)
    case = Case(folder, folder / "mix.toml", config)
    parts = build_for_local_workers(case, folder, str(folder))
    service = Service(parts)
    async with service.listening(), running_local_workers(case, parts, folder, logs_stay=False):
        await service.serve()


if __name__ == "__main__":
    quiet = structlog.make_filtering_bound_logger(logging.WARNING)
    structlog.configure(wrapper_class=quiet)  # the end of this log is quoted in errors
    try:
        asyncio.run(_serve(Path(sys.argv[1])))
    except* MixserverError as group:
        first: BaseException = group
        while isinstance(first, BaseExceptionGroup):
            first = first.exceptions[0]
        sys.exit(f"Error: {first}")
