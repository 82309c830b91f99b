"""One case with a larger region, more workers, ranks or threads, or beads at the same time."""

from __future__ import annotations

import contextlib
import os
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

import msgspec

from mixserver.analysis.bench.adaptation import EngineOptions, adapt, mixed_label, model_label
from mixserver.analysis.bench.force_clients import ForceClient, running_server
from mixserver.analysis.bench.pairing import Board, Contestant, Times, make_row, measure_in_turn
from mixserver.analysis.bench.processor_time import Spent
from mixserver.analysis.bench.replicate import LargerCase, enlarge
from mixserver.config import Config, load_case
from mixserver.core.errors import ConfigError, MixserverError, UpstreamError
from mixserver.core.scratch import scratch_directory

Vary = Literal["region", "workers", "ranks", "threads", "beads"]
VARIED: Final[tuple[Vary, ...]] = ("region", "workers", "ranks", "threads", "beads")


class ScalingSuite(msgspec.Struct, frozen=True, kw_only=True):
    """What `mixserver bench scaling` measures."""

    case: Path
    atoms: int = 8000
    vary: tuple[Vary, ...] = VARIED
    core_radii: tuple[float, ...] = (2.0, 4.0, 6.0, 8.0, 10.0)
    """Å, of "region"."""
    workers: int = 2
    """Expensive workers, beside one."""
    large_core: float = 14.0
    """Å, core radius of the region that workers share."""
    max_sites: int = 300
    """Of the jobs that a large region is split into for several workers."""
    ranks: int = 2
    """MPI ranks of the cheap worker, beside one."""
    threads: int = 2
    """Of the cheap worker, beside one."""
    engines: EngineOptions = EngineOptions()
    beads: int = 8
    bead_atoms: int = 1000
    batch_sites: int = 2000
    """Of the batches in which beads are evaluated (models.expensive.batch_sites)."""


async def measure_scaling(suite: ScalingSuite, board: Board) -> None:
    """Measure; rows go to the board.

    Raises:
        ConfigError: the case cannot be read, mixes nothing, or cannot be made larger.
    """
    measures = {
        "region": _region,
        "workers": _workers,
        "ranks": _ranks,
        "threads": _threads,
        "beads": _beads,
    }
    for what in suite.vary:
        with scratch_directory() as scratch:
            atoms = suite.bead_atoms if what == "beads" else suite.atoms
            larger = await adapt(
                enlarge(load_case(suite.case), atoms, Path(scratch)), suite.engines
            )
            try:
                await measures[what](suite, larger, board)
            except MixserverError as error:
                if isinstance(error, ConfigError):
                    raise
                board.leave_out(what, error)


async def _region(suite: ScalingSuite, larger: LargerCase, board: Board) -> None:
    """Larger cores beside the smallest: does a step grow as the weighted sites do?"""
    configs = {
        f"core {radius:g} Å": larger.mixed(core_radius=radius, local=larger.workers())
        for radius in sorted(suite.core_radii)
    }
    clients, times = await _measured(configs, _mixed_label(suite, larger), larger, board, "region")
    names = [name for name in clients if name in times]
    for name in names[1:]:
        options = ("--core-radii", f"{_radius(names[0])},{_radius(name)}")
        _add(clients[names[0]], clients[name], times, ("region", suite, larger, options), board)


async def _workers(suite: ScalingSuite, larger: LargerCase, board: Board) -> None:
    """A large region on several expensive workers beside one."""
    cheap, expensive = larger.workers("cheap"), larger.workers("expensive")
    configs: dict[str, Config] = {}
    for count in (suite.workers, 1):
        one = msgspec.structs.replace(expensive[0], count=count)
        config = larger.mixed(core_radius=suite.large_core, local=[*cheap, one])
        config = _with_expensive(config, max_sites=suite.max_sites)
        name = f"{count} expensive worker{'s' if count > 1 else ''}"
        configs[f"{name}, core {suite.large_core:g} Å"] = config
    clients, times = await _measured(configs, _mixed_label(suite, larger), larger, board, "workers")
    options = ("--large-core", f"{suite.large_core:g}", "--max-sites", str(suite.max_sites))
    options_all = (*options, "--workers", str(suite.workers))
    _add_pair(list(clients.values()), times, ("workers", suite, larger, options_all), board)


async def _ranks(suite: ScalingSuite, larger: LargerCase, board: Board) -> None:
    """The cheap model alone on several MPI ranks beside one."""
    await _all_cheap("ranks", suite, larger, board)


async def _threads(suite: ScalingSuite, larger: LargerCase, board: Board) -> None:
    """The cheap model alone on several threads of one process beside one."""
    await _all_cheap("threads", suite, larger, board)


async def _all_cheap(
    what: Literal["ranks", "threads"], suite: ScalingSuite, larger: LargerCase, board: Board
) -> None:
    (cheap, *_) = larger.workers("cheap")
    if cheap.command[0] != "lammps":
        board.leave_out(what, f"the cheap worker is {cheap.command[0]}, not lammps")
        return
    one = msgspec.structs.replace(cheap, mpi=1, threads=1, count=1)
    key, most = ("mpi", suite.ranks) if what == "ranks" else ("threads", suite.threads)
    configs = {
        f"all cheap, {count} {what if count > 1 else what[:-1]}": larger.alone(
            "cheap", [msgspec.structs.replace(one, **{key: count})]
        )
        for count in (most, 1)
    }
    clients, times = await _measured(configs, model_label(one), larger, board, what)
    _add_pair(list(clients.values()), times, (what, suite, larger, (f"--{what}", str(most))), board)


