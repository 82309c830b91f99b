"""Workers of a distillation: started here, or connecting from elsewhere through a door.

They stay for the whole distillation, so a model is loaded once.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Final

from mixserver.config import Case, Config, ExpensiveModel, Local, Model, Models, Upstream, Workers
from mixserver.core.errors import ConfigError
from mixserver.dispatch.dispatcher import Dispatcher
from mixserver.distill.config.load import DistillationProject
from mixserver.server.worker_pool import worker_pool

_NO_CLIENT: Final = "unix:none"
"""No i-PI connects to these pools; `data.trajectories` serves its own."""


def expensive_workers(
    project: DistillationProject, folder: Path
) -> AbstractAsyncContextManager[Dispatcher]:
    """A dispatcher with workers of the expensive model, as in the recipe; they log to a folder.

    With a door it waits for the first worker without limit, and logs that it waits. A worker that
    dies is started again, or waited for. When the last one started here has failed for good, every
    job ends with `NoWorkerError`.

    Raises:
        ConfigError: a command cannot be started, the door is in use or not an address.
        WorkerFault: a worker ended before it joined; its last log lines are quoted.
    """
    wanted = project.recipe.expensive
    local = Local(
        role="expensive",
        command=wanted.command,
        count=wanted.count,
        threads=wanted.threads,
        environment=wanted.environment,
    )
    config = Config(
        upstream=Upstream(structure=project.recipe.structure, address=_NO_CLIENT),
        models=Models(expensive=ExpensiveModel(fingerprint=wanted.fingerprint)),
        workers=Workers(door=wanted.door, keys=wanted.keys) if wanted.door else Workers(),
        local=(local,) if wanted.command else (),
    )
    return _dispatcher(_case(project, config, folder), folder)


def lammps_command(project: DistillationProject, commands: Path) -> tuple[str, ...]:
    """Arguments of mixserver-worker for a file of LAMMPS commands."""
    # workers run in the recipe's folder, hence the absolute path
    return ("lammps", str(commands.resolve()), "--elements", ",".join(project.elements))


def cheap_workers(
    project: DistillationProject, command: tuple[str, ...], folder: Path, *, count: int = 1
) -> AbstractAsyncContextManager[Dispatcher]:
    """A dispatcher with workers of a cheap potential, of one thread each.

    `command` has the arguments of mixserver-worker.

    Raises:
        WorkerFault: the engine rejected the potential; its last log lines are quoted.
    """
    config = Config(
        upstream=Upstream(structure=project.recipe.structure, address=_NO_CLIENT),
        models=Models(cheap=Model()),
        local=(Local(role="cheap", command=command, count=count),),
    )
    return _dispatcher(_case(project, config, folder), folder)


def _case(project: DistillationProject, config: Config, folder: Path) -> Case:
    """The case of a pool of workers, whose logs are in a folder that is made here."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"{folder} cannot be created: {error.strerror}") from error
    return Case(project.base, project.file, config)


@contextlib.asynccontextmanager
async def _dispatcher(case: Case, folder: Path) -> AsyncIterator[Dispatcher]:
    async with worker_pool(case, folder) as parts:
        yield parts.dispatcher
