"""Vacancy formation energy of a crystal."""

from __future__ import annotations

from typing import Final

import numpy as np

from mixserver.analysis.bulk.evaluate import EvaluateFn
from mixserver.analysis.bulk.relaxation import relax_atoms
from mixserver.analysis.bulk.supercell import repeated, repeats_for_atoms, without_atom
from mixserver.core.errors import ConfigError
from mixserver.core.frame import Frame

ATOMS: Final = 200
"""Of the supercell without a vacancy, at least."""
FORCE: Final = 1e-3
"""eV/Å; the energy is then right to about 1e-5 eV."""
_SHAKE: Final = 0.01
"""Å of random displacements before the relaxation, so that it can break symmetries."""


async def relaxed_vacancy(
    evaluate: EvaluateFn, crystal: Frame, *, atoms: int = ATOMS, atom: int = 0, force: float = FORCE
) -> tuple[float, Frame]:
    """Remove an atom from a supercell of a relaxed crystal and relax the others at constant volume.

    In a crystal of several elements the removed atom counts with the mean energy per atom of the
    crystal. That suffices to compare two models; it is not a chemical potential.

    Returns:
        The formation energy E_v - (N - 1)/N E_bulk (eV), and the N - 1 atoms, relaxed.

    Raises:
        ConfigError: there is no such atom, the supercell is too small for a vacancy, or the
            relaxation does not converge.
    """
    if not 0 <= atom < len(crystal):
        raise ConfigError(
            f"there is no atom {atom} to remove from a crystal of {len(crystal)} atoms"
        )
    whole = repeated(crystal, repeats_for_atoms(crystal, atoms))
    if len(whole) < 2:
        raise ConfigError("removing the only atom leaves nothing; ask for more atoms")
    removed = without_atom(whole, atom)
    shaken = removed.positions + np.random.default_rng(1).normal(0.0, _SHAKE, (len(removed), 3))
    start = removed.topology.frame(shaken, whole.cell)
    relaxed = await relax_atoms(evaluate, start, force=force)
    bulk = len(relaxed) * (await evaluate(crystal)).energy / len(crystal)
    return (await evaluate(relaxed)).energy - bulk, relaxed
