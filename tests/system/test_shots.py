"""Shots of an argon atom at a slab of argon: real i-PI, server and workers."""

from __future__ import annotations

import asyncio
from pathlib import Path

import numpy as np
import pytest
from ase.build import fcc100

from mixserver.config import load_case
from mixserver.core.errors import MixserverError
from mixserver.core.frame import Frame
from mixserver.core.structures import as_frame
from mixserver.ipi.projectile import ENDED, Ended, Projectile
from mixserver.studies.shots import Shot, run_shots, speed_of, write_xyz
from mixserver.studies.study import Task, TaskContext

MIX = """
[upstream]
address = "unix:argon"
structure = "init.xyz"
periodic = [true, true, false]
mismatch = "warn"
[region]
core_radius = 4.0
blend_width = 3.0
follow = true
seeds = { kind = "atoms", indices = [96] }
[mixing]
kind = "energy"
[models.cheap]
[models.expensive]
[[local]]
role = "cheap"
command = ["toy", "--epsilon", "0.0104", "--sigma", "3.4", "--cutoff", "7.0"]
[[local]]
role = "expensive"
command = ["toy", "--epsilon", "0.0120", "--sigma", "3.4", "--cutoff", "7.0"]
"""
INPUT = """
<simulation verbosity='quiet' safe_stride='1000'>
  <output prefix='simulation'/>
  <total_steps> STEPS </total_steps>
  <ffsocket name='mixserver' mode='unix' pbc='false'> <address> argon </address> </ffsocket>
  <system>
    <initialize nbeads='1'>
      <file mode='xyz'> init.xyz </file>
      <velocities mode='xyz' units='atomic_unit'> velocities.xyz </velocities>
    </initialize>
    <forces> <force forcefield='mixserver'/> </forces>
    <motion mode='dynamics'>
      <fixcom> False </fixcom>
      <dynamics mode='MODE'>
        <timestep units='femtosecond'> 1.0 </timestep>
        <thermostat mode='langevin'> <tau units='femtosecond'> 100 </tau> </thermostat>
      </dynamics>
    </motion>
    <ensemble> <temperature units='kelvin'> 10 </temperature> </ensemble>
  </system>
</simulation>
"""


def argon() -> Frame:
    """96 atoms in four layers, and one over them."""
    slab = fcc100("Ar", (4, 6, 4), a=5.26, orthogonal=True)
    slab.pbc = (True, True, False)
    box = np.array(slab.cell[:])
    box[2, 2] = 60.0
    slab.set_cell(box)
    slab.positions[:, 2] += 20.0 - slab.positions[:, 2].min()
    top = slab.positions[:, 2].max()
    slab.append("Ar")
    slab.positions[-1] = [*slab.positions[:-1, :2].mean(axis=0), top + 6.0]
    return as_frame(slab)


def fire(
    folder: Path, energies: list[float], *, farthest: float, mode: str = "nve", steps: int = 3000
) -> list[Ended]:
    """Shots at a cold slab, straight down, with some energies in eV."""
    start = argon()
    folder.mkdir(exist_ok=True)
    write_xyz(folder / "init.xyz", start, start.positions, "positions{angstrom}")
    rest = np.zeros_like(start.positions)
    write_xyz(folder / "velocities.xyz", start, rest, "velocities{atomic_unit}")
    (folder / "mix.toml").write_text(MIX)
    (folder / "input.xml").write_text(INPUT.replace("MODE", mode).replace("STEPS", str(steps)))
    case = load_case(folder)
    z = start.positions[:-1, 2]
    settings = Projectile(
        96,
        top=float(z.max()),
        bottom=float(z.min()),
        longest_fs=10.0,
        farthest=farthest,
        limit_fs=2000.0,
    )
    shots = []
    for number, energy in enumerate(energies):
        velocities = np.zeros_like(start.positions)
        velocities[-1, 2] = -speed_of(energy, 39.948)
        shots.append(Shot(f"shot-{number}", start, velocities, settings))
    context = TaskContext(Task("argon", {}), folder, case, ())
    return asyncio.run(run_shots(context, case, shots, socket="argon", at_once=2))


def test_shots_conserve_energy_end_by_the_rules_and_are_made_once(tmp_path: Path) -> None:
    energies = [0.3, 3.0]
    ended = fire(tmp_path, energies, farthest=0.05)
    for energy, one in zip(energies, ended, strict=True):
        assert one.end in {"reflected", "stopped", "undecided"}
        assert one.largest < 0.02 * energy
        assert one.mismatch < 0.02 * energy
        assert one.shortest_fs <= 0.05 / speed_of(energy, 39.948) * (1.0 + 1e-6)
    assert ended[1].lowest < ended[0].lowest

    # killed before the second had ended: it is made again, to the bit; the first is not
    (tmp_path / "shot-1" / ENDED).unlink()
    kept = (tmp_path / "shot-0" / ENDED).stat().st_mtime_ns
    assert fire(tmp_path, energies, farthest=0.05) == ended
    assert (tmp_path / "shot-0" / ENDED).stat().st_mtime_ns == kept


def test_a_shot_that_never_ends_is_counted_as_such(tmp_path: Path) -> None:
    (ended,) = fire(tmp_path, [0.3], farthest=0.05, steps=5)
    assert ended.end == "undecided"


def test_a_shot_with_a_thermostat_is_refused(tmp_path: Path) -> None:
    with pytest.raises(MixserverError, match=r"a shot needs one <system>.*mode='nve'"):
        fire(tmp_path, [0.3], farthest=0.05, mode="nvt")