@dataclass(frozen=True, slots=True)
class _Beads:
    """A contestant: one frame of each bead, at the same time or one after the other."""

    client: ForceClient
    how: Literal["together", "in batches", "one by one"]

    @property
    def name(self) -> str:
        """How the beads are evaluated."""
        count = len(self.client.upstream.connections)
        return f"{count} beads {self.how}"

    @property
    def model(self) -> str:
        """As of the client."""
        return self.client.model

    async def measure(self, frame: int) -> Spent:
        """Evaluate a frame of every bead; what it took in all."""
        client, upstream = self.client, self.client.upstream
        # beads are replicas: other phases of the same vibration
        beads = range(len(upstream.connections))
        frames = [client.motion.frame(frame + 1000 * bead) for bead in beads]
        ask = upstream.ask_in_turn if self.how == "one by one" else upstream.ask_all
        return await client.timed(lambda: ask(frames, client.cell))


async def _beads(suite: ScalingSuite, larger: LargerCase, board: Board) -> None:
    """All beads at the same time, in batches too, beside one by one with the same workers."""
    plain = larger.mixed(connections=suite.beads, local=larger.workers())
    batched = _with_expensive(plain, batch_sites=suite.batch_sites)
    label = _mixed_label(suite, larger)
    async with (
        running_server("beads in batches", label, batched, larger.workload) as in_batches,
        running_server("beads", label, plain, larger.workload) as client,
    ):
        together = _Beads(client, "together")
        batches = _Beads(in_batches, "in batches")
        alone = _Beads(client, "one by one")
        times = await measure_in_turn([batches, together, alone], board, f"{suite.beads} beads")
        options = [f"--beads={suite.beads}", f"--bead-atoms={suite.bead_atoms}"]
        options += [f"--batch-sites={suite.batch_sites}"]
        where: tuple[Vary, ScalingSuite, LargerCase, tuple[str, ...]]
        where = ("beads", suite, larger, tuple(options))
        for fast in (batches, together):
            _add_pair([fast, alone], times, where, board, fast.client.details(1))


def _with_expensive(config: Config, **settings: int) -> Config:
    """A configuration with other sizes of the expensive model's jobs."""
    model = config.models.expensive
    assert model is not None  # noqa: S101 - it mixes
    changed = msgspec.structs.replace(model, **settings)
    models = msgspec.structs.replace(config.models, expensive=changed)
    return msgspec.structs.replace(config, models=models)


async def _measured(
    configs: dict[str, Config], label: str, larger: LargerCase, board: Board, what: str
) -> tuple[dict[str, Contestant], dict[str, Times]]:
    """Start a server for each configuration, and measure them in turn."""
    async with contextlib.AsyncExitStack() as stack:
        clients: dict[str, ForceClient] = {}
        for number, (name, config) in enumerate(configs.items()):
            board.on_progress(f"starting {name}", number, len(configs))
            start = running_server(name, label, config, larger.workload)
            try:
                clients[name] = await stack.enter_async_context(start)
            except MixserverError as error:
                board.leave_out(name, error)
        times = await measure_in_turn(list(clients.values()), board, what)
        found: dict[str, Contestant] = {
            name: _Measured(client.name, client.model, client.details(len(times[name])))
            for name, client in clients.items()
            if name in times
        }
    return found, times


@dataclass(frozen=True, slots=True)
class _Measured:
    """A contestant that has ended, for its row."""

    name: str
    model: str
    details: dict[str, float]

    async def measure(self, frame: int) -> Spent:
        """It has ended."""
        raise UpstreamError(f"{self.name} has ended; frame {frame} was not evaluated")


def _add_pair(
    pair: list[Contestant],
    times: dict[str, Times],
    where: tuple[Vary, ScalingSuite, LargerCase, tuple[str, ...]],
    board: Board,
    details: dict[str, float] | None = None,
) -> None:
    if len(pair) == 2 and all(one.name in times for one in pair):
        _add(pair[0], pair[1], times, where, board, details)


def _add(
    fast: Contestant,
    slow: Contestant,
    times: dict[str, Times],
    where: tuple[Vary, ScalingSuite, LargerCase, tuple[str, ...]],
    board: Board,
    details: dict[str, float] | None = None,
) -> None:
    what, suite, larger, options = where
    count = len(larger.workload.positions)
    known = dict(details or {})
    if isinstance(slow, _Measured):
        known |= slow.details
    words = ["mixserver", "bench", "scaling", os.path.relpath(suite.case), "--vary", what]
    words += [*options, *suite.engines.options(), "--pairs", str(board.effort.pairs)]
    if what != "beads":
        words += ["--atoms", str(suite.atoms)]
    row = make_row(
        fast,
        slow,
        times,
        suite="scaling",
        system=f"{larger.workload.system}, {count} atoms, {what}",
        atoms=count,
        sites=int(known.get("core", 0.0) + known.get("blend", 0.0)) or count,
        command=shlex.join(words),
        details=known,
    )
    board.add(row)


def _mixed_label(suite: ScalingSuite, larger: LargerCase) -> str:
    cheap, expensive = (larger.workers(role)[0] for role in ("cheap", "expensive"))
    return mixed_label(cheap, expensive, suite.engines.untrained)


def _radius(name: str) -> str:
    return name.split()[1]
