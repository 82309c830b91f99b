"""Choose the training and test sets of w_mace.model from the published configurations of tungsten.

    python prepare.py w_liu2025.xyz FOLDER

writes train.xyz and test.xyz for train.yaml. The file of all configurations is not part of this
repository; README.md says where it comes from.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.io import read, write

TRAIN = {
    "bulk_strain": 106,
    "bulk_54": 56,
    "vacancy": 15,
    "surface": 22,
    "screw_dislocation_dipole": 28,
    "edge_dislocation_dipole": 5,
    "grain_boundary": 10,
    "polycrystal_complex": 16,
    "short_range": 20,
}
"""Configurations of each kind; screw dislocations count most, for their size."""
TEST = {
    "bulk_strain": 15,
    "bulk_54": 30,
    "vacancy": 4,
    "surface": 4,
    "screw_dislocation_dipole": 12,
    "edge_dislocation_dipole": 8,
    "grain_boundary": 10,
    "polycrystal_complex": 12,
    "short_range": 20,
}
USUAL_FORCE = 5.0
"""eV/Å; configurations with larger forces get less weight, so that the rest is learned, too."""
LARGEST_FORCE = 200.0
"""eV/Å; configurations with larger ones are not learned from: there the pair repulsion decides."""


def largest_force(atoms: Atoms) -> float:
    """The largest component, eV/Å."""
    return float(np.abs(atoms.arrays["REF_forces"]).max())


def main() -> None:
    """Write the two files."""
    parser = argparse.ArgumentParser(description="data for w_mace.model")
    parser.add_argument("source", type=Path)
    parser.add_argument("folder", type=Path)
    given = parser.parse_args()
    given.folder.mkdir(parents=True, exist_ok=True)
    kinds: dict[str, list[Atoms]] = defaultdict(list)
    for atoms in read(given.source, ":"):
        kind = atoms.info["config_type"]
        if kind in TRAIN:
            kinds[kind].append(atoms)
    rng = np.random.default_rng(20261129)
    train, test = [], []
    for kind, some in kinds.items():
        # Shuffled, so that neighbours of one trajectory are not taken in a row.
        order = [some[k] for k in rng.permutation(len(some))]
        held = TEST.get(kind, 0)
        test += order[:held]
        train += order[held : held + TRAIN[kind]]
    train = [atoms for atoms in train if largest_force(atoms) < LARGEST_FORCE]
    for atoms in train:
        largest = largest_force(atoms)
        atoms.info["config_weight"] = 1.0 / (1.0 + (largest / USUAL_FORCE) ** 2)
    for name, some in (("train", train), ("test", test)):
        write(given.folder / f"{name}.xyz", some, format="extxyz")


if __name__ == "__main__":
    main()
