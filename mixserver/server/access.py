"""Who can reach a server: its lock, the keys of its own workers, and addresses that are open."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import structlog

from mixserver.config import Case
from mixserver.core.keys import write_public_key, write_secret_key
from mixserver.dispatch.zmq_workers.lock import ZmqLock
from mixserver.wire.address import is_local

log = structlog.get_logger(__name__)

_KEY: Final = "MIXSERVER_KEY_FILE"
_SERVER_KEY: Final = "MIXSERVER_SERVER_KEY_FILE"


def lock_of(case: Case) -> ZmqLock | None:
    """The lock of one ZeroMQ context; None if the case has no keys.

    Raises:
        ConfigError: the server has no key there, or others can read it.
    """
    keys = case.config.workers.keys
    return ZmqLock(case.folder / keys) if keys else None


def local_key_files(lock: ZmqLock | None, folder: Path) -> dict[str, str]:
    """Environment variables with which workers of this machine find their keys.

    Args:
        lock: of the address to which they connect.
        folder: private, and removed at the end: gets the files.

    Returns:
        Empty values without a lock: a key that the user uses elsewhere is not meant for here.
    """
    if lock is None:
        return {_KEY: "", _SERVER_KEY: ""}
    key, server = folder / "local.key", folder / "server.pub"
    write_secret_key(key, lock.issue("local"))
    write_public_key(server, lock.public)
    return {_KEY: str(key), _SERVER_KEY: str(server)}


def warn_of_open_addresses(case: Case) -> None:
    """Warn of addresses that other machines can reach without a key, where mix.toml allows it."""
    config = case.config
    for address in case.addresses:
        if not is_local(address):
            log.warning(
                "i-PI is not on this machine, and its protocol has no keys: anyone between can "
                "read and change what is sent (upstream.insecure = true allows it)",
                address=address,
            )
    if config.workers.clients and not is_local(config.workers.clients):
        log.warning(
            "stock clients can connect from other machines, and their protocol has no keys: "
            "anyone who reaches it can give any forces (workers.insecure = true allows it)",
            address=config.workers.clients,
        )
