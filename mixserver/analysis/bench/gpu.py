"""What a machine with CUDA measures: all suites that a GPU changes, with one command.

Nothing here imports torch or LAMMPS: both are asked in child processes what they can do.
"""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

import msgspec

from mixserver.analysis.bench.adaptation import EngineOptions
from mixserver.analysis.bench.child import run_program
from mixserver.analysis.bench.lammps_program import lammps_executable, lammps_variables
from mixserver.analysis.bench.lammps_steps import LammpsSuite, measure_lammps
from mixserver.analysis.bench.mace_engines import MaceSuite, measure_mace
from mixserver.analysis.bench.machine import find_gpus, package_version
from mixserver.analysis.bench.pairing import Board
from mixserver.analysis.bench.speedup import SpeedupSuite, measure_speedup
from mixserver.analysis.bench.untrained import UntrainedMace
from mixserver.core.errors import ConfigError, MissingPackage, MixserverError

KOKKOS: Final = "-k on g 1 -sf kk -pk kokkos newton on neigh half"
"""Switches with which LAMMPS's Kokkos styles run on one GPU."""
_ASK_TORCH: Final = (
    "import torch; print(torch.cuda.is_available(), torch.version.cuda,"
    " torch.cuda.get_device_name(0) if torch.cuda.is_available() else '')"
)
_LIMIT_S: Final = 300.0


class GpuSuite(msgspec.Struct, frozen=True, kw_only=True):
    """What `mixserver bench gpu` measures."""

    cases: tuple[Path, ...] = ()
    """Cases with MACE and LAMMPS, for the speed-up of mixed runs."""
    potentials: tuple[tuple[Path, str], ...] = ()
    """Files of LAMMPS commands and the elements of their atom types, with commas."""
    elements: tuple[str, ...] = ("Si", "W")
    """Of the crystals for MACE."""
    sites: tuple[int, ...] = (250, 1000, 3000, 10000)
    atoms: tuple[int, ...] = (8000, 27000, 64000)
    device: str = "cuda"
    kokkos: bool = True
    """False: the cheap side stays on the CPU."""
    irreps: tuple[str, ...] = ("128x0e", "128x0e + 128x1o")
    l_max: int = 3
    r_max: float = 6.0
    """Å."""
    dtypes: tuple[Literal["float32", "float64"], ...] = ("float32", "float64")


@dataclass(frozen=True, slots=True)
class GpuSupport:
    """What is there."""

    gpus: tuple[str, ...]
    torch: str
    """What torch says of CUDA; empty if it cannot use it."""
    kokkos: str
    """What LAMMPS says of Kokkos; empty if it has none for CUDA."""

    def missing(self) -> list[str]:
        """What is needed and not there, with what to do about it; empty if all is there."""
        found = []
        if not self.gpus:
            found.append(
                "no NVIDIA GPU is visible: nvidia-smi lists none (is the driver installed, and "
                "does CUDA_VISIBLE_DEVICES hide it?)"
            )
        if not self.torch:
            found.append(
                "torch cannot use CUDA here: install a build of torch for the CUDA version that "
                "nvidia-smi shows"
            )
        return found


async def find_gpu_support() -> GpuSupport:
    """Ask nvidia-smi, torch and LAMMPS."""
    said = (await _output([sys.executable, "-P", "-c", _ASK_TORCH])).strip()
    available, _, words = said.partition(" ")
    kokkos = ""
    try:
        program = lammps_executable()
    except MissingPackage:
        pass
    else:
        text = await _output([str(program), "-h"], lammps_variables(1))
        for line in text.splitlines():
            if line.strip().startswith("KOKKOS package API:") and "CUDA" in line.upper():
                kokkos = line.strip()
    return GpuSupport(find_gpus(), f"CUDA {words}" if available == "True" else "", kokkos)


async def measure_gpu(suite: GpuSuite, support: GpuSupport, board: Board) -> None:
    """Measure; rows go to the board. A suite that fails is left out, and the others go on.

    Raises:
        ConfigError: there is no usable GPU; the message lists what is missing.
    """
    missing = support.missing()
    if suite.device != "cpu" and missing:
        raise ConfigError("mixserver bench gpu needs a GPU: " + "; ".join(missing))
    kokkos = suite.kokkos and bool(support.kokkos)
    if suite.kokkos and not kokkos:
        board.leave_out(
            "cheap potentials on the GPU",
            "this LAMMPS has no Kokkos for CUDA, so they run on the CPU (how to build one: "
            "docs/howto/lammps.md)",
        )
    if not package_version("symmetrix-xl"):
        board.leave_out("symmetrix kernels", "symmetrix-xl is not installed")
    for element in suite.elements:
        for irreps in suite.irreps:
            layout = UntrainedMace(
                element=element, irreps=irreps, l_max=suite.l_max, r_max=suite.r_max
            )
            mace = MaceSuite(
                model=layout,
                element=element,
                sites=suite.sites,
                dtypes=suite.dtypes,
                device=suite.device,
            )
            await _or_left_out(f"mace {element} {irreps}", measure_mace(mace, board), board)
    switches: Sequence[str] = KOKKOS.split() if kokkos else ()
    for file, elements in suite.potentials:
        lammps = LammpsSuite(
            commands=file,
            elements=tuple(elements.split(",")),
            atoms=suite.atoms,
            arguments=tuple(switches),
            steps=100 if kokkos else 10,
        )
        await _or_left_out(f"lammps {file.name}", measure_lammps(lammps, board), board)
    for case in suite.cases:
        engines = EngineOptions(
            dtype="float32", device=suite.device, cheap_arguments=" ".join(switches)
        )
        speedup = SpeedupSuite(case=case, atoms=suite.atoms, engines=engines)
        await _or_left_out(f"speedup {case}", measure_speedup(speedup, board), board)


async def _or_left_out(name: str, measuring: Awaitable[None], board: Board) -> None:
    try:
        await measuring
    except MixserverError as error:
        board.leave_out(name, error)


async def _output(command: Sequence[str], environment: dict[str, str] | None = None) -> str:
    """What a program prints; empty if it fails."""
    try:
        ended = await run_program(command, environment=environment, limit_s=_LIMIT_S)
    except (OSError, TimeoutError):
        return ""
    return ended.output if ended.status == 0 else ""
