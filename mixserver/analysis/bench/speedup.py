"""A mixed case beside the expensive model for all atoms, and beside the cheap one for all.

All ways get the same positions over i-PI's protocol, so a time is that of a step but for i-PI's own
share, which is the same for all and measured by `overhead`. Every way may use the same number of
cores.
"""

from __future__ import annotations

import contextlib
import json
import os
import shlex
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Final, Literal

import msgspec

from mixserver.analysis.bench.adaptation import (
    EngineOptions,
    adapt,
    mixed_label,
    model_label,
    option,
    with_options,
)
from mixserver.analysis.bench.engines import calculator_command, mace_command
from mixserver.analysis.bench.force_clients import ForceClient, running_program, running_server
from mixserver.analysis.bench.machine import usable_cores
from mixserver.analysis.bench.pairing import Board, make_row, measure_in_turn
from mixserver.analysis.bench.replicate import LargerCase, enlarge, mace_model
from mixserver.config import Local, load_case
from mixserver.core.errors import ConfigError, MixserverError
from mixserver.core.processes import environment_program
from mixserver.core.scratch import scratch_directory

Way = Literal["mixed", "worker", "torch", "symmetrix", "calculator", "ipi-mace", "cheap"]
WAYS: Final[dict[Way, str]] = {
    "mixed": "mixed",
    "worker": "all expensive, the case's worker",
    "torch": "all expensive, torch kernels",
    "symmetrix": "all expensive, symmetrix kernels",
    "calculator": "all expensive, MACECalculator",
    "ipi-mace": "all expensive, i-PI's MACE driver",
    "cheap": "all cheap",
}
"""Ways to get forces on all atoms, and their names in reports."""
_OF_MACE: Final = ("torch", "symmetrix", "calculator", "ipi-mace")


class SpeedupSuite(msgspec.Struct, frozen=True, kw_only=True):
    """What `mixserver bench speedup` measures."""

    case: Path
    atoms: tuple[int, ...] = (1000, 8000, 27000)
    ways: tuple[Way, ...] = tuple(WAYS)
    core_radius: float | None = None
    """Å; None as in the case."""
    blend_width: float | None = None
    engines: EngineOptions = EngineOptions()
    cores: int | None = None
    """Threads of an expensive worker for all atoms; None: as many as the case's workers have."""


async def measure_speedup(suite: SpeedupSuite, board: Board) -> None:
    """Measure; rows go to the board.

    Raises:
        ConfigError: the case cannot be read, mixes nothing, or cannot be made larger.
    """
    if suite.ways[:1] != ("mixed",) or len(suite.ways) < 2:
        raise ConfigError("expected mixed and at least one other way to compare it with")
    for atoms in suite.atoms:
        with scratch_directory() as scratch:
            await _measure_size(suite, atoms, Path(scratch), board)


async def _measure_size(suite: SpeedupSuite, atoms: int, folder: Path, board: Board) -> None:
    larger = await adapt(enlarge(load_case(suite.case), atoms, folder), suite.engines)
    count = len(larger.workload.positions)
    async with contextlib.AsyncExitStack() as stack:
        clients: dict[Way, ForceClient] = {}
        ways = _different(suite.ways, larger)
        expensive = larger.workers("expensive")
        if expensive[0].command[0] == "mace" and option(expensive[0], "--device") != "cpu":
            board.without_processor_times()
        for number, way in enumerate(ways):
            name = WAYS[way]
            board.on_progress(f"starting {name}, {count} atoms", number, len(ways))
            start = _start(way, suite, larger, folder, board)
            if start is None:
                continue
            try:
                clients[way] = await stack.enter_async_context(start)
            except MixserverError as error:
                if way == "mixed":
                    raise
                board.leave_out(f"{name}, {count} atoms", error)
        what = f"{larger.workload.system}, {count} atoms"
        times = await measure_in_turn(list(clients.values()), board, what)
        mixed = clients["mixed"]
        if mixed.name not in times:
            return
        details = mixed.details(len(times[mixed.name]))
        for way, client in clients.items():
            if way != "mixed" and client.name in times:
                row = make_row(
                    mixed,
                    client,
                    times,
                    suite="speedup",
                    system=f"{larger.workload.system}, {count} atoms",
                    atoms=count,
                    sites=int(details.get("core", 0.0) + details.get("blend", 0.0)),
                    command=_repeat(suite, way, atoms, board),
                    details=details,
                )
                board.add(row)


