"""Structures for the distilled potential of iron: self-interstitials, hot and strained.

    python structures.py

writes given.xyz for distill.toml, from the configurations that model/labels.py makes, without their
labels: the distillation asks the MACE for its own.
"""

from __future__ import annotations

from pathlib import Path

from ase import Atoms
from ase.io import read, write

HERE = Path(__file__).resolve().parent
EVERY = 5


def main() -> None:
    """Choose them."""
    chosen = [
        Atoms(one.numbers, one.positions, cell=one.cell, pbc=True)
        for one in read(HERE / "model/train.xyz", ":")
        if "interstitial" in one.info["config_type"] and len(one) < 60
    ][::EVERY]
    write(HERE / "given.xyz", chosen, format="extxyz", write_results=False)


if __name__ == "__main__":
    main()
