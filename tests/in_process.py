"""A case whose two toy models are evaluated in this process."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

from fakes import EngineListener
from mixserver_worker.engines.toy import ToyEngine

from mixserver.config.load import parse
from mixserver.core.frame import Frame
from mixserver.dispatch.dispatcher import Dispatcher
from mixserver.dispatch.policy import Policy
from mixserver.server.mixing_setup import MixingSetup
from mixserver.server.regions import build_region_model
from mixserver.wire.worker import Role

CHEAP = {"epsilon": 0.3, "sigma": 3.4, "cutoff": 5.0}
EXPENSIVE = {"epsilon": 0.4, "sigma": 3.3, "cutoff": 6.0}
"""Deep wells, so that ghost forces matter."""


@contextlib.asynccontextmanager
async def prepared_case(
    start: Frame,
    *,
    region: str = "",
    mixing: str = "",
    kind: str = "energy",
    seeds: str = '{ kind = "atoms", indices = [0] }',
    core: float = 3.0,
    blend: float = 3.0,
    cheap: dict[str, float] = CHEAP,
    expensive: dict[str, float] = EXPENSIVE,
) -> AsyncIterator[MixingSetup]:
    """Two toy models, mixed as a mix.toml says."""
    config = parse(
        '[upstream]\naddress = "unix:nobody"\nstructure = "init.xyz"\n'
        f"[region]\ncore_radius = {core}\nblend_width = {blend}\n{region}\nseeds = {seeds}\n"
        f'[mixing]\nkind = "{kind}"\n{mixing}\n[models.cheap]\n[models.expensive]\n'
    )
    engines: dict[Role, ToyEngine] = {
        "cheap": ToyEngine(**cheap),
        "expensive": ToyEngine(**expensive),
    }
    policy = Policy(roles={"cheap": "", "expensive": ""})
    async with Dispatcher(policy, [EngineListener.one_per_role(engines)]) as dispatcher:
        yield MixingSetup(config, start, lambda: build_region_model(config, start), dispatcher)
