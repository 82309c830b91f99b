"""Labels for w_he_collisions.model: helium shot at tungsten, energies and forces by `reference.in`.

    python collisions.py FOLDER

writes train.xyz and test.xyz (ASE's extxyz; REF_energy in eV, REF_forces in eV/Å) for train.yaml.
Every configuration is random and independent, but those of one run of molecular dynamics, which
are in one of the files, never in both.
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from ase import Atom, Atoms, units
from ase.build import bcc100, bulk
from ase.io import write
from ase.md.langevin import Langevin
from ase.md.velocitydistribution import MaxwellBoltzmannDistribution

W_HE = Path(__file__).resolve().parents[2] / "w_he/model"
sys.path.insert(0, str(W_HE))
from labels import LATTICE  # noqa: E402 - from the folder above
from reference import Reference  # noqa: E402

USUAL_FORCE = 15.0
"""eV/Å; configurations with larger forces get less weight, so that the rest is learned, too."""
LARGEST_FORCE = 800.0
"""eV/Å, beyond it a configuration is left out: 250 eV and more between He and W."""


def crystal(size: int, rng: np.random.Generator, most: float = 0.02) -> Atoms:
    """A strained cubic crystal, up to `most`."""
    atoms = bulk("W", "bcc", a=LATTICE, cubic=True).repeat(size)
    strain = rng.uniform(-most / 2, most / 2, (3, 3)) + np.eye(3) * rng.uniform(-most, most)
    atoms.set_cell(atoms.cell @ (np.eye(3) + (strain + strain.T) / 2.0), scale_atoms=True)
    return atoms


def slab(rng: np.random.Generator, size: int = 2, layers: int = 8) -> Atoms:
    """W(100), strained in the plane by up to 1 %, a surface above and below."""
    lattice = LATTICE * (1.0 + rng.uniform(-0.01, 0.01))
    return bcc100("W", (size, size, layers), a=lattice, vacuum=6.0, periodic=True)


def shaken(atoms: Atoms, rng: np.random.Generator) -> Atoms:
    """The atoms at about 0 to 1500 K."""
    width = rng.choice([0.0, 0.05, 0.1, 0.14])
    atoms.positions += rng.normal(0.0, width, atoms.positions.shape)
    return atoms


def collided(atoms: Atoms, site: int, rng: np.random.Generator) -> Atoms:
    """With He at a random, short distance from an atom, nearer to no other."""
    while True:
        distance = np.exp(rng.uniform(np.log(0.5), np.log(1.8)))
        direction = rng.normal(size=3)
        direction /= np.linalg.norm(direction)
        place = atoms.positions[site] + distance * direction
        found = atoms.copy()
        found.append(Atom("He", place))
        if found.get_distances(-1, range(len(atoms)), mic=True).min() > 0.98 * distance:
            return found


def over_surface(rng: np.random.Generator) -> Atoms:
    """With He at a random place above, in, or shortly below the surface."""
    atoms = shaken(slab(rng), rng)
    height = atoms.positions[:, 2].max()
    inside = rng.uniform(0.0, 1.0, 2) @ np.array(atoms.cell)[:2, :2]
    while True:
        place = np.array([*inside, height + rng.uniform(-5.0, 4.5)])
        found = atoms.copy()
        found.append(Atom("He", place))
        if found.get_distances(-1, range(len(atoms)), mic=True).min() > 0.6:
            return found


def recoiling(rng: np.random.Generator) -> Atoms:
    """With a W atom pushed toward a neighbour, as a hit by He does."""
    atoms = shaken(crystal(3, rng), rng)
    direction = np.array([(1, 1, 1), (1, 0, 0), (1, 1, 0)][rng.integers(3)], dtype=float)
    direction /= np.linalg.norm(direction)
    atoms.positions[26] += rng.uniform(0.3, 1.1) * direction
    return atoms


def still(rng: np.random.Generator) -> Iterator[tuple[str, Atoms]]:
    """All configurations that no dynamics makes."""
    for _ in range(30):
        yield "strained", crystal(1, rng, 0.03)
    for _ in range(20):
        yield "strained", shaken(crystal(2, rng, 0.03), rng)
    for _ in range(120):
        atoms = shaken(crystal(2, rng), rng)
        yield "collision", collided(atoms, int(rng.integers(len(atoms))), rng)
    for _ in range(40):
        atoms = shaken(slab(rng), rng)
        top = np.flatnonzero(atoms.positions[:, 2] > atoms.positions[:, 2].max() - 2.2)
        yield "surface collision", collided(atoms, int(rng.choice(top)), rng)
    for _ in range(100):
        yield "surface with He", over_surface(rng)
    for _ in range(15):
        yield "recoil", recoiling(rng)
    for _ in range(12):
        yield "surface", shaken(slab(rng), rng)


def dynamics(calculator: Reference, rng: np.random.Generator) -> Iterator[list[tuple[str, Atoms]]]:
    """Runs of Langevin dynamics at 300 to 1200 K, of crystals and slabs with 0 to 2 He atoms."""
    for kelvin in (300.0, 600.0, 900.0, 1200.0):
        for helium in (0, 1, 1, 1, 2):
            yield run("crystal", crystal(3, rng, 0.012), helium, kelvin, calculator, rng)
        for helium in (0, 1, 1):
            yield run("slab", slab(rng, 3, 6), helium, kelvin, calculator, rng)


def run(
    kind: str,
    atoms: Atoms,
    helium: int,
    kelvin: float,
    calculator: Reference,
    rng: np.random.Generator,
) -> list[tuple[str, Atoms]]:
    """One run: He starts at tetrahedral places, an atom is kept every 60 steps of 1 fs."""
    for chosen in rng.choice(len(atoms), helium, replace=False):
        site = int(chosen)
        if kind == "slab":
            middle = atoms.positions[:, 2].mean()
            site = int(np.argmin(np.abs(atoms.positions[:, 2] - middle - 2.0)))
        shift = np.array([0.5, 0.25, 0.0]) * LATTICE
        atoms.append(Atom("He", atoms.positions[site] + shift))
    atoms.calc = calculator
    MaxwellBoltzmannDistribution(atoms, temperature_K=1.6 * kelvin, rng=rng)
    motion = Langevin(
        atoms, 1.0 * units.fs, temperature_K=kelvin, friction=0.02 / units.fs, rng=rng
    )
    found = []
    for _ in range(4):
        motion.run(60)
        found.append((f"{kind} {helium}He, dynamics", atoms.copy()))
    return found


def labelled(kind: str, atoms: Atoms, calculator: Reference) -> Atoms | None:
    """With its labels; None if a force is too large."""
    atoms.calc = calculator
    forces = atoms.get_forces()
    largest = float(np.abs(forces).max())
    if largest > LARGEST_FORCE:
        return None
    copy = Atoms(atoms.numbers, atoms.get_positions(wrap=True), cell=atoms.cell, pbc=True)
    copy.info["config_type"] = kind
    copy.info["config_weight"] = 1.0 / (1.0 + (largest / USUAL_FORCE) ** 2)
    copy.info["REF_energy"] = float(atoms.get_potential_energy())
    copy.arrays["REF_forces"] = forces
    return copy


def main() -> None:
    """Write the two files."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    parser = argparse.ArgumentParser(description="labels for w_he_collisions.model")
    parser.add_argument("folder", type=Path)
    folder: Path = parser.parse_args().folder
    rng = np.random.default_rng(20261129)
    calculator = Reference(W_HE / "reference.in")
    groups = [[one] for one in still(rng)]
    sets: dict[str, list[Atoms]] = {"train": [], "test": []}
    for number, group in enumerate([*groups, *dynamics(calculator, rng)]):
        found = [labelled(kind, atoms, calculator) for kind, atoms in group]
        sets["test" if number % 8 == 5 else "train"] += [one for one in found if one is not None]
    calculator.close()
    for name, atoms in sets.items():
        write(folder / f"{name}.xyz", atoms, format="extxyz")
        count = sum(len(one) for one in atoms)
        logging.info("%s: %d configurations, %d atoms", name, len(atoms), count)


if __name__ == "__main__":
    main()
