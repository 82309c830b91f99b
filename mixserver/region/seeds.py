"""Where a region starts: at atoms, at a body fixed in space, or where a criterion says.

Seeds know atoms and distances. How lambda falls with the distance, and what is remembered from one
evaluation to the next, is decided by the region model.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from mixserver.core.arrays import Indices, Mask, Matrix, Numbers, Scalars, Vectors
from mixserver.core.errors import ConfigError
from mixserver.core.frame import Frame
from mixserver.geometry import (
    Deformation,
    DistanceResult,
    distances_to_atoms,
    distances_to_cylinder,
    distances_to_slab,
    distances_to_sphere,
)


class Seeds(Protocol):
    """What a region is built around."""

    def atoms(self, frame: Frame) -> Indices:
        """(s,) atoms that are seeds, ascending; empty for bodies fixed in space."""

    def near(self, frame: Frame, reach: float) -> DistanceResult:
        """Atoms within `reach` (Å) of a seed, or of a body's surface (inside: distance 0)."""


class AtomSeeds:
    """Seeds by atom index.

    Args:
        indices: counted from 0, in any order.

    Raises:
        ConfigError: an index is negative.
    """

    def __init__(self, indices: Iterable[int]) -> None:
        self._atoms: Indices = np.unique(np.fromiter(indices, dtype=np.intp))
        if len(self._atoms) and self._atoms[0] < 0:
            raise ConfigError(f"seeds are counted from 0, got atom {self._atoms[0]}")

    def atoms(self, frame: Frame) -> Indices:
        """(s,) the indices, ascending.

        Raises:
            ConfigError: the frame has no such atom.
        """
        if len(self._atoms) and self._atoms[-1] >= len(frame):
            raise ConfigError(
                f"atom {self._atoms[-1]} cannot be a seed: there are {len(frame)} atoms, "
                "counted from 0"
            )
        return self._atoms

    def near(self, frame: Frame, reach: float) -> DistanceResult:
        """Atoms within `reach` (Å) of a seed."""
        return distances_to_atoms(frame, self.atoms(frame), reach)


class SpeciesSeeds(AtomSeeds):
    """Seeds by chemical element.

    Args:
        numbers: (N,) atomic numbers of the atoms.
        elements: atomic numbers that are seeds.
    """

    def __init__(self, numbers: Numbers, elements: Iterable[int]) -> None:
        super().__init__(np.flatnonzero(np.isin(numbers, list(elements))))


class _BodySeeds:
    """A body fixed in space."""

    def atoms(self, frame: Frame) -> Indices:
        """No atoms: an empty array."""
        return np.empty(0, dtype=np.intp)


@dataclass(frozen=True)
class SphereSeeds(_BodySeeds):
    """A sphere fixed in space: its inside is core."""

    centre: Sequence[float]
    """Å, or fractions of the cell."""
    radius: float
    """Å."""
    fractional: bool = False
    cell: Matrix | None = field(default=None, compare=False)
    """(3, 3) Å, the cell in whose orientation a centre in Å is given: it turns with the cell, but
    does not stretch. None: it stays where it is."""

    def __post_init__(self) -> None:
        _positive(self.radius, "sphere")

    def near(self, frame: Frame, reach: float) -> DistanceResult:
        """Atoms within `reach` (Å) of the surface, or inside."""
        return distances_to_sphere(frame, _point(frame, self), self.radius, reach)


@dataclass(frozen=True)
class CylinderSeeds(_BodySeeds):
    """An endless cylinder along a lattice vector, fixed in space: its inside is core."""

    axis: int
    """0, 1 or 2: the lattice vector along which it runs."""
    centre: Sequence[float]
    """A point on its axis: Å, or fractions of the cell."""
    radius: float
    """Å."""
    fractional: bool = False
    cell: Matrix | None = field(default=None, compare=False)
    """(3, 3) Å, the cell in whose orientation a centre in Å is given; see `SphereSeeds`."""

    def __post_init__(self) -> None:
        _positive(self.radius, "cylinder")

    def near(self, frame: Frame, reach: float) -> DistanceResult:
        """Atoms within `reach` (Å) of the surface, or inside."""
        return distances_to_cylinder(frame, self.axis, _point(frame, self), self.radius, reach)


