"""Workers of the expensive model for a whole distillation: started here, or let in by a door.

The one place of this room that knows how workers come and go. They stay from the first question to
the last, so a model is loaded once.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final

import structlog

from mixserver.config import Case, Config, Local, Model, Models, Upstream, Workers
from mixserver.dispatch.dispatcher import Dispatcher
from mixserver.distill.reading import Order
from mixserver.errors import ConfigError, NoWorkerError
from mixserver.launch import build_local, local_workers
from mixserver.private import private_folder
from mixserver.service import Service
from mixserver.wire.worker import Role

log = structlog.get_logger(__name__)

_NOBODY: Final = "unix:nobody"
"""No i-PI is served through these parts; `hot` serves its own."""


@contextlib.asynccontextmanager
async def workers(order: Order, folder: Path) -> AsyncIterator[Dispatcher]:
    """A dispatcher whose role expensive is served, as the recipe says, inside this context.

    With a door it waits for the first worker, however long it takes; who waits says so. A worker
    that dies is started again, or waited for. When the last of those started here is gone for
    good, every question ends with `NoWorkerError`.

    Args:
        order: the distillation.
        folder: where workers log; made if it is not there.

    Raises:
        ConfigError: a command cannot be started, the door is in use or no address.
        WorkerFault: a worker ended before it joined; its last words are quoted.
    """
    async with _served(_case(order), folder, "expensive") as dispatcher:
        yield dispatcher


@contextlib.asynccontextmanager
async def cheap_workers(
    order: Order, commands: Path, folder: Path, *, count: int = 1
) -> AsyncIterator[Dispatcher]:
    """A dispatcher whose role cheap is served by LAMMPS with a potential, inside this context.

    Args:
        order: whose potential it is.
        commands: file of LAMMPS commands.
        folder: where workers log; made if it is not there.
        count: how many workers, of one thread each.

    Raises:
        WorkerFault: LAMMPS refused the potential; its last words are quoted.
    """
    async with _served(_cheap_case(order, commands, count), folder, "cheap") as dispatcher:
        yield dispatcher


@contextlib.asynccontextmanager
async def _served(case: Case, folder: Path, role: Role) -> AsyncIterator[Dispatcher]:
    _make(folder)
    with private_folder() as private:
        parts = build_local(case, folder, private)
        dispatcher = parts.dispatcher
        closing: list[asyncio.Task[None]] = []

        def lost(error: NoWorkerError) -> None:
            closing.append(asyncio.create_task(dispatcher.close(str(error))))

        async with Service(parts).doors():
            try:
                if case.config.local:
                    async with local_workers(case, parts, folder, lost=lost):
                        yield dispatcher
                else:
                    log.info(
                        "waiting for workers",
                        start=f"mixserver-worker ENGINE --server {parts.door.address} "
                        f"--role {role}",
                    )
                    await dispatcher.card(role)
                    yield dispatcher
            finally:
                await asyncio.gather(*closing)


def _cheap_case(order: Order, commands: Path, count: int) -> Case:
    """A case with LAMMPS alone. Workers run in the recipe's folder, hence the whole path."""
    words = ("lammps", str(commands.resolve()), "--elements", ",".join(order.elements))
    config = Config(
        upstream=Upstream(structure=order.recipe.structure, address=_NOBODY),
        models=Models(cheap=Model()),
        local=(Local(role="cheap", command=words, count=count),),
    )
    return Case(order.base, order.file, config)


def _case(order: Order) -> Case:
    """A case with the expensive model alone."""
    wanted = order.recipe.expensive
    local = Local(
        role="expensive",
        command=wanted.command,
        count=wanted.count,
        threads=wanted.threads,
        environment=wanted.environment,
    )
    config = Config(
        upstream=Upstream(structure=order.recipe.structure, address=_NOBODY),
        models=Models(expensive=Model(fingerprint=wanted.fingerprint)),
        workers=Workers(door=wanted.door) if wanted.door else Workers(),
        local=(local,) if wanted.command else (),
    )
    return Case(order.base, order.file, config)


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"{folder} cannot be made: {error.strerror}") from error
