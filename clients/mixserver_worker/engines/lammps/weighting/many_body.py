"""A many-body potential with weighted site energies: EAM, Stillinger-Weber, Tersoff, UF3, ...

`counted_files` writes its file with elements whose sites count or do not. One instance of LAMMPS
has all atoms, and the sites of weight 1 count; sites of any other weight have clusters of their own
in `environments`, whose forces are multiplied by their weights.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mixserver.core.arrays import Scalars
from mixserver.core.scratch import scratch_directory
from mixserver_worker.engine import EngineResult
from mixserver_worker.engines.lammps.instance import LammpsInstance
from mixserver_worker.engines.lammps.mpi import RankJob, Ranks
from mixserver_worker.engines.lammps.setup import PotentialSetup
from mixserver_worker.engines.lammps.weighting.atom_types import (
    COUNTED,
    AtomTypes,
    TypeAssignment,
    elements_of_types,
    no_pairs_of_zeros,
    type_of,
)
from mixserver_worker.engines.lammps.weighting.counted_files import (
    EVERY_TYPE,
    FORMATS,
    Counted,
)
from mixserver_worker.engines.lammps.weighting.environments import Environments
from mixserver_worker.engines.lammps.weighting.split_styles import SHORT, ManyBodyTerm
from mixserver_worker.engines.lammps.weighting.visibility import NEIGHBOUR
from mixserver_worker.engines.lammps.weighting.weighted_instance import (
    WeightedInstance,
    site_energies_of,
    weights_of,
)


@dataclass(frozen=True, slots=True)
class CountedPotential:
    """A many-body term whose sites count or do not, for LAMMPS."""

    setup: PotentialSetup
    """Of the unweighted potential; its commands are not used."""
    term: ManyBodyTerm
    cutoff: float
    """Å, of this term or more."""
    as_lammps: bool = False
    """Whether LAMMPS divides the energy among atoms in the same way."""

    def elements(self) -> list[int]:
        """Atomic numbers that it knows, in the order of its types."""
        return [self.setup.numbers[type_] for type_ in self.term.visible]

    def counted(self) -> list[Counted]:
        """The element of atom type 1, 2, ... in the file that `write` writes."""
        names = [name for name in self.term.names if name is not None]
        own = self.term.name in EVERY_TYPE
        made = [Counted("none" if own else _label(0, False), names[0], False)]
        for type_, element in enumerate(elements_of_types((0,) * len(names)), 2):
            counts = type_ == type_of(element, COUNTED)
            label = f"type{type_}" if own else _label(element, counts)
            made.append(Counted(label, names[element], counts))
        return made

    def commands(self, file: Path) -> tuple[str, ...]:
        """Commands for atom types as of `AtomTypes` without spare ones."""
        return (
            *self.term.common,
            f"pair_style hybrid/overlay zero {SHORT} {self.term.style}",
            "pair_coeff * * zero",
            f'pair_coeff * * {self.term.name} "{file}" '
            + " ".join(element.label for element in self.counted()),
            # Type 1 is invisible: it has the name of an element, but no pairs.
            "pair_coeff 1 * none",
            "pair_coeff 1 * zero",
            *no_pairs_of_zeros(len(self.term.visible)),
        )

    def write(self, file: Path) -> None:
        """Write the file of coefficients.

        Raises:
            UnknownFormat: the user's file is not as LAMMPS documents it.
        """
        text = Path(self.term.file).read_text(errors="replace")
        elements = list(dict.fromkeys(self.counted()))
        file.write_text(FORMATS[self.term.name](text, elements))


def _label(element: int, counts: bool) -> str:
    return f"X{element}{'yes' if counts else 'no'}"


class _Counted(WeightedInstance):
    """LAMMPS with all atoms, of which the sites of weight 1 count."""

    def __init__(
        self, potential: CountedPotential, file: Path, job: RankJob, counted: Scalars, ranks: Ranks
    ) -> None:
        self.types = AtomTypes(
            potential.elements(), job.numbers, counted, potential.cutoff, spare=False
        )
        self._assigned: TypeAssignment = self.types.assign(job, counted)
        types = self._assigned.types
        super().__init__(_typed(potential, file), job, ranks, types=types)

    def evaluate_counted(self, job: RankJob, counted: Scalars) -> EngineResult:
        """Evaluate sites whose weight is 1, the others being 0."""
        old, self._assigned = self._assigned, self.types.assign(job, counted)
        new = self._assigned
        if not np.array_equal(new.types, old.types):
            self._write_types(new.types)
        return self._evaluate_weighted(job, set_up=not np.array_equal(new.classes, old.classes))


class WeightedManyBody:
    """LAMMPS instances of a many-body term.

    Args:
        potential: the term.
        job: the first evaluation, with weights.
        ranks: all of them construct it and call `evaluate` together.

    Raises:
        UnknownFormat: its file is not as LAMMPS documents it.
        BadInput, LammpsError: as of `LammpsInstance`.
    """

    def __init__(self, potential: CountedPotential, job: RankJob, ranks: Ranks) -> None:
        self._potential, self._ranks = potential, ranks
        known = np.isin(job.numbers, potential.elements())
        self.environments, self._unit_sites = (
            Environments(self._make, known, potential.cutoff, potential.setup.skin, ranks)
            for _ in range(2)
        )
        """Sites of weights other than 0 and 1; those of weight 1 where their energies are wanted
        and LAMMPS divides energies otherwise."""
        self.plain: LammpsInstance | None = None
        """Unweighted, for site energies where LAMMPS divides them likewise."""
        with contextlib.ExitStack() as folder:
            self._file = Path(folder.enter_context(scratch_directory()), "counted")
            potential.write(self._file)
            ones = _ones_of(weights_of(job))
            self.counted = _Counted(potential, self._file, job, ones, ranks)
            self._folder = folder.pop_all()

    def close(self) -> None:
        """End all LAMMPS instances."""
        self.counted.close()
        self.environments.close()
        self._unit_sites.close()
        if self.plain is not None:
            self.plain.close()
        self.plain = None
        self._folder.close()

    def evaluate(self, job: RankJob) -> list[EngineResult]:
        """Evaluate positions and weights of the same atoms; see `LammpsInstance.evaluate`."""
        weights = weights_of(job)
        ones = _ones_of(weights)
        bare = replace(job, energies=False)
        others = np.where(ones == 1.0, 0.0, weights)
        parts = [self.environments.evaluate(bare, others)]
        if ones.any():
            parts.append(self.counted.evaluate_counted(bare, ones))
        if job.energies:
            energies = self._site_energies(bare, ones, parts[0])
            parts = [replace(one, energies=np.zeros(len(weights))) for one in parts]
            parts[0] = replace(parts[0], energies=energies)
        return parts

    def _site_energies(self, job: RankJob, ones: Scalars, others: EngineResult) -> Scalars:
        if not ones.any():
            return site_energies_of(others)
        if not self._potential.as_lammps:
            return site_energies_of(others) + site_energies_of(self._unit_sites.evaluate(job, ones))
        if self.plain is None:
            setup = self._potential.setup
            self.plain = LammpsInstance(
                setup.on_host(self._potential.term.alone(), site_energies=True), job, self._ranks
            )
        return site_energies_of(self.plain.evaluate(replace(job, energies=True, weight=None)))

    def _make(self, job: RankJob, central: NDArray[np.bool_]) -> LammpsInstance:
        """An instance of clusters around central atoms."""
        types = np.zeros(len(central), np.int32)
        for k, number in enumerate(self._potential.elements()):
            types[job.numbers == number] = type_of(k, NEIGHBOUR)
            types[(job.numbers == number) & central] = type_of(k, COUNTED)
        return LammpsInstance(_typed(self._potential, self._file), job, self._ranks, types=types)


def _typed(potential: CountedPotential, file: Path) -> PotentialSetup:
    setup = potential.setup.on_host(potential.commands(file), site_energies=True)
    return replace(setup, numbers=(1,) * len(potential.counted()))


def _ones_of(weights: Scalars) -> Scalars:
    """(n,) 1 where the weight is 1, else 0."""
    ones: Scalars = (weights == 1.0).astype(np.float64)
    return ones
