"""Bulk properties of one crystal in one model, as values that go into report files."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import msgspec
import numpy as np
from ase.cell import Cell

from mixserver.analysis.bulk.elasticity import elastic_constants, equation_of_state
from mixserver.analysis.bulk.evaluate import EvaluateFn
from mixserver.analysis.bulk.force_constants import force_constants
from mixserver.analysis.bulk.phonons import phonons
from mixserver.analysis.bulk.relaxation import relax_crystal
from mixserver.analysis.bulk.vacancy import relaxed_vacancy
from mixserver.core.errors import ConfigError
from mixserver.core.frame import Frame

Progress = Callable[[int, int], None]
"""Called with (done, total)."""

_FLAT: Final = 0.05
"""THz; a translation may have so large a frequency from numerical noise."""


class BulkProperties(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Properties of a crystal in one model. Unavailable values are None; `trouble` says why."""

    energy: float
    """eV per atom."""
    volume: float
    """Å³ per atom."""
    lengths: tuple[float, float, float]
    """Å, of the cell."""
    angles: tuple[float, float, float]
    """Degrees, between lattice vectors 2 and 3, 1 and 3, 1 and 2."""
    cell: list[list[float]]
    """(3, 3) Å."""
    positions: list[list[float]]
    """(n, 3) Å."""
    elastic: list[list[float]]
    """(6, 6) GPa, atoms relaxed; Voigt xx yy zz yz xz xy."""
    cubic: tuple[float, float, float] | None
    """C11, C12, C44, GPa, if the crystal is cubic with its axes along x, y and z."""
    bulk_modulus: float
    """GPa."""
    phonons: dict[str, list[float]]
    """THz at special points, ascending; below 0 where imaginary."""
    curve: tuple[list[float], list[float]]
    """Equation of state: Å³ and eV per atom."""
    vacancy: float | None
    """eV, relaxed at constant volume."""
    trouble: str = ""
    """Why a value is missing."""

    @property
    def stable(self) -> bool:
        """Whether no strain and no phonon lowers the energy."""
        lowest = min((min(f) for f in self.phonons.values()), default=0.0)
        return lowest > -_FLAT and float(np.linalg.eigvalsh(np.array(self.elastic)).min()) > 0.0

    def crystal(self, like: Frame) -> Frame:
        """The relaxed crystal, with the atoms of `like`."""
        return like.topology.frame(np.array(self.positions), np.array(self.cell))


async def bulk_properties(
    evaluate: EvaluateFn,
    start: Frame,
    *,
    vacancy: int = 200,
    length: float = 10.0,
    progress: Progress | None = None,
) -> BulkProperties:
    """Relax a crystal, from any cell near equilibrium, and compute its properties.

    `vacancy` is the number of atoms of the supercell for a vacancy, `length` (Å) that of the
    supercell for phonons; 0 omits them. `progress` is called after each of five steps.

    Raises:
        ConfigError: the relaxation does not converge, or this is not a bulk crystal.
    """

    def completed(steps: int) -> None:
        if progress is not None:
            progress(steps, 5)

    completed(0)
    crystal = await relax_crystal(evaluate, start)
    completed(1)
    constants = await force_constants(evaluate, crystal)
    elastic = await elastic_constants(evaluate, crystal, constants=constants)
    completed(2)
    curve = await equation_of_state(evaluate, crystal, constants=constants)
    completed(3)
    frequencies = await phonons(evaluate, crystal, length=length) if length else {}
    completed(4)
    formation_energy, trouble = await _vacancy(evaluate, crystal, vacancy)
    completed(5)
    a, b, c, alpha, beta, gamma = (float(x) for x in Cell(crystal.cell).cellpar())
    return BulkProperties(
        energy=(await evaluate(crystal)).energy / len(crystal),
        volume=crystal.volume / len(crystal),
        lengths=(a, b, c),
        angles=(alpha, beta, gamma),
        cell=crystal.cell.tolist(),
        positions=crystal.positions.tolist(),
        elastic=elastic.matrix.tolist(),
        cubic=elastic.cubic,
        bulk_modulus=elastic.bulk_modulus,
        phonons={name: values.tolist() for name, values in frequencies.items()},
        curve=(curve.volume.tolist(), curve.energy.tolist()),
        vacancy=formation_energy,
        trouble=trouble,
    )


async def _vacancy(evaluate: EvaluateFn, crystal: Frame, atoms: int) -> tuple[float | None, str]:
    """Formation energy, eV, or None and the reason: a poor potential may have no stable vacancy."""
    if not atoms:
        return None, ""
    try:
        return (await relaxed_vacancy(evaluate, crystal, atoms=atoms))[0], ""
    except ConfigError as error:
        return None, f"vacancy: {error}"
