"""Structures for the distilled potential of tungsten: screw dislocations, sheared and shaken.

    python structures.py LATTICE

writes given.xyz for distill.toml; the distillation asks the MACE for all labels.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from ase.io import write
from dipole import dipole

HERE = Path(__file__).resolve().parent
REPEATS = (1, 4, 6)
"""Of the cell of six atoms, along the line, y and z."""


def main() -> None:
    """Make them."""
    parser = argparse.ArgumentParser(description="screw dislocations to distil from")
    parser.add_argument("lattice", type=float, help="lattice constant, Å")
    lattice = parser.parse_args().lattice
    rng = np.random.default_rng(20261129)
    made = []
    for number in range(16):
        atoms = dipole("W", lattice, REPEATS, hard=number % 4 == 3).atoms
        cell = np.array(atoms.cell)
        strain = rng.uniform(-0.02, 0.02, 2)
        atoms.positions[:, 0] += atoms.positions[:, 1:] @ strain
        cell[:, 0] += cell[:, 1:] @ strain
        atoms.set_cell(cell)
        atoms.positions += rng.normal(0.0, 0.03 + 0.09 * (number % 2), atoms.positions.shape)
        made.append(atoms)
    write(HERE / "given.xyz", made, format="extxyz")


if __name__ == "__main__":
    main()
