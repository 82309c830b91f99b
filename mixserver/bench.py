"""What mixserver itself costs: real sockets, real worker processes that answer at once.

Two measurements per size, in one run so that their ratio means something on a noisy machine:

* mixserver: this module asks as i-PI would, over a unix socket; the server carves a region, asks
  two toy workers that answer with zeros, mixes and replies. Its own time is what passed here minus
  what the server waited for its workers.
* i-PI's floor: real i-PI, NVE without outputs, on a driver that answers with zeros at once.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import msgspec
import numpy as np

from mixserver.arrays import Matrix, Vectors
from mixserver.children import beside
from mixserver.config import load_case
from mixserver.errors import UpstreamError
from mixserver.launch import build_local, local_workers
from mixserver.private import private_folder
from mixserver.record.plots import read_reports
from mixserver.service import Service
from mixserver.upstream import Upstream
from mixserver.wire.ipi import Reply, Request, Say
from mixserver.wire.ipi_server import Client, Forces, Free

_WARM_UP = 5
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
<simulation verbosity='quiet' safe_stride='1000000' sockets_prefix='{prefix}'>
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


class Figures(msgspec.Struct, frozen=True, kw_only=True):
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


async def measure(atoms: int, evaluations: int) -> Figures:
    """Measure one system size.

    Args:
        atoms: about how many; the next cube is taken.
        evaluations: how many are counted.

    Raises:
        MixserverError: something did not start.
    """
    side = max(2, round(atoms ** (1.0 / 3.0)))
    with private_folder() as name:
        folder = Path(name)
        positions, cell = _crystal(side)
        _write_xyz(folder / "init.xyz", positions, cell)
        np.savez(folder / "init.npz", positions=positions, cell=cell)
        (folder / "mix.toml").write_text(_MIX, encoding="utf-8")
        whole, own, inside, carved = await _serve(folder, evaluations)
        floor = await _floor(folder, evaluations)
    return Figures(
        atoms=len(positions),
        evaluations=evaluations,
        carved=carved,
        own_ms=statistics.median(own),
        inside_ms=statistics.median(inside),
        whole_ms=statistics.median(whole),
        floor_ms=floor,
    )


def as_text(figures: Sequence[Figures]) -> str:
    """A table for people."""
    lines = [
        "medians, ms per evaluation",
        f"{'atoms':>8} {'carved':>8} {'own':>8} {'inside':>8} {'whole':>8} {'i-PI alone':>11}",
    ]
    lines += [
        f"{f.atoms:8d} {f.carved:8d} {f.own_ms:8.2f} {f.inside_ms:8.2f} {f.whole_ms:8.2f} "
        f"{f.floor_ms:11.2f}"
        for f in figures
    ]
    lines.append(
        "own: all but the wait for workers; inside: carve, mix, report; whole: seen by i-PI"
    )
    return "\n".join(lines)


def to_json(figures: Sequence[Figures]) -> str:
    """The same for machines."""
    return msgspec.json.encode(figures).decode()


async def _serve(
    folder: Path, evaluations: int
) -> tuple[list[float], list[float], list[float], int]:
    case = load_case(folder)
    parts = build_local(case, folder, str(folder))
    service = Service(parts)
    async with service.doors(), local_workers(case, parts, folder, logs_stay=False):
        serving = asyncio.ensure_future(service.serve())
        try:
            # asked from another process, as i-PI would: here it would compete for the interpreter
            count = _WARM_UP + evaluations
            command = [sys.executable, "-m", "mixserver.bench", str(folder / "bench"), str(count)]
            child = await asyncio.create_subprocess_exec(
                *command, str(folder / "init.npz"), stdout=subprocess.PIPE
            )
            printed, _ = await child.communicate()
            if child.returncode != 0:
                raise UpstreamError("the benchmark's own side of the socket failed")
        finally:
            service.stop()
            await asyncio.gather(serving, return_exceptions=True)
    took = [1e3 * seconds for seconds in msgspec.json.decode(printed, type=list[float])]
    reports = read_reports(folder)
    whole = took[_WARM_UP:]
    own = [t - r.ms_waiting for t, r in zip(took, reports, strict=True)][_WARM_UP:]
    inside = [r.ms_own for r in reports][_WARM_UP:]
    last = reports[-1]
    return whole, own, inside, last.core + last.blend + last.buffer + last.halo


def _ask(path: Path, evaluations: int, structure: Path) -> list[float]:
    """i-PI's side of one connection, reduced to asking for forces; seconds per evaluation."""
    with np.load(structure) as arrays:
        positions, cell = arrays["positions"], arrays["cell"]
    rng = np.random.default_rng(1)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen(1)
        listener.settimeout(60.0)
        asking = _Asking(listener)
    took = []
    for _ in range(evaluations):
        took.append(asking.ask(positions + rng.normal(scale=0.01, size=positions.shape), cell))
        time.sleep(_PAUSE_S)
    asking.close()
    return took


