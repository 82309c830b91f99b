"""One MACE model in several engines: all sites of a crystal, or a weighted region.

MACECalculator and symmetrix-xl's own calculator know no site weights: beside a weighted region they
evaluate all atoms of the same cluster, which is what their users would have to do.
"""

from __future__ import annotations

import contextlib
import os
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Final, Literal

import msgspec

from mixserver.analysis.bench.engines import (
    EngineOn,
    RunningEngine,
    calculator_command,
    mace_command,
    running_engine,
)
from mixserver.analysis.bench.pairing import Board, make_row, measure_in_turn
from mixserver.analysis.bench.untrained import UntrainedMace
from mixserver.analysis.bench.workloads import Workload, crystal, region
from mixserver.core.errors import ConfigError, MixserverError

Engine = Literal["torch", "symmetrix", "compiled", "calculator", "symmetrix-calculator"]
ENGINES: Final[dict[Engine, str]] = {
    "torch": "mixserver, torch kernels",
    "symmetrix": "mixserver, symmetrix kernels",
    "compiled": "mixserver, symmetrix kernels, compiled",
    "calculator": "MACECalculator",
    "symmetrix-calculator": "symmetrix-xl's calculator",
}
"""Engines, and their names in reports."""
WEIGHTED: Final = ("torch", "symmetrix", "compiled")
"""Engines that know site weights."""
_LARGEST: Final = 20_000
"""Atoms; a region and its surroundings are smaller."""


class MaceSuite(msgspec.Struct, frozen=True, kw_only=True):
    """What `mixserver bench mace` measures."""

    model: Path | UntrainedMace
    element: str = "W"
    """Of the crystals."""
    sites: tuple[int, ...] = (50, 250, 1000, 3000)
    """Sizes of the crystals whose sites all count; none for none."""
    regions: tuple[tuple[float, float], ...] = ((6.0, 4.0),)
    """Core radius and blend width, Å, of weighted regions."""
    dtypes: tuple[Literal["float32", "float64"], ...] = ("float32", "float64")
    engines: tuple[Engine, ...] = ("torch", "symmetrix", "calculator", "symmetrix-calculator")
    device: str = "cpu"
    threads: int = 1


async def measure_mace(suite: MaceSuite, board: Board) -> None:
    """Measure; rows go to the board.

    Raises:
        ConfigError: the model cannot be read or made, or knows no crystal that can be built here.
    """
    mixing = [name for name in suite.engines if name in WEIGHTED]
    if not mixing or len(suite.engines) < 2:
        raise ConfigError(
            f"engines {', '.join(suite.engines)}: expected at least two, and among them one of "
            f"{', '.join(WEIGHTED)}, which say how far the model looks"
        )
    file = suite.model if isinstance(suite.model, Path) else await suite.model.file()
    if not file.is_file():
        raise ConfigError(f"there is no model file {file}")
    if suite.device != "cpu":
        board.without_processor_times()
    for dtype in suite.dtypes:
        await _measure_precision(suite, file, dtype, board)


async def _measure_precision(
    suite: MaceSuite, file: Path, dtype: Literal["float32", "float64"], board: Board
) -> None:
    async with contextlib.AsyncExitStack() as stack:
        engines: dict[Engine, RunningEngine] = {}
        largest = crystal(suite.element, max((_LARGEST, *suite.sites)))
        ordered = sorted(suite.engines, key=lambda name: name not in WEIGHTED)
        for number, name in enumerate(ordered):
            board.on_progress(f"starting {ENGINES[name]}, {dtype}", number, len(ordered))
            command = _command(name, file, dtype, suite)
            start = running_engine(ENGINES[name], command, largest, threads=suite.threads)
            try:
                engines[name] = await stack.enter_async_context(start)
            except MixserverError as error:
                board.leave_out(f"{ENGINES[name]}, {dtype}", error)
        knowing = [engines[name] for name in engines if name in WEIGHTED]
        if not knowing:
            return
        reach = knowing[0].card.receptive_field or 0.0
        label = suite.model.label if isinstance(suite.model, UntrainedMace) else f"MACE {file.name}"
        for sites in suite.sites:
            load = crystal(suite.element, sites)
            words = ("--sites", str(sites), "--region", "none")
            await _measure_workload(suite, engines, load, (label, dtype), words, board)
        for core, blend in suite.regions:
            load = region(suite.element, core, blend, reach)
            words = ("--sites", "none", "--region", f"{core:g}/{blend:g}")
            await _measure_workload(suite, engines, load, (label, dtype), words, board)


async def _measure_workload(
    suite: MaceSuite,
    engines: dict[Engine, RunningEngine],
    load: Workload,
    labels: tuple[str, str],
    words: Sequence[str],
    board: Board,
) -> None:
    label, dtype = labels
    contestants = {
        name: EngineOn(engine, load, label, weighted=name in WEIGHTED)
        for name, engine in engines.items()
    }
    system = f"{load.system}, {dtype}, {suite.device}"
    if suite.device == "cpu":
        system += f", {suite.threads} thread{'s' if suite.threads > 1 else ''}"
    times = await measure_in_turn(list(contestants.values()), board, system)
    for fast, slow in _pairs([name for name in contestants if contestants[name].name in times]):
        command = _repeat(suite, (fast, slow), dtype, words, board)
        row = make_row(
            contestants[fast],
            contestants[slow],
            times,
            suite="mace",
            system=system,
            atoms=len(load.positions),
            sites=load.sites,
            command=command,
        )
        board.add(row)


def _pairs(names: Sequence[Engine]) -> list[tuple[Engine, Engine]]:
    """Each engine of ours beside all that come after it in `ENGINES`."""
    ranked: tuple[Engine, ...] = ("compiled", "symmetrix", *ENGINES)
    order = list(dict.fromkeys(name for name in ranked if name in names))
    return [
        (fast, slow)
        for at, fast in enumerate(order)
        if fast in WEIGHTED
        for slow in order[at + 1 :]
    ]


def _command(name: Engine, file: Path, dtype: str, suite: MaceSuite) -> tuple[str, ...]:
    device = suite.device
    match name:
        case "calculator":
            path = "mace.calculators:MACECalculator"
            return calculator_command(
                path, model_paths=str(file), device=device, default_dtype=dtype
            )
        case "symmetrix-calculator":
            return calculator_command("symmetrix:Symmetrix", model_file=str(file), dtype=dtype)
        case kernels:
            compiled = kernels == "compiled"
            words = mace_command(
                file,
                kernels="symmetrix" if compiled else kernels,
                device=device,
                dtype=dtype,
                threads=suite.threads,
            )
            return (*words, "--compile") if compiled else words


def _repeat(
    suite: MaceSuite, pair: tuple[Engine, Engine], dtype: str, words: Sequence[str], board: Board
) -> str:
    model = suite.model
    which = ("--model", os.path.relpath(model)) if isinstance(model, Path) else model.options()
    which = (*which, "--element", suite.element)
    command = ("mixserver", "bench", "mace", *which, *words, "--dtype", dtype)
    command += ("--engines", ",".join(pair), "--device", suite.device)
    command += ("--threads", str(suite.threads), "--pairs", str(board.effort.pairs))
    return shlex.join(command)
