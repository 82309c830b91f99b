"""Lattice parameters of a cell, its Bravais lattice, and the test that it holds a bulk crystal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import numpy as np
from ase.cell import Cell

from mixserver.core.cell import largest_empty_arc, plane_spacings
from mixserver.core.errors import ConfigError
from mixserver.core.frame import Frame, Topology
from mixserver.geometry import distances_to_points

_VOID: Final = 4.0
"""Å from an empty place to the nearest atom; in the loosest elemental crystals 3.4 (Cs)."""
_GAP: Final = 5.0
"""Å without an atom between two lattice planes; in the most loosely bound layers 3.4 (graphite)."""
_GRID: Final = 0.7
"""Å between the places that are tested."""
_EQUAL: Final = 1e-3
"""Relative difference of lengths that count as equal when a Bravais lattice is named."""
_PARAMETERS: Final = ("a", "b", "c", "alpha", "beta", "gamma")
_SHORT: Final = {"FCC": "fcc", "BCC": "bcc"}
"""Names for ASE's own; the others have their long names."""


def lattice_name(crystal: Frame) -> str:
    """Bravais lattice of a cell with lengths (Å) and angles, e.g. "fcc lattice, a = 5.431 Å"."""
    cell = Cell(crystal.cell)
    try:
        found = (cell if cell.handedness > 0 else Cell(-cell[:])).get_bravais_lattice(eps=_EQUAL)
    except RuntimeError:  # ASE knows no name for it
        return "lattice, " + _parameters(dict(zip(_PARAMETERS, cell.cellpar(), strict=True)))
    name = _SHORT.get(found.name) or found.longname.removeprefix("primitive ")
    return f"{name} lattice, {_parameters(found.vars())}"


def _parameters(values: Mapping[str, float]) -> str:
    units = {name: " Å" if name in ("a", "b", "c") else "°" for name in values}
    return ", ".join(f"{name} = {value:.6g}{units[name]}" for name, value in values.items())


def check_bulk(crystal: Frame) -> None:
    """Test that a structure is a bulk crystal.

    Raises:
        ConfigError: it is not periodic along all lattice vectors, or has an empty place too large
            for a bulk crystal.
    """
    if not all(crystal.topology.pbc):
        raise ConfigError(
            "a bulk crystal repeats along all three lattice vectors, but the structure's pbc are "
            f"{crystal.topology.pbc}. Give a bulk cell"
        )
    spacings = plane_spacings(crystal.cell)
    for axis, spacing in enumerate(spacings):
        gap = largest_empty_arc(crystal.fractional[:, axis]).width * float(spacing)
        if gap > _GAP:
            raise ConfigError(
                f"the structure is no bulk crystal: across lattice vector {axis + 1} there are "
                f"{gap:.3g} Å without an atom. Remove surfaces and vacuum, give a bulk cell"
            )
    counts = np.maximum(1, np.ceil(spacings / _GRID)).astype(int)
    places = np.stack(np.meshgrid(*(np.arange(n) / n for n in counts), indexing="ij"), axis=-1)
    grid = Topology(np.zeros(counts.prod(), np.int32)).frame(
        places.reshape(-1, 3) @ crystal.cell, crystal.cell
    )
    empty = len(grid) - len(distances_to_points(grid, crystal.wrapped, _VOID).atoms)
    if empty:
        raise ConfigError(
            f"the structure is no bulk crystal: in {100.0 * empty / len(grid):.2g} % of its cell "
            f"there is no atom within {_VOID} Å. Remove surfaces and vacuum, give a bulk cell"
        )
