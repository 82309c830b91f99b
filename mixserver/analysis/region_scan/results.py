"""What a scan of radii measured."""

from __future__ import annotations

from typing import Literal

import msgspec


class Errors(msgspec.Struct, frozen=True):
    """Root mean square of |F - F of the all-expensive answer|, eV/Å; None where no atom is."""

    seeds: float | None
    """Over the seed atoms."""
    inner: float | None
    """Over the atoms that are core in all points of the scan."""
    outer: float | None
    """Over the atoms that are core or blend in any point."""
    all: float
    """Over all atoms."""


class ScanPoint(msgspec.Struct, frozen=True):
    """One pair of radii."""

    core_radius: float
    """Å."""
    blend_width: float
    """Å."""
    core: int
    """Atoms with lambda = 1."""
    blend: int
    """Atoms with 0 < lambda < 1."""
    sent: int
    """Atoms in the jobs of the expensive model."""
    ms_cheap: float | None = None
    ms_expensive: float | None = None
    ms: float | None = None
    """Median time of an evaluation: the slower model's."""
    errors: Errors | None = None
    problem: str = ""
    """Why it could not be measured."""


class Scan(msgspec.Struct, frozen=True):
    """Cost and force error for many radii, at one frame."""

    atoms: int
    kind: Literal["energy", "force"]
    """Of the mixing."""
    displacement: float
    """Å, standard deviation of the random displacements from the structure, per coordinate."""
    case: tuple[float, float]
    """Core radius and blend width of the case, Å."""
    expensive_ms: float
    """All atoms with the expensive model, evaluated once."""
    cheap_ms: float
    """All atoms with the cheap model alone."""
    cheap_errors: Errors
    """Of the cheap model alone."""
    points: tuple[ScanPoint, ...]

    @property
    def measured(self) -> list[tuple[ScanPoint, float, Errors]]:
        """The points that were measured, with time and errors."""
        return [
            (point, point.ms, point.errors)
            for point in self.points
            if point.ms is not None and point.errors is not None
        ]

    @property
    def judged_by(self) -> str:
        """Which of the errors tells the points apart: "inner", or "outer" where it does not.

        Under force mixing forces in the core are those of the expensive model, but for the removal
        of the net force, so that only the forces around it differ.
        """
        known = all(errors.inner is not None for _, _, errors in self.measured)
        return "inner" if self.kind == "energy" and known else "outer"

    def error(self, errors: Errors) -> float | None:
        """The error that `judged_by` names."""
        return errors.inner if self.judged_by == "inner" else errors.outer

    def best(self) -> list[ScanPoint]:
        """The points to which no other is both faster and more accurate, the fastest first."""
        known = [
            (ms, error, point)
            for point, ms, errors in self.measured
            if (error := self.error(errors)) is not None
        ]
        found: list[ScanPoint] = []
        least = float("inf")
        for _, error, point in sorted(known, key=lambda one: one[:2]):
            if error < least:
                found.append(point)
                least = error
        return found