class _Asking:
    """One connection, answered by a server."""

    def __init__(self, listener: socket.socket) -> None:
        self._socket, _ = listener.accept()
        self._socket.settimeout(60.0)
        self._client = Client()
        self._socket.sendall(self._client.greeting())
        self._until(Free)

    def ask(self, positions: Vectors, cell: Matrix) -> float:
        """Ask for the forces of one frame; the seconds from sending to the whole answer."""
        question = self._client.ask(positions, cell)
        started = time.perf_counter()
        self._socket.sendall(question)
        took = self._until(Forces) - started
        self._until(Free)
        return took

    def close(self) -> None:
        """Say EXIT."""
        self._socket.sendall(b"EXIT".ljust(12))
        self._socket.close()

    def _until(self, kind: type) -> float:
        while True:
            n = self._socket.recv_into(self._client.want())
            if n == 0:
                raise UpstreamError("the server hung up during the benchmark")
            seen = time.perf_counter()
            events = self._client.filled(n)
            for event in events:
                if isinstance(event, Say):
                    self._socket.sendall(event.data)
            if any(isinstance(event, kind) for event in events):
                return seen


async def _floor(folder: Path, steps: int) -> float:
    """Median-like ms per step of real i-PI on an instant driver: from its second half."""
    prefix = f"{folder}/floor_"
    xml = folder / "floor.xml"
    xml.write_text(_XML.format(steps=_WARM_UP + steps, prefix=prefix), encoding="utf-8")
    times: list[float] = []
    zeros: dict[int, Vectors] = {}

    async def answer(request: Request) -> Reply:
        times.append(time.perf_counter())
        n = len(request.positions)
        forces = zeros.setdefault(n, np.zeros((n, 3)))
        return Reply(0.0, forces, np.zeros((3, 3)))

    child = await asyncio.create_subprocess_exec(
        beside("i-pi"),
        xml.name,
        cwd=folder,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    upstream = Upstream(
        "unix:floor", answer, sockets_prefix=prefix, force_timeout_s=60.0, first_contact_s=60.0
    )
    try:
        await upstream.run()
    finally:
        with contextlib.suppress(ProcessLookupError):
            child.terminate()
        await child.wait()
    gaps = np.diff(times)[_WARM_UP:]
    return 1e3 * float(np.median(gaps)) if len(gaps) else float("nan")


def _crystal(side: int) -> tuple[Vectors, Matrix]:
    grid = np.arange(side, dtype=np.float64) * _SPACING
    points = np.stack(np.meshgrid(grid, grid, grid, indexing="ij"), axis=-1).reshape(-1, 3)
    return points + 0.5 * _SPACING, np.eye(3) * side * _SPACING


def _write_xyz(file: Path, positions: Vectors, cell: Matrix) -> None:
    lengths = " ".join(f"{x:.6f}" for x in np.diag(cell))
    rows = "\n".join(f"Ar {x:.6f} {y:.6f} {z:.6f}" for x, y, z in positions)
    comment = f"# CELL(abcABC): {lengths} 90.0 90.0 90.0 positions{{angstrom}} cell{{angstrom}}"
    file.write_text(f"{len(positions)}\n{comment}\n{rows}\n", encoding="utf-8")


if __name__ == "__main__":
    figures = _ask(Path(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]))
    sys.stdout.write(msgspec.json.encode(figures).decode())
