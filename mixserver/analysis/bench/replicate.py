"""A case made larger: its structure repeated, its region in the first copy only."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import ase
import ase.data
import ase.io
import msgspec
import numpy as np

from mixserver.analysis.bench.engines import ONCE
from mixserver.analysis.bench.server_process import ADDRESS
from mixserver.analysis.bench.workloads import Workload
from mixserver.config import Case, Config, ExpensiveModel, Local, Model, Models, Upstream
from mixserver.config.region_schema import (
    AtomSeeds,
    CriterionSeeds,
    Seeds,
    SpeciesSeeds,
    SphereSeeds,
)
from mixserver.core.errors import ConfigError
from mixserver.server.reference.structure import read_reference
from mixserver.wire.worker import Role


@dataclass(frozen=True, slots=True)
class LargerCase:
    """A case with its structure repeated."""

    case: Case
    workload: Workload
    structure: Path
    """The repeated structure."""
    repeats: tuple[int, int, int]
    seeds: Seeds
    """In the first copy."""

    def mixed(
        self,
        *,
        core_radius: float | None = None,
        blend_width: float | None = None,
        connections: int = 1,
        local: Sequence[Local] | None = None,
    ) -> Config:
        """Its settings, without records, status, fingerprints and hysteresis.

        Args:
            core_radius: Å; None as in the case.
            blend_width: Å; None as in the case.
            connections: how many beads are evaluated at the same time.
            local: the workers; None for those of the case.
        """
        config = self.case.config
        assert config.region is not None  # noqa: S101 - `enlarge` refuses others
        region = msgspec.structs.replace(
            config.region,
            seeds=self.seeds,
            hysteresis=None,
            core_radius=config.region.core_radius if core_radius is None else core_radius,
            blend_width=config.region.blend_width if blend_width is None else blend_width,
        )
        cheap, expensive = config.models.cheap, config.models.expensive
        return Config(
            upstream=self._upstream(connections),
            models=Models(
                cheap=cheap and msgspec.structs.replace(cheap, fingerprint=""),
                expensive=expensive and msgspec.structs.replace(expensive, fingerprint=""),
            ),
            region=region,
            mixing=msgspec.structs.replace(config.mixing, bulk=None),
            workers=ONCE,
            local=tuple(self.workers() if local is None else local),
            limits=config.limits,
        )

    def alone(self, role: Role, local: Sequence[Local]) -> Config:
        """Settings with one model for all atoms."""
        one = Models(cheap=Model()) if role == "cheap" else Models(expensive=ExpensiveModel())
        return Config(upstream=self._upstream(1), models=one, workers=ONCE, local=tuple(local))

    def workers(self, role: Role | None = None) -> list[Local]:
        """The case's local workers, of one role or all, with absolute paths."""
        return [
            msgspec.structs.replace(one, command=self._absolute(one.command), restarts=0)
            for one in self.case.config.local
            if role in (None, one.role)
        ]

    def _upstream(self, connections: int) -> Upstream:
        return Upstream(
            structure=str(self.structure), address=f"unix:{ADDRESS}", connections=connections
        )

    def _absolute(self, command: Sequence[str]) -> tuple[str, ...]:
        """A command whose words for files do not depend on the folder."""
        folder = self.case.folder.resolve()
        return tuple(
            str((folder / word).resolve())
            if not word.startswith("-") and (folder / word).is_file()
            else word
            for word in command
        )


def enlarge(case: Case, atoms: int, folder: Path) -> LargerCase:
    """Repeat the structure of a case along its periodic axes, to about so many atoms.

    Args:
        case: it mixes two models with [[local]] workers.
        atoms: the number of atoms that is wanted.
        folder: where the structure is written.

    Raises:
        ConfigError: the case has no region or no local worker of a role, or its seeds cannot be
            kept in the first copy.
    """
    config = case.config
    if config.region is None or config.models.cheap is None or config.models.expensive is None:
        raise ConfigError(f"{case.file} has no [region] with two models, so there is nothing mixed")
    for role in ("cheap", "expensive"):
        if not any(one.role == role for one in config.local):
            raise ConfigError(
                f"{case.file} has no [[local]] worker with role = {role!r}, so that model cannot "
                "be measured here; add one with its command"
            )
    topology, frame = read_reference(case)
    unit = ase.Atoms(
        numbers=topology.numbers, positions=frame.positions, cell=frame.cell, pbc=topology.pbc
    )
    if not all(topology.pbc):
        raise ConfigError(
            f"{case.structure} is not periodic in all directions, so it cannot be made larger here"
        )
    repeats = _repeats(np.linalg.norm(unit.cell.array, axis=1), atoms / len(unit))
    larger = unit * repeats
    structure = folder / "structure.xyz"
    ase.io.write(structure, larger, format="extxyz")
    workload = Workload(
        f"{case.file.parent.resolve().name}",
        np.array(larger.positions, dtype=np.float64),
        np.array(larger.numbers, dtype=np.int32),
        np.array(larger.cell, dtype=np.float64),
        None,
    )
    seeds = _seeds_of_first(config.region.seeds, unit)
    return LargerCase(case, workload, structure, repeats, seeds)


def _repeats(edges: Sequence[float], wanted: float) -> tuple[int, int, int]:
    """Numbers of copies along the axes: about so many in all, and the cell nearly a cube."""
    most = round(max(1.0, wanted) ** (1.0 / 3.0) * 2) + 2
    lengths = np.asarray(edges)

    def cost(n: tuple[int, ...]) -> float:
        box = lengths * n
        size = abs(np.log(np.prod(n) / max(1.0, wanted)))
        return float(size + 0.15 * (box.max() / box.min() - 1.0))

    a, b, c = min(itertools.product(range(1, most), repeat=3), key=cost)
    return a, b, c


def _seeds_of_first(seeds: Seeds, unit: ase.Atoms) -> Seeds:
    """Seeds that mean in the repeated structure what they mean in one copy of it."""
    match seeds:
        case AtomSeeds() | SphereSeeds(fractional=False):
            return seeds
        case SpeciesSeeds(elements=elements):
            numbers = [ase.data.atomic_numbers[one] for one in elements]
            found = np.flatnonzero(np.isin(unit.numbers, numbers))
            return AtomSeeds(indices=tuple(int(at) for at in found))
        case CriterionSeeds(initial=tuple() as initial) if initial:
            return AtomSeeds(indices=initial)
        case _:
            raise ConfigError(
                f"seeds of this kind ({type(seeds).__name__}) would grow with the structure, so "
                "the case cannot be repeated. Use seeds of kind atoms, species, a sphere with a "
                "centre in Å, or a criterion with `initial`"
            )


def mace_model(local: Sequence[Local], folder: Path) -> tuple[Path, str] | None:
    """The file of a case's MACE model and its precision; None if its workers are others."""
    for one in local:
        if one.command[0] == "mace" and len(one.command) > 1:
            words = list(one.command)
            dtype = words[words.index("--dtype") + 1] if "--dtype" in words[:-1] else "float64"
            return (folder / words[1]).resolve(), dtype
    return None
