"""Helium against tungsten, from 1 to 100 eV: a MACE beside the potential that labelled its data.

    python scattering.py MODEL [--plot scattering.png]

prints, for each path of a helium atom toward tungsten atoms at rest, the distance at which its
energy reaches 1 to 100 eV (a turning point, in a head-on collision) in both potentials, and the
largest difference of the curves below 1, 10 and 100 eV.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from ase import Atom, Atoms
from ase.build import bcc100, bulk
from collisions import LATTICE, W_HE, Reference
from mace.calculators import MACECalculator

ENERGIES = (1.0, 3.0, 10.0, 30.0, 100.0)
"""eV, whose turning points are compared."""


def dimer() -> Iterator[tuple[float, Atoms]]:
    """One He and one W atom in vacuum."""
    for distance in np.geomspace(0.4, 4.0, 60):
        yield distance, Atoms("WHe", [(0, 0, 0), (distance, 0, 0)], cell=[20, 21, 22], pbc=True)


def in_crystal(direction: tuple[float, float, float]) -> Iterator[tuple[float, Atoms]]:
    """He at distances from a W atom of the crystal, along a direction."""
    along = np.array(direction) / np.linalg.norm(direction)
    for distance in np.geomspace(0.4, 1.6, 40):
        atoms = bulk("W", "bcc", a=LATTICE, cubic=True).repeat(3)
        atoms.append(Atom("He", atoms.positions[26] + distance * along))
        yield distance, atoms


def slab() -> Atoms:
    """A W(100) slab, three by three cells, seven layers."""
    return bcc100("W", (3, 3, 7), a=LATTICE, vacuum=9.0, periodic=True)


def from_above(x: float, y: float, lowest: float) -> Iterator[tuple[float, Atoms]]:
    """He over a point of the surface, in units of the lattice constant from a surface atom."""
    surface = slab()
    top = int(np.argmax(surface.positions[:, 2]))
    some = np.geomspace(4.0, lowest, 45) if lowest > 0.0 else np.linspace(4.0, lowest, 45)
    for height in some:
        atoms = surface.copy()
        atoms.append(Atom("He", atoms.positions[top] + (x * LATTICE, y * LATTICE, height)))
        yield height, atoms


def channel() -> Iterator[tuple[float, Atoms]]:
    """He down the axis of a <100> channel, from the vacuum to the middle of the slab."""
    surface = slab()
    top = int(np.argmax(surface.positions[:, 2]))
    for height in np.linspace(3.0, -8.0, 56):
        atoms = surface.copy()
        atoms.append(Atom("He", atoms.positions[top] + (LATTICE / 2.0, 0.0, height)))
        yield height, atoms


PATHS: dict[str, Callable[[], Iterator[tuple[float, Atoms]]]] = {
    "dimer": dimer,
    "crystal, along 100": lambda: in_crystal((1, 0, 0)),
    "crystal, along 110": lambda: in_crystal((1, 1, 0)),
    "crystal, along 111": lambda: in_crystal((1, 1, 1)),
    "on top of a surface atom": lambda: from_above(0.0, 0.0, 0.4),
    "bridge of two surface atoms": lambda: from_above(0.5, 0.0, -1.0),
    "hollow of four surface atoms": lambda: from_above(0.5, 0.5, -1.0),
}


def turning_point(distance: np.ndarray, energy: np.ndarray, level: float) -> float:
    """The largest distance with this energy (both from large to small distances), or nan."""
    above = np.flatnonzero(energy > level)
    if not len(above) or above[0] == 0:
        return float("nan")
    k = above[0]
    part = (level - energy[k - 1]) / (energy[k] - energy[k - 1])
    return float(distance[k - 1] + part * (distance[k] - distance[k - 1]))


def tell(line: str) -> None:
    """Print a line at once."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def main() -> None:
    """Compare along all paths."""
    parser = argparse.ArgumentParser(description="scattering curves of a MACE for W and He")
    parser.add_argument("model", type=Path)
    parser.add_argument("--plot", type=Path)
    given = parser.parse_args()
    models = {
        "reference": Reference(W_HE / "reference.in"),
        "MACE": MACECalculator(str(given.model), device="cpu", default_dtype="float64"),
    }
    curves = {}
    for name, path in {**PATHS, "channel": channel}.items():
        some = sorted(path(), key=lambda one: -one[0])
        distances = np.array([distance for distance, _ in some])
        energies = {}
        for model, calculator in models.items():
            values = []
            for _, atoms in some:
                atoms.calc = calculator
                values.append(atoms.get_potential_energy())
            alone = some[0][1].copy()
            del alone[[k for k, atom in enumerate(alone) if atom.symbol == "He"]]
            alone.calc = calculator
            zero = alone.get_potential_energy()
            if name == "dimer":
                zero = values[0]
            energies[model] = np.array(values) - zero
        curves[name] = (distances, energies)
        truth, learned = energies["reference"], energies["MACE"]
        tell(f"{name}: {distances[0]:.2f} to {distances[-1]:.2f} A")
        for below in (1.0, 10.0, 100.0):
            chosen = truth < below
            if chosen.any():
                difference = (learned - truth)[chosen]
                tell(f"  below {below:g} eV: largest difference {np.abs(difference).max():.3f} eV")
        if name == "channel":
            continue
        for level in ENERGIES:
            there = [turning_point(distances, e, level) for e in (truth, learned)]
            tell(f"  {level:5g} eV at {there[0]:.3f} A, MACE {there[1]:.3f} A")
    models["reference"].close()
    if given.plot:
        plot(curves, given.plot)


def plot(curves: dict[str, tuple[np.ndarray, dict[str, np.ndarray]]], file: Path) -> None:
    """All curves beside one another."""
    figure, axes = plt.subplots(2, 4, figsize=(14, 6), constrained_layout=True)
    for ax, (name, (distances, energies)) in zip(axes.flat, curves.items(), strict=True):
        ax.plot(distances, energies["reference"], color="black", label="labelling potential")
        ax.plot(distances, energies["MACE"], color="tab:red", ls="--", label="MACE")
        ax.set_title(name, fontsize=10)
        if name != "channel":
            ax.set_yscale("symlog", linthresh=1.0)
            ax.set_ylim(-3.0, 1000.0)
        ax.set_xlabel("distance (Å)" if name in PATHS else "height (Å)")
        ax.set_ylabel("energy (eV)")
    axes.flat[0].legend(fontsize=8)
    figure.savefig(file, dpi=110)


if __name__ == "__main__":
    main()
