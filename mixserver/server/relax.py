"""Relaxation of a structure at constant cell with mixed forces, which have no energy.

The optimiser is ASE's FIRE, which follows forces alone. Its steps are made one by one, and between
them the forces are awaited, so no thread is needed. Crystals of one model are relaxed by
`mixserver.analysis.bulk.relaxation`, with energies and fewer evaluations.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final

import numpy as np
from ase import Atoms

from mixserver.core.arrays import Vectors
from mixserver.core.errors import ConfigError
from mixserver.core.frame import Frame
from mixserver.core.structures import as_atoms

FORCE: Final = 1e-3
"""eV/Å, the default for the largest remaining force."""
STEPS: Final = 1000

Forces = Callable[[Frame], Awaitable[Vectors]]


async def relaxed(start: Frame, forces: Forces, *, largest: float = FORCE) -> Frame:
    """The frame after relaxation at constant cell.

    Args:
        start: where to begin.
        forces: evaluates (N, 3) eV/Å at a frame; they need not be the gradient of an energy.
        largest: eV/Å; converged when no atom has a larger force.

    Raises:
        ConfigError: the relaxation does not converge.
    """
    from ase.calculators.singlepoint import SinglePointCalculator  # noqa: PLC0415 - heavy
    from ase.optimize import FIRE  # noqa: PLC0415

    atoms: Atoms = as_atoms(start)
    with FIRE(atoms, logfile=None) as optimiser:  # older versions of ASE leave its log open
        for step in range(STEPS + 1):
            frame = start.topology.frame(np.array(atoms.positions), start.cell)
            now = await forces(frame)
            left = float(np.linalg.norm(now, axis=1).max())
            if left < largest:
                return frame
            if step < STEPS:
                atoms.calc = SinglePointCalculator(atoms, forces=now)
                optimiser.step()
    raise ConfigError(
        f"the structure does not come to rest within {STEPS} steps: the largest force is still "
        f"{left:.3g} eV/Å, above {largest} eV/Å. Relax it first, or set mixing.dead_loads = "
        "'structure'"
    )
