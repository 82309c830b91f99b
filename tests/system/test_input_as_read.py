"""One perfect crystal, written in ways that two programs may read differently: real runs agree."""

from __future__ import annotations

import itertools
import subprocess
import sys
from pathlib import Path

import ase
import numpy as np
import pytest
from ase.build import bulk
from ase.io import write
from limits import HANG_S

BIN = Path(sys.executable).parent
BOHR = 1.0 / 1.8897261
INPUT = """<simulation verbosity='low'>
  <output prefix='simulation'>
    <properties stride='1' filename='out'> [ step, potential{{electronvolt}} ] </properties>
    <trajectory filename='for' stride='1' format='xyz'> forces{{ev/ang}} </trajectory>
  </output>
  <total_steps> 1 </total_steps>
  <ffsocket name='mix' mode='unix'> <address> as_read </address> </ffsocket>
  <system>
    <initialize nbeads='1'> {initialize} </initialize>
    <forces> <force forcefield='mix'/> </forces>
    <motion mode='dynamics'>
      <dynamics mode='nve'> <timestep units='femtosecond'> 1.0 </timestep> </dynamics>
    </motion>
  </system>
</simulation>
"""
MIX = """[upstream]
address = "unix:as_read"
structure = "{structure}"
[region]
core_radius = 3.0
blend_width = 3.0
seeds = {{ kind = "atoms", indices = [0] }}
[models.cheap]
[models.expensive]
[[local]]
role = "cheap"
command = ["toy", "--epsilon", "0.0104", "--sigma", "3.4", "--cutoff", "7.0"]
[[local]]
role = "expensive"
command = ["toy", "--epsilon", "0.0120", "--sigma", "3.4", "--cutoff", "7.0"]
"""


def argon() -> ase.Atoms:
    return bulk("Ar", "fcc", a=5.3, cubic=True).repeat(3)


def xyz(scale: float, comment: str) -> str:
    atoms = argon()
    edges = " ".join(f"{scale * x:.9f}" for x in atoms.cell.lengths())
    rows = (f"Ar {x:.9f} {y:.9f} {z:.9f}" for x, y, z in scale * atoms.positions)
    head = f"# CELL(abcABC): {edges} 90 90 90 {comment}"
    return "\n".join([str(len(atoms)), head, *rows]) + "\n"


def pdb_in_bohr() -> str:
    """An edge that has three digits in bohr, as PDB writes them."""
    edge = 30.048
    rows = [
        f"ATOM  {n + 1:5d}   Ar   1     1    {x:8.3f}{y:8.3f}{z:8.3f}  0.00  0.00          Ar 0"
        for n, (x, y, z) in enumerate(argon().get_scaled_positions() * edge)
    ]
    head = ["TITLE     cell{atomic_unit} positions{atomic_unit}"]
    head.append(f"CRYST1{3 * f'{edge:9.3f}'}  90.00  90.00  90.00 P 1           1")
    return "\n".join([*head, *rows, "END"]) + "\n"


def turned() -> ase.Atoms:
    """The same crystal with its cell anywhere in space."""
    atoms = argon()
    atoms.rotate(37.0, (1.0, 2.0, 3.0), rotate_cell=True)
    return atoms


WAYS = {
    "units in the XML": (
        "init.xyz",
        "<file mode='xyz' units='angstrom' cell_units='angstrom'> init.xyz </file>",
        lambda: xyz(1.0, ""),
    ),
    "a PDB in bohr": ("init.pdb", "<file mode='pdb'> init.pdb </file>", pdb_in_bohr),
    "axes that i-PI turns": ("init.extxyz", "<file mode='ase'> init.extxyz </file>", turned),
}


@pytest.mark.parametrize("way", WAYS)
def test_a_perfect_crystal_has_no_forces_however_it_was_written(tmp_path: Path, way: str) -> None:
    structure, initialize, made = WAYS[way]
    content = made()
    if isinstance(content, str):
        (tmp_path / structure).write_text(content)
    else:
        write(tmp_path / structure, content)
    (tmp_path / "input.xml").write_text(INPUT.format(initialize=initialize))
    (tmp_path / "mix.toml").write_text(MIX.format(structure=structure))
    done = subprocess.run(
        [BIN / "mixserver", "run", tmp_path, "--quiet"],
        capture_output=True,
        text=True,
        timeout=HANG_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    run = tmp_path / "runs/0001"
    lines = [row.split() for row in (run / "simulation.out").read_text().splitlines()]
    potential = next(float(row[1]) for row in lines if not row[0].startswith("#"))
    assert abs(potential + 5.8790) < 2e-4  # as the same crystal in Å, along x, y and z
    rows = (run / "simulation.for_0.xyz").read_text().splitlines()
    forces = [[float(x) for x in row.split()[1:4]] for row in itertools.islice(rows, 2, 110)]
    assert np.abs(forces).max() < 1e-6
