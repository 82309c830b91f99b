"""What it costs to take an atom out of a crystal."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

import numpy as np

from mixserver.crystal.asking import Ask
from mixserver.crystal.inside import relaxed_inside
from mixserver.crystal.supercell import for_atoms, repeated
from mixserver.errors import ConfigError
from mixserver.frame import Frame, Topology

ATOMS: Final = 200
"""At least, before one is taken out."""
FORCE: Final = 1e-3
"""eV/Å; the energy is then right to about 1e-5 eV."""
_SHAKE: Final = 0.01
"""Å, by which atoms are moved first, so that a symmetry that costs energy is not kept."""


@dataclass(frozen=True, eq=False)
class Vacancy:
    """A supercell without one of its atoms."""

    formation_energy: float
    """eV, E_v - (N - 1)/N E_bulk, at constant volume."""
    unrelaxed: float
    """eV, the same before the atoms relax."""
    frame: Frame = field(repr=False)
    """The N - 1 atoms at rest."""


async def vacancy_formation_energy(
    ask: Ask, crystal: Frame, *, atoms: int = ATOMS, atom: int = 0
) -> float:
    """Energy (eV) of a vacancy, relaxed in a cell that is held; see `relaxed_vacancy`."""
    return (await relaxed_vacancy(ask, crystal, atoms=atoms, atom=atom)).formation_energy


async def relaxed_vacancy(
    ask: Ask, crystal: Frame, *, atoms: int = ATOMS, atom: int = 0, force: float = FORCE
) -> Vacancy:
    """Take an atom out of a supercell and let the others relax.

    In a crystal of several elements the atom goes to where atoms have the crystal's mean energy,
    which two models can be compared by; it is no chemical potential.

    Args:
        ask: the model.
        crystal: at rest.
        atoms: of the supercell, at least.
        atom: which of the crystal's own atoms is taken out.
        force: eV/Å, below which the largest force counts as none.

    Raises:
        ConfigError: there is no such atom, the supercell is too small for a vacancy, or the atoms
            do not come to rest.
    """
    if not 0 <= atom < len(crystal):
        raise ConfigError(f"there is no atom {atom} to take out of a crystal of {len(crystal)}")
    whole = repeated(crystal, for_atoms(crystal, atoms))
    if len(whole) < 2:
        raise ConfigError("taking an atom out of 1 leaves nothing; ask for more atoms")
    kept = np.delete(np.arange(len(whole)), atom)
    topology = Topology(whole.topology.numbers[kept], whole.topology.pbc)
    around = topology.frame(whole.positions[kept], whole.cell)
    shaken = np.random.default_rng(1).normal(scale=_SHAKE, size=around.positions.shape)
    start = topology.frame(around.positions + shaken, whole.cell)
    bulk = len(kept) * (await ask(crystal)).energy / len(crystal)
    unrelaxed = (await ask(around)).energy
    rest = await relaxed_inside(ask, start, force=force)
    return Vacancy((await ask(rest)).energy - bulk, unrelaxed - bulk, rest)
