"""Benchmark of mixserver's own overhead: real sockets, workers that return zeros at once.

Two measurements per size, in one run so that their ratio means something on a noisy machine:

* mixserver: this module sends requests as i-PI does, over a unix socket. The server carves a
  region, sends jobs to two toy workers that return zeros, mixes and replies. Its own time is the
  time that passed here minus the time that the server waited for its workers.
* i-PI's floor: real i-PI, NVE without outputs, with a driver that returns zeros at once.
"""

from __future__ import annotations

import asyncio
import statistics
import sys
import time
from pathlib import Path

import msgspec
import numpy as np

from mixserver.analysis.bench.child import run_program
from mixserver.analysis.bench.upstream import Upstream
from mixserver.analysis.records import read_reports
from mixserver.config import load_case
from mixserver.core.arrays import Vectors
from mixserver.core.errors import UpstreamError
from mixserver.core.scratch import scratch_directory
from mixserver.ipi.process import run_ipi
from mixserver.server.local_workers import build_for_local_workers, running_local_workers
from mixserver.server.records.thermometer import RegionThermometer
from mixserver.server.service import Service
from mixserver.server.warnings.watch import watched
from mixserver.wire.ipi import Reply, Request

_WARM_UP = 5
_CONTACT_S = 60.0
_PAUSE_S = 1e-3
"""Between two requests: i-PI's integrator takes about that long."""
_SPACING = 3.0
"""Å between the atoms of the simple cubic test crystal."""
_MIX = """
[upstream]
address = "unix:bench"
structure = "init.xyz"
[region]
core_radius = 6.0
blend_width = 4.0
seeds = { kind = "atoms", indices = [0] }
[mixing]
kind = "force"
[models.cheap]
[models.expensive]
[[local]]
role = "cheap"
command = ["toy", "--kind", "zero", "--cutoff", "5.0"]
[[local]]
role = "expensive"
command = ["toy", "--kind", "zero", "--cutoff", "5.0"]
"""
_XML = """
<simulation verbosity='quiet' safe_stride='1000000'>
  <output prefix='floor'>
    <properties stride='1000000' filename='out'> [ step ] </properties>
  </output>
  <total_steps> {steps} </total_steps>
  <ffsocket name='driver' mode='unix' pbc='false'><address> floor </address></ffsocket>
  <system>
    <initialize nbeads='1'>
      <file mode='xyz'> init.xyz </file>
      <velocities mode='thermal' units='kelvin'> 300 </velocities>
    </initialize>
    <forces> <force forcefield='driver'/> </forces>
    <ensemble> <temperature units='kelvin'> 300 </temperature> </ensemble>
    <motion mode='dynamics'><fixcom> False </fixcom><dynamics mode='nve'>
      <timestep units='femtosecond'> 0.01 </timestep>
    </dynamics></motion>
  </system>
</simulation>
"""


class Overhead(msgspec.Struct, frozen=True, kw_only=True):
    """Medians for one system size, milliseconds per evaluation."""

    atoms: int
    evaluations: int
    carved: int
    """Atoms sent to the expensive worker."""
    own_ms: float
    """Everything but the wait for workers, seen from upstream's side of the socket."""
    inside_ms: float
    """The part of it inside the server's evaluation: carve, mix, report."""
    whole_ms: float
    """Request sent to reply received."""
    floor_ms: float
    """A whole step of i-PI's own on a driver that answers at once."""


