"""Everything this room asks of a model about one crystal, as values that go into files.

Two models are compared by their portraits.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import msgspec
import numpy as np

from mixserver.crystal.asking import Ask
from mixserver.crystal.curve import energy_curve
from mixserver.crystal.elasticity import elastic_constants
from mixserver.crystal.inside import force_constants
from mixserver.crystal.lattice import lattice, relaxed_crystal
from mixserver.crystal.phonons import phonons
from mixserver.crystal.vacancy import vacancy_formation_energy
from mixserver.errors import ConfigError
from mixserver.frame import Frame

Progress = Callable[[int, int], None]
"""Told (done, total)."""

_FLAT: Final = 0.05
"""THz by which rigid motion may be off zero and still be called zero."""


class Portrait(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A crystal as a model sees it. What could not be had is None, and `trouble` says why."""

    energy: float
    """eV per atom."""
    volume: float
    """Å³ per atom."""
    lengths: tuple[float, float, float]
    """Å, of the cell."""
    angles: tuple[float, float, float]
    """Degrees."""
    cell: list[list[float]]
    """(3, 3) Å."""
    positions: list[list[float]]
    """(n, 3) Å."""
    elastic: list[list[float]]
    """(6, 6) GPa, atoms relaxed; Voigt xx yy zz yz xz xy."""
    cubic: tuple[float, float, float] | None
    """C11, C12, C44, GPa, if the crystal is cubic and stands along x, y and z."""
    bulk_modulus: float
    """GPa."""
    phonons: dict[str, list[float]]
    """THz at special points, ascending; below 0 where imaginary."""
    curve: tuple[list[float], list[float]]
    """Å³ and eV per atom."""
    vacancy: float | None
    """eV, relaxed at constant volume."""
    trouble: str = ""
    """Why something is missing."""

    @property
    def stable(self) -> bool:
        """Whether no strain and no phonon lowers the energy."""
        lowest = min((min(f) for f in self.phonons.values()), default=0.0)
        return lowest > -_FLAT and float(np.linalg.eigvalsh(np.array(self.elastic)).min()) > 0.0

    def crystal(self, like: Frame) -> Frame:
        """The crystal at rest, with the atoms of `like`."""
        return like.topology.frame(np.array(self.positions), np.array(self.cell))


async def portrait(
    ask: Ask,
    start: Frame,
    *,
    vacancy: int = 200,
    length: float = 10.0,
    progress: Progress | None = None,
) -> Portrait:
    """Relax a crystal and look at it from all sides.

    Args:
        ask: the model.
        start: any cell, near its equilibrium.
        vacancy: atoms of the supercell from which one is taken; 0 for no vacancy.
        length: Å of the supercell for phonons; 0 for no phonons.
        progress: told how many of the looks are done.

    Raises:
        ConfigError: the crystal does not come to rest, or is none.
    """
    total = 5

    def did(done: int) -> None:
        if progress is not None:
            progress(done, total)

    did(0)
    crystal = await relaxed_crystal(ask, start)
    did(1)
    springs = await force_constants(ask, crystal)
    elastic = await elastic_constants(ask, crystal, constants=springs)
    did(2)
    curve = await energy_curve(ask, crystal, constants=springs)
    did(3)
    found: dict[str, list[float]] = {}
    if length:
        frequencies = (await phonons(ask, crystal, length=length)).frequencies
        found = {name: values.tolist() for name, values in frequencies.items()}
    did(4)
    gap, trouble = None, ""
    if vacancy:
        try:
            gap = await vacancy_formation_energy(ask, crystal, atoms=vacancy)
        except ConfigError as error:  # a poor potential may have no vacancy, and is still judged
            trouble = f"vacancy: {error}"
    did(5)
    described = lattice(crystal)
    cubic = elastic.cubic
    return Portrait(
        energy=(await ask(crystal)).energy / len(crystal),
        volume=described.volume_per_atom,
        lengths=described.lengths,
        angles=described.angles,
        cell=crystal.cell.tolist(),
        positions=crystal.positions.tolist(),
        elastic=elastic.matrix.tolist(),
        cubic=None if cubic is None else (cubic.c11, cubic.c12, cubic.c44),
        bulk_modulus=elastic.bulk_modulus,
        phonons=found,
        curve=(curve.volume.tolist(), curve.energy.tolist()),
        vacancy=gap,
        trouble=trouble,
    )
