"""The options of commands that open the listener of workers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

_Command = TypeVar("_Command", bound=Callable[..., Any])


def listener_options(command: _Command) -> _Command:
    """Add --door and --keys to a command, which gets `door` and `keys`."""
    command = click.option(
        "--keys",
        type=click.Path(exists=True, file_okay=False, path_type=Path),
        metavar="DIR",
        help="Folder of their keys, instead of workers.keys of mix.toml.",
    )(command)
    return click.option(
        "--door",
        metavar="ADDRESS",
        help="Where workers connect, instead of workers.door of mix.toml.",
    )(command)
