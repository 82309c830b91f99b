"""SNAP with weighted site energies: LAMMPS gets one atom type per weight.

PairSNAP multiplies site energy and forces of an atom of type t by scale[t][t], a matrix that LAMMPS
lets us write ("scale"). SNAP on Kokkos ignores the matrix; there the coefficients themselves are
multiplied, and LAMMPS reads them again whenever a weight has changed ("coefficients").
"""

from __future__ import annotations

import contextlib
from dataclasses import replace
from pathlib import Path
from typing import Literal, TypeAlias

import numpy as np

from mixserver.core.arrays import Scalars
from mixserver.core.scratch import scratch_directory
from mixserver_worker.engine import EngineResult
from mixserver_worker.engines.lammps.mpi import RankJob, Ranks
from mixserver_worker.engines.lammps.setup import PotentialSetup
from mixserver_worker.engines.lammps.text import words_of
from mixserver_worker.engines.lammps.weighting.atom_types import AtomTypes, TypeAssignment
from mixserver_worker.engines.lammps.weighting.split_styles import SnapTerm
from mixserver_worker.engines.lammps.weighting.weighted_instance import (
    WeightedInstance,
    unweighted,
    weights_of,
)

SnapMethod: TypeAlias = Literal["scale", "coefficients"]


class WeightedSnap(WeightedInstance):
    """LAMMPS with one SNAP whose site energies are weighted.

    Args:
        setup: of the unweighted potential; its commands are not used.
        snap: the SNAP.
        method: how LAMMPS gets the weights.
        reach: Å, the cutoff of the SNAP or more.
        job: the first evaluation, with weights.
        ranks: as of `LammpsInstance`, which names the errors, too.
    """

    def __init__(
        self,
        setup: PotentialSetup,
        snap: SnapTerm,
        method: SnapMethod,
        reach: float,
        job: RankJob,
        ranks: Ranks,
    ) -> None:
        weights = weights_of(job)
        elements = [setup.numbers[type_] for type_ in snap.visible]
        self.types = AtomTypes(elements, job.numbers, weights, reach)
        self._snap, self._assigned = snap, self.types.assign(job, weights)
        self._file = _CoefficientFile(snap, self.types.room) if method == "coefficients" else None
        typed = replace(
            setup,
            after_box=(*snap.style_commands(), *self._coefficients(self._assigned.scale)),
            numbers=(1,) * (len(self._assigned.scale) - 1),
        )
        try:
            super().__init__(typed, job, ranks, types=self._assigned.types)
        except BaseException:
            if self._file is not None:
                self._file.close()
            raise

    def close(self) -> None:
        """End LAMMPS."""
        super().close()
        if self._file is not None:
            self._file.close()

    def evaluate(self, job: RankJob) -> EngineResult:
        """Evaluate positions and weights of the same atoms; see `LammpsInstance.evaluate`.

        Raises:
            TooManyWeights: an instance with more atom types is needed.
        """
        weights = weights_of(job)
        set_up = self._write_weights(self.types.assign(job, weights))
        return unweighted(self._evaluate_weighted(job, set_up=set_up), weights)

    def _write_weights(self, new: TypeAssignment) -> bool:
        """Write types and weights into LAMMPS; returns whether a full set-up is needed."""
        old, self._assigned = self._assigned, new
        # LAMMPS chooses neighbours by class; types of the same class have the same neighbours.
        set_up = not np.array_equal(new.classes, old.classes)
        rows = self.library.atom_indices()
        if len(rows) and rows.max() < len(new.types):  # otherwise atoms were lost: found later
            self.library.types()[:] = new.types[rows]
        if self._file is None:
            np.fill_diagonal(self.library.pair_matrix("scale"), new.scale)
            return set_up
        if np.array_equal(new.scale, old.scale) and np.array_equal(new.types, old.types):
            return set_up
        for text in self._coefficients(new.scale):
            self.library.command(text)
        return True

    def _coefficients(self, scale: Scalars) -> tuple[str, ...]:
        if self._file is None:
            return self._snap.coefficient_commands(self.types.room)
        return self._snap.coefficient_commands(self.types.room, *self._file.write(scale))


class _CoefficientFile:
    """A file with one block of coefficients per atom type, multiplied by its weight."""

    def __init__(self, snap: SnapTerm, room: tuple[int, ...]) -> None:
        self._folder = contextlib.ExitStack()
        self._file = Path(self._folder.enter_context(scratch_directory()), "weighted.snapcoeff")
        source, self._parameters = words_of(snap.files)
        lines = [line.split("#")[0].split() for line in Path(source).read_text().splitlines()]
        words = [word for line in lines for word in line]
        elements, width = int(words[0]), 3 + int(words[1])
        starts = range(2, 2 + elements * width, width)
        blocks = {words[at]: words[at + 1 : at + width] for at in starts}
        names = snap.names_of_types(room)
        self._heads = [" ".join(blocks[name][:2]) for name in names]
        values = {name: np.array([float(word) for word in blocks[name][2:]]) for name in blocks}
        self._values = np.array([values[name] for name in names])

    def write(self, scale: Scalars) -> tuple[str, tuple[str, ...]]:
        """Write the file; returns the files for pair_coeff and the block of type 2, 3, ..."""
        weighted = self._values * scale[2:, None]
        names = tuple(f"t{k}" for k in range(2, len(scale)))
        text = [f"# weighted\n{len(names)} {weighted.shape[1]}\n"]
        for name, head, row in zip(names, self._heads, weighted.tolist(), strict=True):
            text.append(f"{name} {head}\n" + "\n".join(map(repr, row)) + "\n")
        self._file.write_text("".join(text))
        return f'"{self._file}" "{self._parameters}"', names

    def close(self) -> None:
        """Remove the file."""
        self._folder.close()
