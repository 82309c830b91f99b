"""Lattice constant, elastic constants and point defects: a MACE beside other potentials.

    python properties.py ELEMENT MACE [LAMMPS_COMMANDS]...

Defects are relaxed at fixed volume in 128 sites; 110 and so on are self-interstitials.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.build import bulk
from ase.optimize import FIRE
from labels import Reference, defective
from mace.calculators import MACECalculator
from scipy.optimize import brentq

GPA = 160.21766
"""In 1 eV/Å³."""
STRAIN = 0.003
START = {"Fe": 2.86, "W": 3.18}
"""Lattice constants to search around, Å."""


def stress(element: str, lattice: float, calculator: Any, strain: Any = 0.0) -> Any:
    """Of the strained crystal, six components, GPa."""
    atoms = bulk(element, "bcc", a=lattice, cubic=True)
    atoms.set_cell(atoms.cell @ (np.eye(3) + strain), scale_atoms=True)
    atoms.calc = calculator
    return atoms.get_stress() * GPA


def elastic(element: str, lattice: float, calculator: Any) -> tuple[float, float, float]:
    """C11, C12 and C44 in GPa, from stresses under small strains."""
    stretch, shear = np.zeros((3, 3)), np.zeros((3, 3))
    stretch[0, 0] = STRAIN
    shear[1, 2] = shear[2, 1] = STRAIN / 2.0
    pulled, pushed = (stress(element, lattice, calculator, sign * stretch) for sign in (1, -1))
    sheared, back = (stress(element, lattice, calculator, sign * shear) for sign in (1, -1))
    normal = (pulled - pushed) / (2.0 * STRAIN)
    return normal[0], (normal[1] + normal[2]) / 2.0, (sheared[3] - back[3]) / (2.0 * STRAIN)


def formation(
    element: str, lattice: float, calculator: Any, defect: str, start: Any
) -> tuple[float, Any]:
    """Energy of a relaxed defect against the crystal, eV, and its places in units of the cell.

    It begins at `start`, or if that is None, as `labels.defective` makes it: an interstitial then
    is nearer to other atoms than any configuration that a MACE has seen.
    """
    crystal = bulk(element, "bcc", a=lattice, cubic=True)
    crystal.calc = calculator
    each = crystal.get_potential_energy() / len(crystal)
    atoms: Atoms = defective(4, defect, lattice, np.random.default_rng(1))
    atoms.symbols[:] = element
    if start is not None:
        atoms.set_scaled_positions(start)
    else:
        atoms.rattle(0.01, seed=1)
    atoms.calc = calculator
    FIRE(atoms, logfile=None, maxstep=0.1).run(fmax=0.02, steps=300)
    energy = float(atoms.get_potential_energy() - len(atoms) * each)
    return energy, atoms.get_scaled_positions()


def tell(line: str) -> None:
    """Print a line at once."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def main() -> None:
    """Print one line for each property."""
    parser = argparse.ArgumentParser(description="properties of potentials for a bcc metal")
    parser.add_argument("element", choices=sorted(START))
    parser.add_argument("model", type=Path)
    parser.add_argument("others", type=Path, nargs="*")
    parser.add_argument("--defects", nargs="*", default=["vacancy", "110", "111", "100"])
    given = parser.parse_args()
    potentials = {
        **{file.name: Reference(file) for file in given.others},
        "MACE": MACECalculator(str(given.model), device="cpu", default_dtype="float64"),
    }
    places: dict[str, Any] = {}
    for name, calculator in potentials.items():
        around = START[given.element]
        lattice = brentq(
            lambda a, with_=calculator: stress(given.element, a, with_)[0],
            0.97 * around,
            1.03 * around,
            xtol=1e-6,
        )
        constants = elastic(given.element, lattice, calculator)
        said = " ".join(f"{value:.0f}" for value in constants)
        tell(f"{name}: a = {lattice:.4f} A, C11 C12 C44 = {said} GPa")
        for defect in given.defects:
            start = places.get(defect)
            energy, found = formation(given.element, lattice, calculator, defect, start)
            places.setdefault(defect, found)
            tell(f"  {defect}: {energy:.3f} eV")


if __name__ == "__main__":
    main()
