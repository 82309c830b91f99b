"""The options of commands that connect to a server with keys."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

_Command = TypeVar("_Command", bound=Callable[..., Any])


def key_options(whose: str) -> Callable[[_Command], _Command]:
    """Add --key and --server-key to a command, which gets `key` and `server_key`.

    Args:
        whose: the help of --key, without a full stop.
    """

    def add(command: _Command) -> _Command:
        command = click.option(
            "--server-key",
            type=click.Path(path_type=Path),
            envvar="MIXSERVER_SERVER_KEY_FILE",
            metavar="FILE",
            help="The server's public key, server.pub [env MIXSERVER_SERVER_KEY_FILE].",
        )(command)
        return click.option(
            "--key",
            type=click.Path(path_type=Path),
            envvar="MIXSERVER_KEY_FILE",
            metavar="FILE",
            help=f"{whose} [env MIXSERVER_KEY_FILE].",
        )(command)

    return add
