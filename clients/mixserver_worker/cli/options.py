"""Options that all worker commands share, and how a command serves its engine."""

from __future__ import annotations

import functools
import logging
import math
import os
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mixserver.core.errors import ConfigError
from mixserver.core.key_options import key_options
from mixserver.wire.worker import Role
from mixserver_worker.devices import NAME, parse_devices, run_on_devices

if TYPE_CHECKING:
    from mixserver.core.keys import KeyPair
    from mixserver_worker.engine import Engine


def worker_options(role: Role) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """The options of every worker command; the command gets them as one `serve` function.

    Args:
        role: the default role.
    """

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        @click.option(
            "--server",
            envvar="MIXSERVER_SERVER",
            required=True,
            metavar="ADDRESS",
            help="tcp://HOST:PORT or ipc://PATH, as the server prints it [env MIXSERVER_SERVER].",
        )
        @click.option(
            "--role",
            type=click.Choice(["cheap", "expensive"]),
            default=role,
            show_default=True,
            help="The role whose jobs this worker evaluates.",
        )
        @click.option("--name", default="", help="By default host, engine and process id.")
        @click.option(
            "--wait-s",
            type=click.FloatRange(min=0.0),
            help="Give up if no server has answered for this long; by default wait forever.",
        )
        @click.option(
            "--stay-s",
            type=click.FloatRange(min=0.0),
            default=0.0,
            help="After the server ended, look for the next one for this long, with the model "
            "still loaded; by default end at once.",
        )
        @click.option(
            "--gpu",
            metavar="LIST",
            help="Devices, such as 0,1: one worker for each, called NAME-0, NAME-1, which sees no "
            "other device and is started again if it fails.",
        )
        @key_options("This worker's key, for a server with keys")
        @functools.wraps(command)
        def wrapped(
            *args: Any,
            server: str,
            role: Role,
            name: str,
            wait_s: float | None,
            stay_s: float,
            gpu: str | None,
            key: Path | None,
            server_key: Path | None,
            **options: Any,
        ) -> None:
            if gpu is not None:
                name = _one_per_device(gpu, name)  # returns in the workers themselves only
            from mixserver.core.keys import read_keys

            limit = math.inf if wait_s is None else wait_s
            keys = read_keys(key, server_key)  # before a model is loaded
            serve = functools.partial(_serve, server, role, name, limit, stay_s, keys)
            command(*args, serve=serve, **options)

        return wrapped

    return decorate


def _one_per_device(gpu: str, name: str) -> str:
    """Start a worker per device and wait for them; in one of these, its name."""
    if own := os.environ.pop(NAME, ""):
        return own
    if int(os.environ.get("PMI_SIZE", "1")) > 1 or "OMPI_COMM_WORLD_SIZE" in os.environ:
        raise ConfigError(
            "--gpu starts one process per device itself, so it cannot be used under mpiexec; "
            "there, let the launcher bind devices to ranks"
        )
    devices = parse_devices(gpu, os.environ)
    engine = click.get_current_context().info_name
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(message)s")
    base = name or f"{socket.gethostname()}-{engine}-{os.getpid()}"
    sys.exit(run_on_devices(devices, base, sys.argv[1:]))


Serve = Callable[["Engine"], None]


def _serve(
    server: str,
    role: Role,
    name: str,
    wait_s: float,
    stay_s: float,
    keys: tuple[KeyPair, bytes] | None,
    engine: Engine,
) -> None:
    from mixserver_worker.memory import bounded
    from mixserver_worker.worker import run

    logging.basicConfig(
        level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(message)s", force=True
    )
    run(
        bounded(engine),
        server=server,
        role=role,
        name=name,
        wait_s=wait_s,
        stay_s=stay_s,
        keys=keys,
    )
