"""A pairwise potential with weighted site energies, evaluated by LAMMPS as an embedded-atom one.

`eam_tables` writes the potential as EAM tables. Each weight of an element gets an atom type of its
own, and LAMMPS multiplies by a matrix over pairs of types that it lets us write. Types and matrix
follow the weights without a new set-up.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

import numpy as np

from mixserver.core.scratch import scratch_directory
from mixserver_worker.engine import EngineResult
from mixserver_worker.engines.lammps.mpi import RankJob, Ranks
from mixserver_worker.engines.lammps.setup import PotentialSetup
from mixserver_worker.engines.lammps.weighting.atom_types import (
    AtomTypes,
    TypeAssignment,
    elements_of_types,
    no_pairs_of_zeros,
)
from mixserver_worker.engines.lammps.weighting.eam_tables import EamTables
from mixserver_worker.engines.lammps.weighting.split_styles import SHORT
from mixserver_worker.engines.lammps.weighting.weighted_instance import (
    WeightedInstance,
    unweighted,
    weights_of,
)

_IMPOSSIBLE: Final = 1e20
"""eV or eV/Å: only the walls at the inner ends of the tables exceed it."""


class BelowTables(Exception):
    """Two atoms are closer than the tables begin; `pairwise` must evaluate these positions."""


class PairAsEam(WeightedInstance):
    """LAMMPS with some pairs of elements of a pairwise potential, and weighted atoms.

    Args:
        setup: of the unweighted potential; its commands are not used.
        tables: the potential.
        job: the first evaluation, with weights.
        ranks: as of `LammpsInstance`, which names the errors, too.
    """

    def __init__(
        self, setup: PotentialSetup, tables: EamTables, job: RankJob, ranks: Ranks
    ) -> None:
        weights = weights_of(job)
        elements = [setup.numbers[type_ - 1] for type_ in tables.types]
        self.types = AtomTypes(elements, job.numbers, weights, tables.cutoff)
        self._assigned = self.types.assign(job, weights)
        names = [f"X{tables.types[k]}" for k in elements_of_types(self.types.room)]
        with scratch_directory() as folder:
            file = Path(folder, "pairs.eam.fs")
            file.write_text(tables.text())
            typed = setup.on_host(_commands(file, names, len(elements)), site_energies=True)
            typed = replace(typed, numbers=(1,) * (1 + len(names)))
            super().__init__(typed, job, ranks, types=self._assigned.types)
        self._write_scale()

    @property
    def available(self) -> int:
        """Types of this instance."""
        return sum(self.types.room)

    def evaluate(self, job: RankJob) -> EngineResult:
        """Evaluate positions and weights of the same atoms; see `LammpsInstance.evaluate`.

        Raises:
            TooManyWeights: an instance with more atom types is needed.
            BelowTables: two atoms are closer than the tables begin.
        """
        weights = weights_of(job)
        set_up = self._write_weights(self.types.assign(job, weights))
        result = self._evaluate_weighted(job, set_up=set_up)
        largest = max(abs(result.energy), float(np.abs(result.forces).max(initial=0.0)))
        # Complete on rank 0 only. The comparison is written so that NaN is impossible too.
        if self._ranks.any(self._ranks.rank == 0 and not largest < _IMPOSSIBLE):
            raise BelowTables
        return unweighted(result, weights)

    def _write_weights(self, new: TypeAssignment) -> bool:
        """Write types and weights into LAMMPS; returns whether a full set-up is needed."""
        old, self._assigned = self._assigned, new
        if not np.array_equal(new.types, old.types):
            self._write_types(new.types)
        if not np.array_equal(new.scale, old.scale):
            self._write_scale()
        # LAMMPS chooses neighbours by class; types of the same class have the same neighbours.
        return not np.array_equal(new.classes, old.classes)

    def _write_scale(self) -> None:
        """Write the mean weight of each pair of types."""
        half = 0.5 * self._assigned.scale
        np.add.outer(half, half, out=self.library.pair_matrix("scale"))


def _commands(file: Path, names: Sequence[str], elements: int) -> tuple[str, ...]:
    return (
        f"pair_style hybrid/overlay eam/fs zero {SHORT}",
        "pair_coeff * * zero",
        f'pair_coeff * * eam/fs "{file}" NULL {" ".join(names)}',
        *no_pairs_of_zeros(elements),
    )
