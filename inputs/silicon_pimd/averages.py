"""Averages over a run of this case, with error bars: python averages.py RUN [ITS RESTARTS ...].

RUN is a folder such as runs/0001. The first tenth is left out; errors are those of eight blocks.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from ase.geometry import find_mic

BEADS, BLOCKS = 8, 8
COLUMNS = {
    "temperature (K)": 3,
    "potential energy (eV)": 4,
    "quantum kinetic energy (eV)": 5,
    "radius of gyration, all (Å)": 6,
    "radius of gyration, atom 0 (Å)": 7,
}


def properties(runs: list[Path]) -> np.ndarray:
    """(steps, columns) as i-PI printed them, without the first tenth."""
    rows = np.vstack([np.loadtxt(run / "simulation.out") for run in runs])
    return rows[len(rows) // 10 :]


def frames(runs: list[Path]) -> tuple[np.ndarray, np.ndarray]:
    """(frames, beads, atoms, 3) Å and (3, 3) Å, without the first tenth."""
    parts = []
    for run in runs:
        beads = []
        for bead in range(BEADS):
            lines = (run / f"simulation.pos_{bead}.xyz").read_text(encoding="utf-8").splitlines()
            size = int(lines[0]) + 2
            lines = lines[: len(lines) // size * size]
            rows = [line.split()[1:] for at, line in enumerate(lines) if at % size > 1]
            beads.append(np.array(rows, float).reshape(-1, size - 2, 3))
            edges = [float(x) for x in lines[1].split(":")[1].split()[:3]]
        count = min(map(len, beads))  # i-PI may have been stopped in mid-output
        parts.append(np.stack([bead[:count] for bead in beads], axis=1))
    together = np.concatenate(parts)
    return together[len(together) // 10 :], np.diag(edges)


def bonds(places: np.ndarray, cell: np.ndarray, atom: int) -> np.ndarray:
    """(frames, beads, bonds) Å from an atom to its neighbours, bead by bead."""
    _, distance = find_mic(places[0, 0] - places[0, 0, atom], cell)
    near = np.flatnonzero((distance > 0.0) & (distance < 3.0))
    vector = places[:, :, near] - places[:, :, [atom]]
    _, length = find_mic(vector.reshape(-1, 3), cell)
    return np.asarray(length).reshape(vector.shape[:-1])


def tell(name: str, values: np.ndarray) -> None:
    """Print a mean and its error, of values per time or of one value per block."""
    values = values[: len(values) // BLOCKS * BLOCKS].reshape(BLOCKS, -1).mean(axis=1)
    print(f"{name:42s} {values.mean():11.5f} ± {values.std(ddof=1) / BLOCKS**0.5:.5f}")  # noqa: T201


def main() -> None:
    """Print what there is to compare."""
    runs = [Path(name) for name in sys.argv[1:]]
    rows = properties(runs)
    print(f"{rows[-1, 1] - rows[0, 1]:.2f} ps")  # noqa: T201
    drift = 1e3 * np.polyfit(rows[:, 1], rows[:, 2], 1)[0]
    print(f"conserved: drift {drift:.2f} meV/ps, deviation {1e3 * rows[:, 2].std():.2f} meV")  # noqa: T201
    for name, column in COLUMNS.items():
        tell(name, rows[:, column])
    places, cell = frames(runs)
    for name, atoms in (("of atom 0", range(1)), ("of all", range(places.shape[2]))):
        length = np.concatenate([bonds(places, cell, atom) for atom in atoms], axis=2)
        tell(f"bonds {name}, mean (Å)", length.mean(axis=(1, 2)))
        cut = length[: len(length) // BLOCKS * BLOCKS].reshape(BLOCKS, -1)
        tell(f"bonds {name}, width (Å)", cut.std(axis=1))
    away = ((places - places.mean(axis=(0, 1))) ** 2).sum(axis=-1)
    tell("mean square displacement, all (Å²)", away.mean(axis=(1, 2)))


if __name__ == "__main__":
    main()