async def measure(atoms: int, evaluations: int) -> Overhead:
    """Measure one system size; of about so many atoms the next cube is taken.

    Raises:
        MixserverError: something did not start.
    """
    side = max(2, round(atoms ** (1.0 / 3.0)))
    with scratch_directory() as name:
        folder = Path(name)
        grid = (np.arange(side) + 0.5) * _SPACING
        positions = np.stack(np.meshgrid(grid, grid, grid, indexing="ij"), axis=-1).reshape(-1, 3)
        cell = np.eye(3) * side * _SPACING
        rows = "".join(f"Ar {x:.6f} {y:.6f} {z:.6f}\n" for x, y, z in positions)
        edges = " ".join([f"{side * _SPACING:.6f}"] * 3 + ["90.0"] * 3)
        comment = f"# CELL(abcABC): {edges} positions{{angstrom}} cell{{angstrom}}"
        (folder / "init.xyz").write_text(f"{len(positions)}\n{comment}\n{rows}", encoding="utf-8")
        np.savez(folder / "init.npz", positions=positions, cell=cell)
        (folder / "mix.toml").write_text(_MIX, encoding="utf-8")
        whole, own, inside, carved = await _serve(folder, evaluations)
        floor = await _floor(folder, evaluations)
    return Overhead(
        atoms=len(positions),
        evaluations=evaluations,
        carved=carved,
        own_ms=statistics.median(own),
        inside_ms=statistics.median(inside),
        whole_ms=statistics.median(whole),
        floor_ms=floor,
    )


async def _serve(
    folder: Path, evaluations: int
) -> tuple[list[float], list[float], list[float], int]:
    case = load_case(folder)
    parts = build_for_local_workers(case, folder, str(folder))
    service = Service(parts)
    # as in a run: temperatures are measured, and reports are looked at
    parts.recorder.thermometer = RegionThermometer(np.full(len(parts.topology), 28.0), 1.0)
    async with (
        service.listening(),
        running_local_workers(case, parts, folder, logs_stay=False),
        watched(service),
    ):
        serving = asyncio.ensure_future(service.serve())
        try:
            # asked from another process, as i-PI would: here it would compete for the interpreter
            count = _WARM_UP + evaluations
            command = [sys.executable, "-m", "mixserver.analysis.bench.overhead"]
            command += [str(folder / "bench"), str(count), str(folder / "init.npz")]
            client = await run_program(command)
            if client.status != 0:
                raise UpstreamError(
                    f"the benchmark's own side of the socket failed: {client.errors[-600:]}"
                )
        finally:
            service.stop()
            await asyncio.gather(serving, return_exceptions=True)
    took = [1e3 * seconds for seconds in msgspec.json.decode(client.output, type=list[float])]
    reports = read_reports(folder)
    whole = took[_WARM_UP:]
    own = [t - r.ms_waiting for t, r in zip(took, reports, strict=True)][_WARM_UP:]
    inside = [r.ms_own for r in reports][_WARM_UP:]
    last = reports[-1]
    return whole, own, inside, last.core + last.blend + last.buffer + last.halo


def _request_forces(path: Path, evaluations: int, structure: Path) -> list[float]:
    """i-PI's side of one connection, reduced to asking for forces; seconds per evaluation."""
    with np.load(structure) as arrays:
        positions, cell = arrays["positions"], arrays["cell"]
    rng = np.random.default_rng(1)
    took = []
    with Upstream(path, lambda: None, limit_s=_CONTACT_S) as upstream:
        upstream.wait_for_clients()
        for _ in range(evaluations):
            moved = positions + rng.normal(scale=0.01, size=positions.shape)
            took.append(upstream.ask(moved, cell))
            time.sleep(_PAUSE_S)
    return took


async def _floor(folder: Path, steps: int) -> float:
    """Median-like ms per step of real i-PI on an instant driver: from its second half."""
    xml = folder / "floor.xml"
    xml.write_text(_XML.format(steps=_WARM_UP + steps), encoding="utf-8")
    times: list[float] = []
    zeros: dict[int, Vectors] = {}

    async def answer(request: Request) -> Reply:
        times.append(time.perf_counter())
        n = len(request.positions)
        forces = zeros.setdefault(n, np.zeros((n, 3)))
        return Reply(0.0, forces, np.zeros((3, 3)))

    await run_ipi("i-PI", xml, "floor", answer)
    gaps = np.diff(times)[_WARM_UP:]
    return 1e3 * float(np.median(gaps)) if len(gaps) else float("nan")


if __name__ == "__main__":
    figures = _request_forces(Path(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]))
    sys.stdout.write(msgspec.json.encode(figures).decode())
