"""NVT trajectories of i-PI: plans, input files, and reading of the output.

An interrupted trajectory has several parts, each in its own folder, joined by step numbers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from ase.data import chemical_symbols
from ase.geometry import cell_to_cellpar, cellpar_to_cell

from mixserver.core.arrays import Vectors
from mixserver.core.errors import ConfigError
from mixserver.core.frame import Frame
from mixserver.distill.config.schema import Soft
from mixserver.ipi import output
from mixserver.ipi.input import read_step
from mixserver.ipi.output import Column, read_columns

PREFIX: Final = "nvt"
INPUT: Final = "input.xml"
START: Final = "init.xyz"
SOCKET: Final = "forces"
_PROPERTIES: Final = "out"
_POSITIONS: Final = "pos"
_CHECKPOINT: Final = "chk"


@dataclass(frozen=True, slots=True)
class TrajectoryPlan:
    """Length and output of a trajectory; counts are in steps."""

    temperature: float
    """K."""
    copy: int
    """Number among the trajectories at this temperature."""
    seed: int
    """Of i-PI's random numbers."""
    timestep_fs: float
    friction_fs: float
    every: int
    """Between snapshots."""
    skipped: int
    """Before the first snapshot's interval begins; a multiple of `every`."""
    snapshots: int

    @property
    def name(self) -> str:
        """Unique in a distillation; names its folder."""
        return f"{self.temperature:g}K-{self.copy}"

    @property
    def steps(self) -> int:
        """Total number of steps."""
        return self.skipped + self.snapshots * self.every

    @property
    def wanted(self) -> list[int]:
        """The steps of the snapshots."""
        return [self.skipped + (n + 1) * self.every for n in range(self.snapshots)]

    def time_ps(self, step: int) -> float:
        """The time of a step since the start."""
        return 1e-3 * self.timestep_fs * step


def plan_trajectories(soft: Soft) -> list[TrajectoryPlan]:
    """The trajectories for the soft set of a recipe."""
    every = max(1, round(1e3 * soft.every_ps / soft.timestep_fs))
    skipped = every * int(np.ceil(1e3 * soft.equilibration_ps / (soft.timestep_fs * every) - 1e-9))
    shares = [len(part) for part in np.array_split(range(soft.snapshots), soft.copies)]
    return [
        plan_trajectory(soft, temperature, copy, every=every, skipped=skipped, snapshots=share)
        for temperature in soft.temperatures
        for copy, share in enumerate(shares)
    ]


def plan_trajectory(
    soft: Soft,
    temperature: float,
    copy: int,
    *,
    first: int = 0,
    every: int,
    skipped: int,
    snapshots: int,
) -> TrajectoryPlan:
    """One copy of a trajectory at a temperature (K); `first` begins the numbering of its seeds."""
    key = [soft.seed, round(1e3 * temperature), first + copy]
    seed = int(np.random.SeedSequence(key).generate_state(1)[0] >> 1)
    return TrajectoryPlan(
        temperature, copy, seed, soft.timestep_fs, soft.friction_fs, every, skipped, snapshots
    )


def oriented_for_ipi(frame: Frame) -> Frame:
    """The same crystal with the cell as i-PI requires it: a along x, b in the xy plane."""
    cell = np.asarray(cellpar_to_cell(cell_to_cellpar(frame.cell)), dtype=np.float64)
    return frame.topology.frame(frame.fractional @ cell, cell)


def write_input(plan: TrajectoryPlan, start: Frame, folder: Path) -> Path:
    """Write i-PI's input and the structure (oriented) that it starts from."""
    symbols = [chemical_symbols[number] for number in start.topology.numbers]
    box = " ".join(f"{value:.12f}" for value in start.cell.T.ravel())
    rows = [
        f"{symbol} {x:.12f} {y:.12f} {z:.12f}"
        for symbol, (x, y, z) in zip(symbols, start.positions.tolist(), strict=True)
    ]
    head = f"{len(start)}\n# CELL(H): {box} positions{{angstrom}} cell{{angstrom}}\n"
    (folder / START).write_text(head + "\n".join(rows) + "\n", encoding="utf-8")
    # twice the temperature: the atoms start on their sites, so half of it becomes potential energy
    text = f"""\
<simulation verbosity='low'>
  <output prefix='{PREFIX}'>
    <properties stride='1' filename='{_PROPERTIES}'> [ step, time{{picosecond}}, temperature{{kelvin}}, potential{{electronvolt}}, conserved{{electronvolt}} ] </properties>
    <trajectory filename='{_POSITIONS}' stride='{plan.every}' cell_units='angstrom'> positions{{angstrom}} </trajectory>
    <checkpoint stride='{plan.every}' filename='{_CHECKPOINT}' overwrite='true'/>
  </output>
  <total_steps> {plan.steps} </total_steps>
  <prng> <seed> {plan.seed} </seed> </prng>
  <ffsocket name='expensive' mode='unix' pbc='false'>
    <address> {SOCKET} </address>
  </ffsocket>
  <system>
    <initialize nbeads='1'>
      <file mode='xyz'> {START} </file>
      <velocities mode='thermal' units='kelvin'> {2 * plan.temperature!r} </velocities>
    </initialize>
    <forces> <force forcefield='expensive'/> </forces>
    <ensemble> <temperature units='kelvin'> {plan.temperature!r} </temperature> </ensemble>
    <motion mode='dynamics'>
      <dynamics mode='nvt' splitting='baoab'>
        <timestep units='femtosecond'> {plan.timestep_fs!r} </timestep>
        <thermostat mode='langevin'> <tau units='femtosecond'> {plan.friction_fs!r} </tau> </thermostat>
      </dynamics>
    </motion>
  </system>
</simulation>
"""  # noqa: E501 - i-PI's lines
    file = folder / INPUT
    file.write_text(text, encoding="utf-8")
    return file


def latest(parts: Sequence[Path]) -> tuple[int, Path] | None:
    """The latest checkpoint of i-PI as (steps, file); None if there is none.

    Damaged files are skipped; each part has two.
    """
    found = []
    for part in parts:
        for file in (part / "RESTART", part / f"{PREFIX}.{_CHECKPOINT}"):
            try:
                found.append((read_step(file), file))
            except ConfigError:
                continue
    return max(found, default=None)


def read_positions(parts: Sequence[Path], sites: Frame) -> dict[int, Vectors]:
    """Positions (N, 3) Å by step, of all parts of a trajectory in order; later parts count.

    They are unwrapped, as i-PI prints them (6 digits).

    Raises:
        ConfigError: a file is not in the format of i-PI.
    """
    found: dict[int, Vectors] = {}
    for part in parts:
        for file in sorted(part.glob(f"{PREFIX}.{_POSITIONS}_*.xyz")):
            found.update(output.read_positions(file, len(sites)))
    return found


def read_temperatures(parts: Sequence[Path]) -> dict[int, float]:
    """Instantaneous temperature (K) by step, of all parts of a trajectory; later parts count."""
    columns = {"step": Column(0), "temperature": Column(2)}  # a continued run writes no header
    found: dict[int, float] = {}
    for part in parts:
        file = part / f"{PREFIX}.{_PROPERTIES}"
        if file.exists():
            table = read_columns(file, columns)
            steps, kelvin = table["step"].tolist(), table["temperature"].tolist()
            found.update(zip(map(round, steps), kelvin, strict=True))
    return found
