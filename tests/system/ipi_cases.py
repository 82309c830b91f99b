"""A real i-PI on a small harmonic crystal, and that crystal's exact energy, forces and virial."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import subprocess
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from ipi_program import ipi_program

from mixserver.wire.ipi import Reply, Request

K = 2.0
"""eV/Å² of every atom's spring."""
CELL = np.array([[5.0, 0.0, 0.0], [1.1, 4.6, 0.0], [-0.7, 0.9, 5.3]])
"""Å, rows; as tilted as i-PI allows: a along x, b in the xy plane."""
STIFFNESS = 0.01
"""eV/Å⁴ of the cell's own springs."""
REST = 1.02 * CELL @ CELL.T
"""Å², scalar products of the lattice vectors at which those rest: the cell starts strained."""
SITES = np.array([[0.1, 0.1, 0.1], [0.6, 0.1, 0.2], [0.2, 0.6, 0.1], [0.7, 0.6, 0.7]])
"""Fractional equilibrium positions: they move with the cell, so the virial is not trivial."""


def start() -> np.ndarray:
    """(4, 3) Å: near the sites, unsymmetrical."""
    shift = 0.1 * np.sin(np.arange(12.0).reshape(4, 3) + 1.0)
    return SITES @ CELL + shift


def harmonic(request: Request) -> Reply:
    """Springs to sites fixed in fractional coordinates, and springs on the cell itself."""
    cell = request.cell
    away = request.positions - SITES @ cell
    strained = cell @ cell.T - REST
    energy = 0.5 * K * float((away**2).sum()) + 0.5 * STIFFNESS * float((strained**2).sum())
    # strain moves positions and sites alike: d away = away @ strain, d cell = cell @ strain
    virial = -K * away.T @ away - 2.0 * STIFFNESS * cell.T @ strained @ cell
    extras = json.dumps({"away": float(np.abs(away).max())})
    return Reply(energy, -K * away, virial, extras)


def unique(name: str) -> str:
    """A socket name nobody else uses."""
    return f"mix_{name}_{os.getpid()}_{uuid.uuid4().hex[:6]}"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass
class Ipi:
    """One i-PI input, and the process that runs it."""

    folder: Path
    mode: str = "unix"
    steps: int = 3
    beads: int = 1
    socket: str = ""
    """More elements of <ffsocket>."""
    ensemble: str = "nve"
    port: int = field(default_factory=free_port)
    name: str = field(default_factory=lambda: unique("ipi"))
    process: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> str:
        """What Upstream connects to."""
        return f"127.0.0.1:{self.port}" if self.mode == "inet" else f"unix:{self.name}"

    def write(self) -> None:
        a, b, c = CELL
        lengths = [np.linalg.norm(v) for v in CELL]
        angles = [
            np.degrees(np.arccos(u @ v / np.linalg.norm(u) / np.linalg.norm(v)))
            for u, v in ((b, c), (a, c), (a, b))
        ]
        box = " ".join(f"{x:.10f}" for x in (*lengths, *angles))
        rows = "\n".join("Si " + " ".join(f"{x:.12f}" for x in r) for r in start())
        (self.folder / "init.xyz").write_text(
            f"4\n# CELL(abcABC): {box} positions{{angstrom}} cell{{angstrom}}\n{rows}\n"
        )
        where = (
            f"<address>127.0.0.1</address><port>{self.port}</port>"
            if self.mode == "inet"
            else f"<address>{self.name}</address>"
        )
        more = (
            "<barostat mode='flexible'><tau units='femtosecond'>200</tau><thermostat "
            "mode='langevin'><tau units='femtosecond'>100</tau></thermostat></barostat>"
            if self.ensemble == "npt"
            else ""
        )
        pressure = "<pressure units='megapascal'>10</pressure>" if self.ensemble == "npt" else ""
        (self.folder / "input.xml").write_text(
            f"""<simulation verbosity='low'>
  <output prefix='simulation'>
    <properties stride='1' filename='out'>
      [step,potential{{electronvolt}},virial_md{{ev/ang3}},conserved{{electronvolt}},
       bead_potentials{{electronvolt}}]
    </properties>
    <trajectory filename='pos' stride='1' format='xyz'>positions{{angstrom}}</trajectory>
    <trajectory filename='for' stride='1' format='xyz'>forces{{ev/ang}}</trajectory>
    <checkpoint stride='1' filename='chk' overwrite='true'/>
  </output>
  <total_steps>{self.steps}</total_steps>
  <prng><seed>31415</seed></prng>
  <ffsocket name='drv' mode='{self.mode}' pbc='false'>{where}{self.socket}</ffsocket>
  <system>
    <initialize nbeads='{self.beads}'><file mode='xyz'>init.xyz</file>
      <velocities mode='thermal' units='kelvin'>300</velocities></initialize>
    <forces><force forcefield='drv'/></forces>
    <ensemble><temperature units='kelvin'>300</temperature>{pressure}</ensemble>
    <motion mode='dynamics'><dynamics mode='{self.ensemble}'>
      <timestep units='femtosecond'>0.5</timestep>
      <thermostat mode='langevin'><tau units='femtosecond'>100</tau></thermostat>{more}
    </dynamics></motion>
  </system>
</simulation>
"""
        )

    def launch(self, what: str = "input.xml") -> None:
        if what == "input.xml":
            self.write()
        self.launch_written(what)

    def launch_written(self, what: str = "input.xml") -> None:
        with (self.folder / "ipi.log").open("ab") as log:
            self.process = subprocess.Popen(
                [*ipi_program(), what],
                cwd=self.folder,
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**os.environ, "OMP_NUM_THREADS": "1"},
            )

    async def wait(self, seconds: float = 60.0) -> int:
        assert self.process is not None
        return await asyncio.to_thread(self.process.wait, seconds)

    def kill(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGKILL)
            self.process.wait()
        with contextlib.suppress(FileNotFoundError):
            os.unlink(f"/tmp/ipi_{self.name}")

    @property
    def log(self) -> str:
        return (self.folder / "ipi.log").read_text(errors="replace")

    def properties(self) -> np.ndarray:
        """(steps + 1, columns) as printed: step, potential, virial, conserved, beads."""
        return np.loadtxt(self.folder / "simulation.out", ndmin=2)

    def frames(self, kind: str, bead: int = 0) -> Iterator[np.ndarray]:
        """(4, 3) positions (Å) or forces (eV/Å), as printed."""
        text = (self.folder / f"simulation.{kind}_{bead}.xyz").read_text().splitlines()
        for at in range(0, len(text), 6):
            yield np.array([[float(x) for x in row.split()[1:]] for row in text[at + 2 : at + 6]])
