"""Workers for a check: the case's own local ones, on doors that close again."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec

from mixserver.build import Parts
from mixserver.config import Case
from mixserver.errors import ConfigError
from mixserver.launch import build_local, local_workers
from mixserver.private import private_folder
from mixserver.service import Service


@contextlib.asynccontextmanager
async def pool(case: Case) -> AsyncIterator[Parts]:
    """The case's parts with its local workers joined; no upstream is answered.

    Raises:
        ConfigError: the case starts no workers itself.
        MixserverError: a worker could not start.
    """
    if not case.config.local:
        raise ConfigError(
            f"{case.file} has no [[local]] workers, so no model can be asked; add them "
            "(mixserver check --quick does without)"
        )
    served = {local.role for local in case.config.local}
    for role in ("cheap", "expensive"):
        if getattr(case.config.models, role) is not None and role not in served:
            raise ConfigError(
                f"no [[local]] worker is {role}, so that model cannot be asked here; its workers "
                "or clients come from elsewhere. Add one for the time being (mixserver "
                "check --quick does without)"
            )
    with private_folder() as name:
        folder = Path(name)
        # a check must end, so a worker that is lost is not waited for
        workers = msgspec.structs.replace(case.config.workers, when_none="stop")
        config = msgspec.structs.replace(case.config, workers=workers)
        case = dataclasses.replace(case, config=config)
        parts = build_local(case, folder, name)
        async with (
            Service(parts).doors(),
            local_workers(case, parts, folder, logs_stay=False),
        ):
            yield parts
