"""Makes the data of this case: `large_train.xyz`, `pt_train.xyz`, `surfaces.xyz`, `test.xyz`.

python prepare.py pt_co_111.xyz

The file is the DFT set of CO on Pt(111) that README.md names; it is not part of this repository. It
has minima only. Their surroundings come from CHGNet (`pip install chgnet`, the model is in the
package), as differences from the minimum that a structure was moved from:

    E = E_DFT(minimum) - (F_DFT - F_CHGNet)(minimum) . d + E_CHGNet(moved) - E_CHGNet(minimum)
    F = F_DFT(minimum) + F_CHGNet(moved) - F_CHGNet(minimum)

so minima and their order are DFT's, and curvatures are CHGNet's. The bulk and bare slabs of Pt are
CHGNet's alone, shifted by PT a Pt atom to the level of the DFT energies.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.build import bulk, fcc111
from ase.io import read, write
from chgnet.model.dynamics import CHGNetCalculator

HERE = Path(__file__).parent
PT, CO = 78, (6, 8)
LATTICE = 3.976
"""Å, of CHGNet."""
SHIFT = 0.0937
"""eV per Pt atom: DFT minus CHGNet, least squares over 13 structures of all kinds."""
CALCULATOR = CHGNetCalculator(use_device="cpu", on_isolated_atoms="ignore")
RANDOM = np.random.default_rng(14)


def chgnet(atoms: Atoms) -> tuple[float, np.ndarray, np.ndarray]:
    """Energy (eV), forces (eV/Å) and stress (eV/Å³)."""
    copy = Atoms(atoms.numbers, atoms.positions, cell=atoms.cell, pbc=True, calculator=CALCULATOR)
    return copy.get_potential_energy(), copy.get_forces(), copy.get_stress(voigt=False)


def minimum(atoms: Atoms) -> Atoms:
    """A structure of the DFT set."""
    made = Atoms(atoms.numbers, atoms.positions, cell=atoms.cell, pbc=True)
    made.info = {"REF_energy": float(atoms.info["REF_energy"]), "config_type": "minimum"}
    made.arrays["REF_forces"] = atoms.arrays["REF_forces"]
    return made


def moved(atoms: Atoms, size: float) -> Atoms:
    """A minimum with Pt atoms moved, and CO moved, tilted and stretched."""
    start = minimum(atoms)
    steps = RANDOM.normal(size=(len(start), 3)) * 0.08 * size
    carbon, oxygen = (np.flatnonzero(start.numbers == number) for number in CO)
    apart = start.get_all_distances(mic=True)[np.ix_(carbon, oxygen)]
    for row, first in enumerate(carbon):
        second = oxygen[apart[row].argmin()]
        bond = start.get_distance(first, second, mic=True, vector=True)
        bond /= np.linalg.norm(bond)
        tilt = RANDOM.normal(size=3) * 0.12 * size
        steps[first] = RANDOM.normal(size=3) * 0.11 * size
        steps[second] = steps[first] + tilt - bond * (tilt @ bond)
        steps[second] += bond * RANDOM.normal() * 0.03 * size
    e0, f0, _ = chgnet(start)
    made = start.copy()
    made.positions += steps
    e1, f1, _ = chgnet(made)
    forces = start.arrays["REF_forces"]
    made.info["REF_energy"] += float(e1 - e0 - ((forces - f0) * steps).sum())
    made.info["config_type"] = "moved"
    made.arrays["REF_forces"] = forces + f1 - f0
    return made


def platinum(atoms: Atoms, kind: str) -> Atoms:
    """Labels of CHGNet; a stress for the bulk."""
    energy, forces, stress = chgnet(atoms)
    atoms.info = {"REF_energy": float(energy + SHIFT * len(atoms)), "config_type": kind}
    if kind == "bulk":
        atoms.info["REF_stress"] = stress
    atoms.arrays["REF_forces"] = forces
    return atoms


def crystal(size: float) -> Atoms:
    """A strained and hot cell of 32 atoms."""
    atoms = bulk("Pt", a=LATTICE, cubic=True) * (2, 2, 2)
    strain = np.eye(3) * (1 + RANDOM.uniform(-0.035, 0.035)) + RANDOM.uniform(-0.02, 0.02, (3, 3))
    atoms.set_cell(atoms.cell.array @ (0.5 * (strain + strain.T)), scale_atoms=True)
    atoms.positions += RANDOM.normal(size=atoms.positions.shape) * 0.08 * size
    return platinum(atoms, "bulk")


def bare(atoms: Atoms, size: float) -> Atoms:
    """The Pt of a structure, moved."""
    own = Atoms(atoms.numbers, atoms.positions, cell=atoms.cell, pbc=True)[atoms.numbers == PT]
    own.positions += RANDOM.normal(size=own.positions.shape) * 0.08 * size
    return platinum(own, "bare")


def surface() -> Atoms:
    """A thin, strained, hot slab without labels."""
    atoms = fcc111("Pt", (3, 3, int(RANDOM.integers(4, 8))), a=LATTICE, vacuum=8.0)
    wide = np.array([[1 + RANDOM.uniform(-0.02, 0.02)]] * 2 + [[1.0]])
    atoms.set_cell(atoms.cell.array * wide, scale_atoms=True)
    atoms.positions += RANDOM.normal(size=atoms.positions.shape) * RANDOM.uniform(0.03, 0.12)
    return Atoms(atoms.numbers, atoms.positions, cell=atoms.cell, pbc=True)


def main(file: str) -> None:
    """Choose, move and label structures."""
    frames = read(file, ":")
    groups: dict[str, list[Atoms]] = {}
    for at in RANDOM.permutation(len(frames)):
        groups.setdefault(frames[at].info["config_type"], []).append(frames[at])
    zero, one, three = (groups[f"Pt111_{count}pt"] for count in (0, 1, 3))
    minima = [minimum(a) for a in zero[:16] + one[:12] + three[:12]]
    sizes = np.tile([0.5, 0.8, 1.0, 1.3], 10)
    chosen = zero[60:76] + one[60:72] + three[60:72]
    hot = [moved(a, size) for a, size in zip(chosen, sizes, strict=True)]
    cells = [crystal(size) for size in np.tile([0.4, 0.8, 1.2, 1.6], 8)]
    cells += [
        platinum(bulk("Pt", a=LATTICE * scale, cubic=True) * (2, 2, 2), "bulk")
        for scale in (0.96, 0.98, 1.0, 1.02, 1.04)
    ]
    sizes = np.array([0.0, 0.4, 0.8, 0.8, 1.0, 1.0, 1.3, 1.3])
    slabs = [bare(a, size) for a, size in zip(zero[100:108], sizes, strict=True)]
    write(HERE / "large_train.xyz", minima + hot + cells[:25] + cells[-5:] + slabs[:6])
    write(HERE / "pt_train.xyz", cells + slabs)
    write(HERE / "surfaces.xyz", [surface() for _ in range(18)])
    test = [minimum(a) for a in zero[30:42] + one[24:36] + three[24:36]]
    chosen = zero[42:50] + one[36:42] + three[36:42]
    test += [moved(a, s) for a, s in zip(chosen, np.tile([0.6, 0.9, 1.0, 1.2], 5), strict=True)]
    test += [crystal(size) for size in np.tile([0.4, 0.8, 1.2, 1.6], 3)]
    write(HERE / "test.xyz", test + [bare(a, 0.9) for a in zero[110:114]])


if __name__ == "__main__":
    main(sys.argv[1])
