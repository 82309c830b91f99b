"""Labels for fe_mace.model: iron with self-interstitials, energies and forces by `reference.in`.

    python labels.py FOLDER

writes train.xyz and test.xyz (ASE's extxyz; REF_energy in eV, REF_forces in eV/Å, REF_stress in
eV/Å³) for train.yaml. A trajectory of molecular dynamics is in one of them, never in both. One
minute on one CPU core.
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from ase import Atom, Atoms, units
from ase.build import bulk
from ase.io import write
from ase.md.langevin import Langevin
from ase.md.velocitydistribution import MaxwellBoltzmannDistribution
from ase.optimize import FIRE

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "w_he/model"))
from reference import Reference

_log = logging.getLogger("labels")

LATTICE = 2.8553
"""Å, of the reference at 0 K."""
EXPANSION = 1.2e-5
"""Per kelvin, about the reference's own, so that hot crystals are near zero pressure."""
DIRECTIONS = {"110": (1.0, 1.0, 0.0), "111": (1.0, 1.0, 1.0), "100": (1.0, 0.0, 0.0)}
"""Of the two atoms of a self-interstitial."""


@dataclass(frozen=True, slots=True)
class Trajectory:
    """What one run of molecular dynamics starts from, and how many labels it gives."""

    size: int
    """Cubic cells along each edge."""
    defect: str
    """bulk, vacancy, or the direction of a self-interstitial."""
    kelvin: float
    labels: int

    @property
    def every(self) -> int:
        """One label of so many is kept: interstitials in the smaller cell are wanted most."""
        return 2 if self.size > 3 or self.defect in ("bulk", "vacancy") else 1

    @property
    def kind(self) -> str:
        """What the configurations are called."""
        return self.defect if self.defect in ("bulk", "vacancy") else f"interstitial_{self.defect}"


def trajectories() -> Iterator[Trajectory]:
    """All runs, 300 to 1400 K."""
    for kelvin in (300.0, 600.0, 800.0, 1000.0, 1200.0, 1400.0):
        for _ in range(2):
            yield Trajectory(3, "bulk", kelvin, labels=3)
        yield Trajectory(4, "bulk", kelvin, labels=2)
        for _ in range(2):
            yield Trajectory(3, "vacancy", kelvin, labels=3)
    for kelvin in (300.0, 600.0, 800.0, 1000.0, 1200.0):
        for direction in ("110", "110", "111", "111", "100"):
            yield Trajectory(3, direction, kelvin, labels=4)
        for direction in ("110", "110", "111"):
            yield Trajectory(4, direction, kelvin, labels=2)


def defective(size: int, defect: str, lattice: float, rng: np.random.Generator) -> Atoms:
    """A cubic crystal with a defect at a random place, a self-interstitial in a random variant."""
    atoms = bulk("Fe", "bcc", a=lattice, cubic=True).repeat(size)
    if defect == "bulk":
        return atoms
    site = int(rng.integers(len(atoms)))
    if defect == "vacancy":
        del atoms[site]
        return atoms
    along = np.array(DIRECTIONS[defect])[rng.permutation(3)] * rng.choice([-1.0, 1.0], 3)
    apart = 0.36 * lattice * along / np.linalg.norm(along)
    atoms.append(Atom("Fe", atoms.positions[site] + apart))
    atoms.positions[site] -= apart
    return atoms


def labelled(atoms: Atoms, kind: str) -> Atoms:
    """A copy with its labels."""
    copy = Atoms(atoms.numbers, atoms.get_positions(wrap=True), cell=atoms.cell, pbc=True)
    copy.info["config_type"] = kind
    copy.info["REF_energy"] = float(atoms.get_potential_energy())
    copy.info["REF_stress"] = atoms.get_stress(voigt=False)
    copy.arrays["REF_forces"] = atoms.get_forces()
    return copy


def run(what: Trajectory, calculator: Reference, rng: np.random.Generator) -> list[Atoms]:
    """One run of Langevin dynamics and its labels; the first is near the start, not yet relaxed."""
    lattice = LATTICE * (1.0 + EXPANSION * what.kelvin) * (1.0 + rng.uniform(-0.008, 0.008))
    atoms = defective(what.size, what.defect, lattice, rng)
    strain = rng.uniform(-0.006, 0.006, (3, 3))
    atoms.set_cell(atoms.cell @ (np.eye(3) + (strain + strain.T) / 2.0), scale_atoms=True)
    atoms.calc = calculator
    FIRE(atoms, logfile=None, maxstep=0.05).run(fmax=0.5, steps=15)
    found = [labelled(atoms, what.kind)]
    MaxwellBoltzmannDistribution(atoms, temperature_K=1.6 * what.kelvin, rng=rng)
    motion = Langevin(
        atoms, 1.0 * units.fs, temperature_K=what.kelvin, friction=0.01 / units.fs, rng=rng
    )
    for _ in range(what.labels):
        motion.run(250)
        found.append(labelled(atoms, what.kind))
    return found


def strained(calculator: Reference, rng: np.random.Generator) -> list[Atoms]:
    """Small strained crystals, a third of them shaken: equation of state, elastic constants."""
    found = []
    for number in range(54):
        atoms = bulk("Fe", "bcc", a=LATTICE, cubic=True)
        if number % 3 == 2:
            atoms = atoms.repeat(2)
        size = 0.01 if number % 3 else 0.03
        strain = rng.uniform(-size, size, (3, 3)) + np.eye(3) * rng.uniform(-size, size)
        atoms.set_cell(atoms.cell @ (np.eye(3) + (strain + strain.T) / 2.0), scale_atoms=True)
        if number % 3 == 2:
            atoms.positions += rng.normal(0.0, 0.03, atoms.positions.shape)
        atoms.calc = calculator
        found.append(labelled(atoms, "strained"))
    return found


def relaxed(calculator: Reference, rng: np.random.Generator) -> list[Atoms]:
    """Defects on their way to rest, and near it: formation energies."""
    found = []
    for defect in ("110", "111", "100", "vacancy"):
        for size in (3, 4):
            atoms = defective(size, defect, LATTICE, rng)
            atoms.calc = calculator
            downhill = FIRE(atoms, logfile=None, maxstep=0.05)
            for steps in (20, 400):
                downhill.run(fmax=0.005, steps=steps)
                found.append(labelled(atoms, f"relaxed_{defect}"))
    return found


def main() -> None:
    """Write the two files."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    parser = argparse.ArgumentParser(description="labels for fe_mace.model")
    parser.add_argument("folder", type=Path)
    folder: Path = parser.parse_args().folder
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(20261129)
    calculator = Reference(Path(__file__).with_name("reference.in"))
    sets: dict[str, list[Atoms]] = {"train": relaxed(calculator, rng), "test": []}
    for number, atoms in enumerate(strained(calculator, rng)):
        sets["test" if number % 8 == 7 else "train"].append(atoms)
    for number, what in enumerate(trajectories()):
        # 7 shares no factor with the runs per temperature, so all kinds come into the test set.
        found = run(what, calculator, rng)
        sets["test" if number % 7 == 4 else "train"] += found[:: what.every]
    calculator.close()
    for name, atoms in sets.items():
        write(folder / f"{name}.xyz", atoms, format="extxyz")
        count = sum(len(one) for one in atoms)
        _log.info("%s: %d configurations, %d atoms", name, len(atoms), count)


if __name__ == "__main__":
    main()
