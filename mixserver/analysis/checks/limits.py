"""Checks of what a run refuses at its start: models without workers, atoms that are too close."""

from __future__ import annotations

from typing import Final

from mixserver.analysis.checks.findings import Finding, Level
from mixserver.config import Case
from mixserver.core.errors import Implausible
from mixserver.core.frame import Frame
from mixserver.server.local_workers import models_without_workers
from mixserver.server.reference.packing import (
    COLLISION_FRACTION,
    IN_BOHR,
    MIN_NEIGHBOUR_FRACTION,
    check_packing,
    measure_packing,
)

_DENSE: Final = 3.0
"""Times the density at ambient pressure; few simulations have more on purpose."""


def check_limits(case: Case, start: Frame | None) -> list[Finding]:
    """Checks that need no model; `start` is the case's structure, if it could be read."""
    # without any [[local]] the case is for `mixserver serve`, to which workers connect
    level: Level = "error" if case.config.local else "warning"
    found = [Finding(level, "workers", message) for message in models_without_workers(case)]
    if start is not None and len(start):
        found += _distances(case, start)
    return found


_ONE_PAIR: Final = (
    "Most other atoms have usual distances, so units are not the cause. Is an atom there twice? If "
    "the structure is a guess, relax it first: mixserver new --ensemble minimize"
)


def _distances(case: Case, start: Frame) -> list[Finding]:
    """Atoms that are closer to each other than in materials."""
    seen = measure_packing(start)
    pair = seen.closest
    file = case.config.upstream.structure
    if case.config.region is not None:
        try:
            check_packing(start, seen, case.config.limits, file)
        except Implausible as error:
            words = str(error)
            return [Finding("error", "distances", words, None if pair is None else pair.distance)]
    if pair is not None and pair.fraction < MIN_NEIGHBOUR_FRACTION:
        meant = case.config.limits.shortest_pair == 0.0
        level: Level = "error" if pair.fraction < COLLISION_FRACTION and not meant else "warning"
        cause = IN_BOHR if seen.collapsed else _ONE_PAIR
        words = f"{pair}, in {file}: closer than in materials at rest. {cause}"
        if level == "error":
            words += ". If a collision is meant, set limits.shortest_pair = 0"
        return [Finding(level, "distances", words, pair.distance)]
    if seen.density > _DENSE:
        words = (
            f"{file} is {seen.density:.1f} times denser than its elements are at ambient pressure, "
            f"{start.volume / len(start):.2f} Å³ an atom. If it is not compressed on purpose: "
            f"{IN_BOHR}"
        )
        return [Finding("warning", "distances", words, seen.density)]
    return []
