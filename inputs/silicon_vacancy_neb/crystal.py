"""The atoms of this case, in a crystal of any size: init.xyz, path.xyz and the seeds of mix.toml.

    python crystal.py 5

The path is straight here, with ends that are not relaxed.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click
import numpy as np
from ase.build import bulk
from numpy.typing import NDArray

HERE = Path(__file__).resolve().parent
CONSTANT = 5.457
"""Å, the MACE's."""
BOND = 2.5
"""Å, more than to a neighbour and less than to any other atom."""

Image = NDArray[np.float64]
"""(atoms, 3) Å."""


@click.command()
@click.argument("cells", type=click.IntRange(min=3))
def main(cells: int) -> None:
    """Write init.xyz and path.xyz for CELLS cubic cells along each edge, and print the seeds."""
    halfway, path, seeds = crystal_with_step(cells)
    write_images(HERE / "init.xyz", [halfway], cells)
    write_images(HERE / "path.xyz", path, cells)
    click.echo(f"{len(halfway)} atoms; in mix.toml: indices = {seeds}")


def crystal_with_step(cells: int, images: int = 5) -> tuple[Image, list[Image], list[int]]:
    """The crystal with its moving atom halfway, the images of a straight path, and the seeds."""
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
    seeds = [0, *(at for at, atom in enumerate(others, start=1) if near[atom])]
    return (before + after) / 2, list(np.linspace(before, after, images)), seeds


def write_images(file: Path, images: Sequence[Image], cells: int) -> None:
    """Write frames in i-PI's xyz format."""
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
