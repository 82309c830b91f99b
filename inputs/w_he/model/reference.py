"""The potential of a file of LAMMPS commands as an ASE calculator."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from ase.calculators.calculator import Calculator, all_changes
from mixserver_worker.engines.lammps.engine import LammpsEngine

from mixserver.wire.worker import Evaluate


class Reference(Calculator):  # type: ignore[misc]  # ASE is untyped
    """The potential of a file of LAMMPS commands, for ASE."""

    implemented_properties = ("energy", "forces", "stress")

    def __init__(self, commands: Path) -> None:
        super().__init__()
        self._engine = LammpsEngine(commands)

    def close(self) -> None:
        """End LAMMPS."""
        self._engine.close()

    def calculate(
        self,
        atoms: Any = None,
        properties: Any = None,
        system_changes: Any = all_changes,
    ) -> None:
        """Evaluate, as ASE asks for it."""
        super().calculate(atoms, properties, system_changes)
        answer = self._engine.evaluate(
            Evaluate(
                job=0,
                stream=0,
                positions=np.ascontiguousarray(self.atoms.positions),
                numbers=self.atoms.numbers.astype(np.int32),
                cell=np.array(self.atoms.cell),
                pbc=(True, True, True),
            )
        )
        stress = -answer.virial / self.atoms.get_volume()
        self.results = {
            "energy": answer.energy,
            "forces": answer.forces,
            "stress": stress.flat[[0, 4, 8, 5, 2, 1]],
        }
