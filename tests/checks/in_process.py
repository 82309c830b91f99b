"""A case whose two toy models are evaluated in this process."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable

from clients.engines.toy import ToyEngine
from mixserver.config.load import parse
from mixserver.dispatch.dispatcher import Dispatcher
from mixserver.dispatch.events import Answered, Door, Event, Joined
from mixserver.dispatch.policy import Policy
from mixserver.frame import Frame
from mixserver.prepare import Preparation
from mixserver.selectors import build_selector
from mixserver.wire.worker import Evaluate, Result, Role

CHEAP = {"epsilon": 0.3, "sigma": 3.4, "cutoff": 5.0}
EXPENSIVE = {"epsilon": 0.4, "sigma": 3.3, "cutoff": 6.0}
"""Deep wells, so that ghost forces matter."""


class Engines:
    """A door with one engine behind it per role."""

    address = "in process"

    def __init__(self, engines: dict[Role, ToyEngine]) -> None:
        self._engines = engines
        self._tasks: set[asyncio.Task[None]] = set()

    async def open(self, report: Callable[[Door, Event], None]) -> None:
        self._report = report
        for role, engine in self._engines.items():
            report(self, Joined(role, role, engine.card))

    def welcome(self, worker: str) -> None:
        """They know."""

    def send(self, worker: str, job: Evaluate) -> None:
        task = asyncio.ensure_future(self._evaluate(worker, job))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def drop(self, worker: str, reason: str) -> None:
        raise RuntimeError(f"{worker} dropped: {reason}")

    async def close(self, reason: str) -> None:
        await asyncio.gather(*self._tasks)

    async def _evaluate(self, worker: Role, job: Evaluate) -> None:
        answer = self._engines[worker].evaluate(job)
        result = Result(
            job=job.job,
            energy=answer.energy,
            forces=answer.forces,
            virial=answer.virial,
            energies=answer.energies,
            values=answer.values,
        )
        self._report(self, Answered(worker, result))


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
) -> AsyncIterator[Preparation]:
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
    async with Dispatcher(policy, [Engines(engines)]) as dispatcher:
        yield Preparation(config, start, lambda: build_selector(config, start), dispatcher)