@dataclass(frozen=True)
class SlabSeeds(_BodySeeds):
    """A slab between two lattice planes, fixed in the cell: its inside is core."""

    axis: int
    """0, 1 or 2: the lattice vector that crosses it."""
    low: float
    """Fraction of the cell along `axis`."""
    high: float
    """Likewise; may be above 1 for a slab across the boundary."""

    def __post_init__(self) -> None:
        if not (math.isfinite(self.low) and math.isfinite(self.high) and self.low < self.high):
            raise ConfigError(
                f"a slab needs low < high (fractions of the cell), got {self.low} and {self.high}; "
                "across the boundary of the cell it is, say, from 0.9 to 1.1"
            )

    def near(self, frame: Frame, reach: float) -> DistanceResult:
        """Atoms within `reach` (Å) of a face, or inside."""
        return distances_to_slab(frame, self.axis, self.low, self.high, reach)


@dataclass(frozen=True)
class CriterionSeeds:
    """Seeds are the atoms for which a time-averaged per-atom value lies within bounds.

    Seeds are selected again every `every` evaluations, from the mean of `samples` samples that lie
    `sample_every` evaluations apart and end with the selection. The first evaluation selects from
    itself alone, unless `initial` names the first seeds: then the first selection comes `every`
    evaluations later. So the system never has to be all expensive before the first selection.
    """

    compute: str
    """What workers evaluate, e.g. "coord/atom cutoff 2.9"; only passed on."""
    low: float = -math.inf
    high: float = math.inf
    """Seeds have low <= mean <= high."""
    every: int = 1
    """Evaluations between two selections."""
    sample_every: int = 1
    """Evaluations between two samples."""
    samples: int = 1
    """Samples in the mean."""
    initial: Sequence[int] | None = None
    """Seeds until the first selection."""
    eligible: Mask | None = None
    """(N,) atoms that may become seeds; None for all."""

    def __post_init__(self) -> None:
        if not self.compute.strip():
            raise ConfigError("a criterion needs a compute, e.g. 'coord/atom cutoff 2.9'")
        if not self.low <= self.high:
            raise ConfigError(f"a criterion needs low <= high, got {self.low} and {self.high}")
        if min(self.every, self.sample_every, self.samples) < 1:
            raise ConfigError("a criterion's every, sample_every and samples are at least 1")
        if self.samples * self.sample_every > self.every:
            raise ConfigError(
                f"{self.samples} samples, {self.sample_every} evaluations apart, do not fit "
                f"between two selections {self.every} evaluations apart: raise "
                f"region.seeds.every to {self.samples * self.sample_every} or more"
            )

    def selects_at(self, evaluation: int) -> bool:
        """Whether seeds are selected at this evaluation (the first is 0)."""
        return evaluation % self.every == 0 and not (evaluation == 0 and self.initial is not None)

    def samples_at(self, evaluation: int) -> bool:
        """Whether this evaluation's values enter a selection, now or later."""
        before = -evaluation % self.every
        if before == 0:
            return self.selects_at(evaluation)
        return before % self.sample_every == 0 and before // self.sample_every < self.samples

    def select(self, mean: Scalars) -> Indices:
        """(s,) atoms whose mean value (N,) lies within the bounds. NaN never does."""
        chosen = (mean >= self.low) & (mean <= self.high)
        if self.eligible is not None:
            if len(self.eligible) != len(mean):
                raise ValueError(
                    f"a criterion over {len(self.eligible)} atoms got {len(mean)} values"
                )
            chosen &= self.eligible
        return np.flatnonzero(chosen)


def _positive(radius: float, what: str) -> None:
    if not (math.isfinite(radius) and radius >= 0.0):
        raise ConfigError(f"the radius of a {what} must be 0 Å or more, got {radius}")


def _point(frame: Frame, body: SphereSeeds | CylinderSeeds) -> Vectors:
    """The centre of a body at a frame, (3,) Å."""
    place: Vectors = np.asarray(body.centre, dtype=np.float64)
    if body.fractional:
        return place @ frame.cell
    return place if body.cell is None else Deformation.between(body.cell, frame.cell).rotate(place)
