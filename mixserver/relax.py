"""Relaxing a structure with forces that somebody else evaluates, asynchronously.

The minimiser is ASE's; it runs on a thread and has its forces evaluated on the event loop.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, ClassVar, Final

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator, all_changes
from ase.optimize import FIRE

from mixserver.arrays import Vectors
from mixserver.errors import ConfigError
from mixserver.frame import Frame

FORCE: Final = 1e-3
"""eV/Å, below which the largest force counts as none."""
STEPS: Final = 1000

Forces = Callable[[Frame], Awaitable[Vectors]]


async def relaxed(start: Frame, forces: Forces, *, largest: float = FORCE) -> Frame:
    """The frame after relaxation at constant cell.

    FIRE goes by forces alone, so they need not have an energy.

    Args:
        start: where to begin.
        forces: evaluates (N, 3) eV/Å at a frame.
        largest: eV/Å of any atom, where it ends.

    Raises:
        ConfigError: it does not come to rest.
    """
    loop = asyncio.get_running_loop()
    atoms = Atoms(
        numbers=start.topology.numbers,
        positions=start.positions,
        cell=start.cell,
        pbc=start.topology.pbc,
    )

    def now() -> Frame:
        return start.topology.frame(np.array(atoms.positions), start.cell)

    class Asking(Calculator):  # type: ignore[misc]
        """Has forces evaluated on the event loop."""

        implemented_properties: ClassVar[list[str]] = ["energy", "forces"]

        def calculate(
            self,
            atoms: Any = None,
            properties: Any = None,
            system_changes: Any = all_changes,
        ) -> None:
            super().calculate(atoms, properties, system_changes)
            asked = asyncio.run_coroutine_threadsafe(_await(forces(now())), loop)
            # mixed forces have no energy; ASE wants one to write down, and for nothing else
            self.results = {"energy": 0.0, "forces": asked.result()}

    atoms.calc = Asking()
    minimiser = FIRE(atoms, logfile=None)
    if not await asyncio.to_thread(minimiser.run, fmax=largest, steps=STEPS):
        left = float(np.linalg.norm(atoms.calc.results["forces"], axis=1).max())
        raise ConfigError(
            f"the structure does not come to rest within {STEPS} steps: the largest force is still "
            f"{left:.3g} eV/Å, above {largest} eV/Å. Relax it first, or say mixing.dead_loads = "
            "'structure'"
        )
    return now()


async def _await(forces: Awaitable[Vectors]) -> Vectors:
    return await forces
