"""Asks a server for its status, as commands do that people give a case, a run or an address."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import click
from click.core import ParameterSource

if TYPE_CHECKING:
    from mixserver.wire.status import Status


def asker(
    target: str, timeout_s: float, key: Path | None, server_key: Path | None
) -> Callable[[], Status]:
    """A function that asks the server of a target for its status, each time anew where it is.

    The function raises `Unreachable` if no server answers, and `ConfigError` if the target is none.

    Args:
        target: a case, a run's folder, a folder of runs, or an address.
        timeout_s: how long it waits for the answer.
        key: of the server's list, for an address on another machine.
        server_key: the server's public key, likewise.
    """
    from mixserver.core.errors import Unreachable
    from mixserver.core.keys import read_keys
    from mixserver.server.status.client import ask
    from mixserver.server.status.place import find
    from mixserver.wire.address import is_local

    source = click.get_current_context().get_parameter_source("key")
    named = source == ParameterSource.COMMANDLINE

    def asked() -> Status:
        place = find(target)
        try:
            # a local address has no lock, unless it is the near end of a tunnel
            locked = named or not is_local(place.address)
            keys = read_keys(key, server_key) if locked else None
            return ask(place.address, timeout_s=timeout_s, keys=keys)
        except Unreachable as error:
            raise Unreachable(f"{error}{place.hint()}") from error

    return asked
