"""The atoms of this case, in a crystal of any size: init.xyz, path.xyz and the seeds of mix.toml.

    python crystal.py 5

The path is straight here, with ends that are not relaxed.
"""

from __future__ import annotations

from pathlib import Path

import click
import numpy as np
from ase.build import bulk

HERE = Path(__file__).resolve().parent
CONSTANT = 5.457
"""Å, the MACE's."""
BOND = 2.5
"""Å, more than to a neighbour and less than to any other atom."""


@click.command()
@click.argument("cells", type=click.IntRange(min=3))
def main(cells: int) -> None:
    """Write init.xyz and path.xyz for CELLS cubic cells along each edge, and print the seeds."""
    crystal = bulk("Si", "diamond", CONSTANT, cubic=True) * (cells, cells, cells)
    everyone = range(len(crystal))
    centre = crystal.cell.array.sum(axis=0) / 2
    vacant = int(np.argmin(np.linalg.norm(crystal.positions - centre, axis=1)))
    from_vacant = crystal.get_distances(vacant, everyone, mic=True)
    mover = int(np.argsort(from_vacant)[1])  # one of the vacant site's four neighbours
    from_mover = crystal.get_distances(mover, everyone, mic=True)
    near = np.minimum(from_vacant, from_mover) < BOND

    others = [atom for atom in everyone if atom not in {mover, vacant}]  # the mover comes first
    before, after = crystal.positions[[mover, *others]], crystal.positions[[vacant, *others]]
    _write(HERE / "init.xyz", [(before + after) / 2], cells)
    _write(HERE / "path.xyz", list(np.linspace(before, after, 5)), cells)
    seeds = [0, *(at for at, atom in enumerate(others, start=1) if near[atom])]
    click.echo(f"{len(before)} atoms; in mix.toml, no_loads.toml and force.toml: indices = {seeds}")


def _write(file: Path, images: list[np.ndarray], cells: int) -> None:
    edge = cells * CONSTANT
    cell = f"{edge:.5f} {edge:.5f} {edge:.5f} 90.0 90.0 90.0"
    with file.open("w", encoding="utf-8") as out:
        for image in images:
            out.write(
                f"{len(image)}\n# CELL(abcABC): {cell} positions{{angstrom}} cell{{angstrom}}\n"
            )
            out.writelines("Si {:.8f} {:.8f} {:.8f}\n".format(*atom) for atom in image)


if __name__ == "__main__":
    main()
