"""Labels for w_he_mace.model: tungsten with helium, energies and forces by `reference.in`.

    python labels.py FOLDER

writes train.xyz and test.xyz (ASE's extxyz; REF_energy in eV, REF_forces in eV/Å, REF_stress in
eV/Å³) for train.yaml. A trajectory of molecular dynamics is in one of them, never in both. To learn
from another LAMMPS potential, change reference.in. Five minutes on one CPU core.
"""

from __future__ import annotations

import argparse
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atom, Atoms, units
from ase.build import bulk
from ase.geometry import find_mic
from ase.io import write
from ase.md.langevin import Langevin
from ase.md.velocitydistribution import MaxwellBoltzmannDistribution
from ase.optimize import FIRE
from reference import Reference

_log = logging.getLogger("labels")

LATTICE = 3.180
"""Å, of the reference."""
LARGEST_FORCE = 40.0
"""eV/Å; beyond it a configuration is left out."""
TETRAHEDRAL, OCTAHEDRAL = (0.5, 0.25, 0.0), (0.5, 0.5, 0.0)
"""Interstitial sites in units of the lattice constant."""


@dataclass(frozen=True, slots=True)
class Trajectory:
    """What one run of molecular dynamics starts from, and how many labels it gives."""

    size: int
    """Cubic cells along each edge."""
    helium: int
    """Interstitial He atoms; with a vacancy the first sits in it."""
    vacancy: bool
    kelvin: float
    labels: int


def trajectories() -> Iterator[Trajectory]:
    """All runs, 300 to 1500 K."""
    for kelvin in (300.0, 600.0, 900.0, 1200.0):
        for _ in range(3):
            yield Trajectory(3, 0, vacancy=False, kelvin=kelvin, labels=4)
        for _ in range(7):
            yield Trajectory(3, 1, vacancy=False, kelvin=kelvin, labels=5)
        for helium in (2, 3):
            for _ in range(2):
                yield Trajectory(3, helium, vacancy=False, kelvin=kelvin, labels=3)
        yield Trajectory(3, 0, vacancy=True, kelvin=kelvin, labels=3)
        for helium in (1, 1, 2):
            yield Trajectory(3, helium, vacancy=True, kelvin=kelvin, labels=4)
        yield Trajectory(4, 1, vacancy=False, kelvin=kelvin, labels=3)
    yield Trajectory(3, 1, vacancy=False, kelvin=1500.0, labels=5)


def started(what: Trajectory, rng: np.random.Generator) -> Atoms:
    """A strained crystal with its defects; no He closer than 1.5 Å to another atom."""
    atoms = bulk("W", "bcc", a=LATTICE, cubic=True).repeat(what.size)
    strain = rng.uniform(-0.012, 0.012, (3, 3)) + np.eye(3) * rng.uniform(-0.025, 0.025)
    atoms.set_cell(atoms.cell @ (np.eye(3) + (strain + strain.T) / 2.0), scale_atoms=True)
    places: list[Any] = []
    if what.vacancy:
        empty = atoms.positions[int(rng.integers(len(atoms)))].copy()
        del atoms[int(np.argmin(np.linalg.norm(atoms.positions - empty, axis=1)))]
        places.append(empty)
    while len(places) < what.helium:
        kind = rng.integers(4)
        cell = rng.integers(what.size, size=3)
        if kind < 2:
            inside = np.array(TETRAHEDRAL if kind == 0 else OCTAHEDRAL)[rng.permutation(3)]
        else:
            inside = rng.uniform(0.0, 1.0, 3)
        place = (cell + inside) / what.size @ np.array(atoms.cell)
        others = np.vstack([atoms.positions, *places])
        _, distances = find_mic(others - place, atoms.cell, pbc=True)
        if distances.min() > 1.5:
            places.append(place)
    for place in places[: what.helium]:
        atoms.append(Atom("He", place))
    return atoms


def labelled(atoms: Atoms, kind: str) -> Atoms | None:
    """A copy with its labels; None if a force is too large to be learned from."""
    forces = atoms.get_forces()
    if np.abs(forces).max() > LARGEST_FORCE:
        return None
    copy = Atoms(atoms.numbers, atoms.get_positions(wrap=True), cell=atoms.cell, pbc=True)
    copy.info["config_type"] = kind
    copy.info["REF_energy"] = float(atoms.get_potential_energy())
    copy.info["REF_stress"] = atoms.get_stress(voigt=False)
    copy.arrays["REF_forces"] = forces
    return copy


def run(what: Trajectory, calculator: Reference, rng: np.random.Generator) -> list[Atoms]:
    """One run of Langevin dynamics and its labels, one every 60 steps of 1 fs."""
    atoms = started(what, rng)
    atoms.calc = calculator
    found = [labelled(atoms, "start")] if what.helium else []
    # A few steps downhill take the overlaps away; the rest is left to the dynamics.
    FIRE(atoms, logfile=None, maxstep=0.05).run(fmax=1.0, steps=25)
    MaxwellBoltzmannDistribution(atoms, temperature_K=1.6 * what.kelvin, rng=rng)
    motion = Langevin(
        atoms, 1.0 * units.fs, temperature_K=what.kelvin, friction=0.02 / units.fs, rng=rng
    )
    kind = f"{'vacancy_' if what.vacancy else ''}{what.helium}He"
    for _ in range(what.labels):
        motion.run(60)
        found.append(labelled(atoms, kind))
    return [atoms for atoms in found if atoms is not None]


def strained(calculator: Reference, rng: np.random.Generator) -> list[Atoms]:
    """Small strained crystals, a third of them shaken: equation of state, elastic constants."""
    found = []
    for number in range(45):
        atoms = bulk("W", "bcc", a=LATTICE, cubic=True).repeat(2)
        size = 0.01 if number % 3 else 0.03
        strain = rng.uniform(-size, size, (3, 3)) + np.eye(3) * rng.uniform(-size, size)
        atoms.set_cell(atoms.cell @ (np.eye(3) + (strain + strain.T) / 2.0), scale_atoms=True)
        if number % 3 == 2:
            atoms.positions += rng.normal(0.0, 0.03, atoms.positions.shape)
        atoms.calc = calculator
        found.append(labelled(atoms, "strained"))
    return [atoms for atoms in found if atoms is not None]


def main() -> None:
    """Write the two files."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    parser = argparse.ArgumentParser(description="labels for w_he_mace.model")
    parser.add_argument("folder", type=Path)
    folder: Path = parser.parse_args().folder
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(20261121)
    calculator = Reference(Path(__file__).with_name("reference.in"))
    sets: dict[str, list[Atoms]] = {"train": [], "test": []}
    for number, atoms in enumerate(strained(calculator, rng)):
        sets["test" if number % 9 == 8 else "train"].append(atoms)
    for number, what in enumerate(trajectories()):
        # 7 shares no factor with the runs per temperature, so all kinds come into the test set.
        sets["test" if number % 7 == 4 else "train"] += run(what, calculator, rng)
    calculator.close()
    for name, atoms in sets.items():
        write(folder / f"{name}.xyz", atoms, format="extxyz")
        count = sum(len(one) for one in atoms)
        _log.info("%s: %d configurations, %d atoms", name, len(atoms), count)


if __name__ == "__main__":
    main()
