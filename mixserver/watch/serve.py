"""Serves the page on the loopback until Ctrl-C."""

from __future__ import annotations

import contextlib
import os
import socket
from typing import Final

import uvicorn
from starlette.types import ASGIApp

from mixserver.core.errors import ConfigError

HOST: Final = "127.0.0.1"
_NICENESS: Final = 10
"""The run goes first: this process gets processor time that is left."""
_MOST_CONNECTIONS: Final = 64


def bind(port: int | None, usual: int) -> socket.socket:
    """A listening socket on the loopback.

    Args:
        port: the one that is wanted, 0 for any; None for the usual one, or any if that is taken.
        usual: the usual one.

    Raises:
        ConfigError: the port that is wanted is taken or not allowed.
    """
    for one in (usual, 0) if port is None else (port,):
        listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listening.bind((HOST, one))
            listening.listen(_MOST_CONNECTIONS)
        except OSError as error:
            listening.close()
            if one == port:
                raise ConfigError(
                    f"{HOST}:{port} cannot be opened for the page ({error.strerror}); give another "
                    "--port, or none to get one that is free"
                ) from error
        else:
            return listening
    raise ConfigError(f"no port of {HOST} is free for the page")


def serve(app: ASGIApp, listening: socket.socket) -> None:
    """Serve until Ctrl-C or SIGTERM."""
    with contextlib.suppress(OSError):
        os.nice(_NICENESS)
    config = uvicorn.Config(
        app,
        log_level="warning",
        access_log=False,  # addresses hold the token
        server_header=False,
        proxy_headers=False,
        lifespan="off",
        ws="none",
        limit_concurrency=_MOST_CONNECTIONS,
        timeout_graceful_shutdown=1,
    )
    with listening, contextlib.suppress(KeyboardInterrupt):
        uvicorn.Server(config).run(sockets=[listening])
