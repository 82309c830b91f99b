"""What i-PI is told for a trajectory at constant temperature, and what it printed.

Writes and reads files; runs nothing. A trajectory that was interrupted lies in several parts, each
in a folder of its own, and is put together by step numbers.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from ase.data import chemical_symbols
from ase.geometry import cell_to_cellpar, cellpar_to_cell

from mixserver.arrays import Vectors
from mixserver.distill.recipe import Soft
from mixserver.errors import ConfigError
from mixserver.frame import Frame
from mixserver.ipi_input import read_input

PREFIX: Final = "nvt"
INPUT: Final = "input.xml"
START: Final = "init.xyz"
SOCKET: Final = "forces"
_PROPERTIES: Final = "out"
_POSITIONS: Final = "pos"
_CHECKPOINT: Final = "chk"
_STEP: Final = re.compile(r"Step:\s*(\d+)")
_BOX: Final = re.compile(r"positions\{angstrom\}")


@dataclass(frozen=True, slots=True)
class Plan:
    """How long a trajectory is and what is printed of it; all in steps."""

    temperature: float
    """K."""
    copy: int
    """Counts the trajectories of one temperature."""
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
        """All of them."""
        return self.skipped + self.snapshots * self.every

    @property
    def wanted(self) -> list[int]:
        """The steps of the snapshots."""
        return [self.skipped + (n + 1) * self.every for n in range(self.snapshots)]

    def time_ps(self, step: int) -> float:
        """Of a step, since the start."""
        return 1e-3 * self.timestep_fs * step


def plans(soft: Soft) -> list[Plan]:
    """The trajectories that a recipe's soft set is taken from."""
    every = max(1, round(1e3 * soft.every_ps / soft.timestep_fs))
    skipped = every * int(np.ceil(1e3 * soft.equilibration_ps / (soft.timestep_fs * every) - 1e-9))
    found = []
    for temperature in soft.temperatures:
        for copy in range(soft.copies):
            key = [soft.seed, round(1e3 * temperature), copy]
            found.append(
                Plan(
                    temperature=temperature,
                    copy=copy,
                    seed=int(np.random.SeedSequence(key).generate_state(1)[0] >> 1),
                    timestep_fs=soft.timestep_fs,
                    friction_fs=soft.friction_fs,
                    every=every,
                    skipped=skipped,
                    # the first copies take what cannot be shared out
                    snapshots=soft.snapshots // soft.copies + (copy < soft.snapshots % soft.copies),
                )
            )
    return found


def oriented(frame: Frame) -> Frame:
    """The same crystal as i-PI wants its cell: a along x, b in the xy plane."""
    cell = np.asarray(cellpar_to_cell(cell_to_cellpar(frame.cell)), dtype=np.float64)
    return frame.topology.frame(frame.fractional @ cell, cell)


def write_input(plan: Plan, start: Frame, folder: Path) -> Path:
    """Write i-PI's input and the structure it starts from.

    Args:
        plan: the trajectory.
        start: the perfect crystal, oriented.
        folder: gets the files.

    Returns:
        The input.
    """
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
    """The furthest state that i-PI left, as (steps made, file); None if there is none.

    A file that was cut short by a kill is passed over: each part has two.
    """
    found = []
    for part in parts:
        for file in (part / "RESTART", part / f"{PREFIX}.{_CHECKPOINT}"):
            try:
                found.append((read_input(file).step, file))
            except ConfigError:
                continue
    return max(found, default=None)


def read_positions(parts: Sequence[Path], sites: Frame) -> dict[int, Vectors]:
    """Positions by step, of all parts of a trajectory; later parts count.

    Args:
        parts: folders, in the order in which they were made.
        sites: where it started.

    Returns:
        Step -> (N, 3) Å, unwrapped, as i-PI prints them (6 digits).

    Raises:
        ConfigError: a file is not what i-PI writes.
    """
    found: dict[int, Vectors] = {}
    for part in parts:
        for file in sorted(part.glob(f"{PREFIX}.{_POSITIONS}_*.xyz")):
            found.update(_frames(file, len(sites)))
    return found


def read_temperatures(parts: Sequence[Path]) -> dict[int, float]:
    """Instantaneous temperature (K) by step, of all parts of a trajectory; later parts count."""
    found: dict[int, float] = {}
    for part in parts:
        file = part / f"{PREFIX}.{_PROPERTIES}"
        if not file.exists():
            continue
        text = file.read_text(encoding="utf-8")
        for line in text[: text.rfind("\n") + 1].splitlines():
            fields = line.split()
            if line.startswith("#") or len(fields) < 3:
                continue
            found[round(float(fields[0]))] = float(fields[2])
    return found


def _frames(file: Path, atoms: int) -> Iterator[tuple[int, Vectors]]:
    """The complete frames of an xyz of i-PI's."""
    text = file.read_text(encoding="utf-8")
    lines = text[: text.rfind("\n") + 1].splitlines()
    for at in range(0, len(lines) - atoms - 1, atoms + 2):
        comment = lines[at + 1]
        step = _STEP.search(comment)
        try:
            if int(lines[at]) != atoms or step is None or not _BOX.search(comment):
                raise ValueError(f"{lines[at]!r}, {comment!r}")
            rows = [line.split()[1:4] for line in lines[at + 2 : at + 2 + atoms]]
            positions = np.array(rows, dtype=np.float64).reshape(atoms, 3)
        except ValueError as error:
            raise ConfigError(
                f"{file} is no trajectory of {atoms} atoms as i-PI writes it, near line {at + 1} "
                f"({error}); delete its folder, and it is made again"
            ) from error
        yield int(step[1]), positions
