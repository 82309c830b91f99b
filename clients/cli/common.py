"""What the worker commands share: their options, their errors, and how they serve."""

from __future__ import annotations

import functools
import logging
import math
import sys
import traceback
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from mixserver.errors import MixserverError
from mixserver.wire.worker import Role

if TYPE_CHECKING:
    from clients.engine import Engine


class Group(click.Group):
    """A group whose commands turn `MixserverError` into one line; `--traceback` shows the rest."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command."""
        try:
            return super().invoke(ctx)
        except MixserverError as error:
            if ctx.params.get("traceback"):
                traceback.print_exception(error)
            raise click.ClickException(str(error)) from None


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
            help="What the server is to ask this worker.",
        )
        @click.option("--name", default="", help="By default host, engine and process id.")
        @click.option(
            "--wait-s",
            type=click.FloatRange(min=0.0),
            help="Give up if no server has answered for so long; by default wait for ever.",
        )
        @functools.wraps(command)
        def wrapped(
            *args: Any, server: str, role: Role, name: str, wait_s: float | None, **options: Any
        ) -> None:
            limit = math.inf if wait_s is None else wait_s
            command(*args, serve=functools.partial(_serve, server, role, name, limit), **options)

        return wrapped

    return decorate


Serve = Callable[["Engine"], None]


def _serve(server: str, role: Role, name: str, wait_s: float, engine: Engine) -> None:
    from clients.worker import run

    logging.basicConfig(
        level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(message)s", force=True
    )
    run(engine, server=server, role=role, name=name, wait_s=wait_s)