def _different(ways: Sequence[Way], larger: LargerCase) -> list[Way]:
    """Ways without the case's own worker where it is MACE, which others stand for."""
    mace = mace_model(larger.workers("expensive"), larger.case.folder) is not None
    return [way for way in ways if not (way == "worker" and mace and "torch" in ways)]


def _start(
    way: Way, suite: SpeedupSuite, larger: LargerCase, folder: Path, board: Board
) -> AbstractAsyncContextManager[ForceClient] | None:
    """How a way is started; None if the case has no MACE worker, which the board then says."""
    cheap, expensive, workers = (
        larger.workers("cheap"),
        larger.workers("expensive"),
        larger.workers(),
    )
    found = mace_model(expensive, larger.case.folder)
    if way in _OF_MACE and found is None:
        board.leave_out(WAYS[way], "the case's expensive worker is no MACE worker")
        return None
    labels = model_label(cheap[0]), model_label(expensive[0], suite.engines.untrained)
    cores = suite.cores or min(
        usable_cores(), sum(one.count * one.mpi * one.threads for one in workers)
    )
    serve = larger.workload
    if way == "mixed":
        config = larger.mixed(
            core_radius=suite.core_radius, blend_width=suite.blend_width, local=workers
        )
        label = mixed_label(cheap[0], expensive[0], suite.engines.untrained)
        return running_server(WAYS[way], label, config, serve)
    if way == "cheap":
        return running_server(WAYS[way], labels[0], larger.alone("cheap", cheap), serve)
    if way == "worker":
        one = msgspec.structs.replace(
            expensive[0],
            count=1,
            threads=cores,
            command=with_options(expensive[0], threads=str(cores)),
        )
        return running_server(WAYS[way], labels[1], larger.alone("expensive", [one]), serve)
    assert found is not None  # noqa: S101 - see above
    model, dtype = found
    device = option(expensive[0], "--device") or "cpu"
    if way == "ipi-mace":
        return _ipi_driver(model, dtype, device, cores, larger, labels[1])
    command = (
        calculator_command(
            "mace.calculators:MACECalculator",
            model_paths=str(model),
            device=device,
            default_dtype=dtype,
        )
        if way == "calculator"
        else mace_command(model, kernels=way, device=device, dtype=dtype, threads=cores)
    )
    local = Local(role="expensive", command=command, threads=cores, restarts=0)
    return running_server(WAYS[way], labels[1], larger.alone("expensive", [local]), serve)


@contextlib.asynccontextmanager
async def _ipi_driver(
    model: Path, dtype: str, device: str, cores: int, larger: LargerCase, label: str
) -> AsyncIterator[ForceClient]:
    """i-PI's own driver for MACE, on a private socket."""
    with scratch_directory() as scratch:
        folder = Path(scratch)
        settings, socket = folder / "mace.json", "upstream"
        settings.write_text(json.dumps({"default_dtype": dtype}), encoding="utf-8")
        options = f"template={larger.structure},model={model},device={device}"
        command = [environment_program("i-pi-py_driver"), "-u", "-S", f"{folder}/", "-a", socket]
        command += ["-m", "mace", "-o", f"{options},mace_kwargs={settings}"]
        start = running_program(
            WAYS["ipi-mace"],
            label,
            command,
            larger.workload,
            folder / socket,
            folder=folder,
            environment={"OMP_NUM_THREADS": str(cores), "MKL_NUM_THREADS": str(cores)},
            late_init=True,
        )
        async with start as client:
            yield client


def _repeat(suite: SpeedupSuite, way: Way, atoms: int, board: Board) -> str:
    words = ["mixserver", "bench", "speedup", os.path.relpath(suite.case)]
    words += ["--atoms", str(atoms), "--ways", f"mixed,{way}"]
    if suite.core_radius is not None:
        words += ["--core-radius", f"{suite.core_radius:g}"]
    if suite.blend_width is not None:
        words += ["--blend-width", f"{suite.blend_width:g}"]
    words += suite.engines.options()
    if suite.cores is not None:
        words += ["--cores", str(suite.cores)]
    return shlex.join([*words, "--pairs", str(board.effort.pairs)])
