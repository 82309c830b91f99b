"""The atoms of this case, in a crystal of any size: two bonded ones first, pulled apart.

python crystal.py init.xyz --cells 4 --bond 2.9
"""

from __future__ import annotations

from pathlib import Path

import click
import numpy as np
from ase.build import bulk

CONSTANT = 5.457
"""Å, the MACE's."""
BOND = 2.9
"""Å between the held atoms."""


@click.command()
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@click.option("--cells", type=click.IntRange(min=3), default=4, show_default=True)
@click.option("--bond", type=float, default=BOND, show_default=True, help="Å.")
def main(file: Path, cells: int, bond: float) -> None:
    """Write FILE with so many cubic cells along each edge."""
    write_crystal(file, cells, bond)


def write_crystal(file: Path, cells: int, bond: float = BOND) -> None:
    """Write the crystal; the bond lies along [111] in the middle of the cell."""
    crystal = bulk("Si", "diamond", CONSTANT, cubic=True) * (cells, cells, cells)
    middle = crystal.cell.array.sum(axis=0) / 2
    one = int(np.argmin(np.linalg.norm(crystal.positions - middle, axis=1)))
    other = int(np.argsort(crystal.get_distances(one, range(len(crystal)), mic=True))[1])
    along = crystal.get_distance(one, other, mic=True, vector=True)
    length = float(np.linalg.norm(along))
    apart = 0.5 * (bond / length - 1.0) * along
    crystal.positions[one] -= apart
    crystal.positions[other] += apart
    first = [one, other]
    order = [*first, *(at for at in range(len(crystal)) if at not in first)]
    edge = cells * CONSTANT
    cell = f"{edge:.5f} {edge:.5f} {edge:.5f} 90.0 90.0 90.0"
    with file.open("w", encoding="utf-8") as out:
        out.write(
            f"{len(crystal)}\n# CELL(abcABC): {cell} positions{{angstrom}} cell{{angstrom}}\n"
        )
        out.writelines("Si {:.8f} {:.8f} {:.8f}\n".format(*crystal.positions[at]) for at in order)


if __name__ == "__main__":
    main()
