"""The LAMMPS engine beside LAMMPS itself: `run` inside LAMMPS, and `fix ipi` as i-PI's client."""

from __future__ import annotations

import contextlib
import os
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

from mixserver.analysis.bench.engines import EngineOn, RunningEngine, running_engine
from mixserver.analysis.bench.lammps_program import LammpsRun, prepare_lammps, running_fix_ipi
from mixserver.analysis.bench.pairing import Block, Board, Contestant, make_row, measure_in_turn
from mixserver.analysis.bench.processor_time import Spent
from mixserver.analysis.bench.workloads import Workload, crystal
from mixserver.core.errors import MixserverError
from mixserver.core.scratch import scratch_directory

ENGINE: Final = "mixserver-worker lammps --kernels"
FIX_IPI: Final = "LAMMPS's fix ipi"


class LammpsSuite(msgspec.Struct, frozen=True, kw_only=True):
    """What `mixserver bench lammps` measures."""

    commands: Path
    """The potential: a file of LAMMPS commands."""
    elements: tuple[str, ...] = ("Si",)
    """Of the atom types; crystals are of the first."""
    atoms: tuple[int, ...] = (1000, 8000)
    steps: int = 20
    """Of one block of `run`."""
    arguments: tuple[str, ...] = ()
    """Switches for LAMMPS, for all contestants."""
    kernels: tuple[str, ...] = ("compiled", "lammps")
    """Of the engine, each beside LAMMPS."""
    ranks: int = 1
    threads: int = 1
    label: str = ""
    """The potential's name in reports."""


@dataclass(frozen=True, slots=True)
class EngineAtServer:
    """A contestant: the engine as the server sees it, with its messages."""

    engine: RunningEngine
    workload: Workload
    model: str

    @property
    def name(self) -> str:
        """The engine, with how it is measured."""
        return f"{self.engine.name}, with its messages"

    async def measure(self, frame: int) -> Spent:
        """Evaluate a frame; what it took from sending the job to its result."""
        return await self.engine.evaluate(self.workload, frame, weighted=False, with_messages=True)


async def measure_lammps(suite: LammpsSuite, board: Board) -> None:
    """Measure; rows go to the board.

    Raises:
        ConfigError: the potential's file or the crystal is not known.
        WorkerFault: LAMMPS does not take the potential.
    """
    for atoms in suite.atoms:
        await _measure_size(suite, crystal(suite.elements[0], atoms), atoms, board)


async def _measure_size(suite: LammpsSuite, workload: Workload, asked: int, board: Board) -> None:
    label = suite.label or f"LAMMPS {suite.commands.resolve().parent.name}/{suite.commands.name}"
    system = f"{suite.elements[0]} crystal, {suite.ranks} rank{'s' if suite.ranks > 1 else ''}"
    if suite.arguments:
        system += f", {shlex.join(suite.arguments)}"
    command = ["lammps", str(suite.commands.resolve()), "--elements", ",".join(suite.elements)]
    if suite.arguments:
        command += ["--lmp-args", shlex.join(suite.arguments)]
    async with contextlib.AsyncExitStack() as stack:
        folders = [Path(stack.enter_context(scratch_directory())) for _ in range(2)]
        run_in, client_in = (
            prepare_lammps(
                suite.commands,
                folder,
                arguments=suite.arguments,
                ranks=suite.ranks,
                threads=suite.threads,
            )
            for folder in folders
        )
        engines = []
        for kernels in suite.kernels:
            name = f"{ENGINE} {kernels}"
            words = [*command, "--kernels", kernels]
            joining = running_engine(
                name, words, workload, threads=suite.threads, ranks=suite.ranks
            )
            try:
                engines.append(await stack.enter_async_context(joining))
            except MixserverError as error:
                if kernels == "lammps":
                    raise
                board.leave_out(name, error)
        steps = suite.steps
        run = LammpsRun("run inside LAMMPS", label, run_in, workload, suite.elements, steps)
        pairs: list[tuple[Contestant, Contestant]] = [
            (Block(EngineOn(engine, workload, label, weighted=False), steps), run)
            for engine in engines
        ]
        try:
            start = running_fix_ipi(FIX_IPI, label, client_in, workload, suite.elements)
            client = Block(await stack.enter_async_context(start), steps)
            pairs += [
                (Block(EngineAtServer(engine, workload, label), steps), client)
                for engine in engines
            ]
        except MixserverError as error:
            board.leave_out(FIX_IPI, error)
        contestants = list({one.name: one for pair in pairs for one in pair}.values())
        times = await measure_in_turn(contestants, board, f"{system}, {asked} atoms")
        for fast, slow in pairs:
            if fast.name in times and slow.name in times:
                row = make_row(
                    fast,
                    slow,
                    times,
                    suite="lammps",
                    system=system,
                    atoms=len(workload.positions),
                    sites=len(workload.positions),
                    command=_repeat(suite, asked, board),
                )
                board.add(row)


def _repeat(suite: LammpsSuite, atoms: int, board: Board) -> str:
    words = ["mixserver", "bench", "lammps", os.path.relpath(suite.commands)]
    words += ["--elements", ",".join(suite.elements), "--atoms", str(atoms)]
    words += ["--kernels", ",".join(suite.kernels)]
    words += ["--ranks", str(suite.ranks), "--threads", str(suite.threads)]
    words += ["--steps", str(suite.steps), "--pairs", str(board.effort.pairs)]
    if suite.arguments:
        words += ["--lmp-args", shlex.join(suite.arguments)]
    return shlex.join(words)
