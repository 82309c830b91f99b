"""The local workers of a case, for checks that evaluate its models."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import AsyncIterator

import msgspec

from mixserver.config import Case
from mixserver.core.errors import ConfigError
from mixserver.server.build import Parts
from mixserver.server.worker_pool import worker_pool


@contextlib.asynccontextmanager
async def case_workers(case: Case) -> AsyncIterator[Parts]:
    """The case's parts with its local workers joined; i-PI is not served.

    Raises:
        ConfigError: a model of the case has no [[local]] worker.
        MixserverError: a worker could not start.
    """
    if not case.config.local:
        raise ConfigError(
            f"{case.file} has no [[local]] workers, so no model can be evaluated; add them "
            "(mixserver check --quick needs none)"
        )
    served = {local.role for local in case.config.local}
    for role in ("cheap", "expensive"):
        if getattr(case.config.models, role) is not None and role not in served:
            raise ConfigError(
                f"no [[local]] worker of {case.file} has role = {role!r}, so that model cannot be "
                "evaluated here; its workers or clients come from elsewhere. Add a local one for "
                "this command (mixserver check --quick needs none)"
            )
    # a check must end, so it does not wait for another worker in place of a lost one
    workers = msgspec.structs.replace(case.config.workers, when_none="stop")
    config = msgspec.structs.replace(case.config, workers=workers)
    async with worker_pool(dataclasses.replace(case, config=config)) as parts:
        yield parts
