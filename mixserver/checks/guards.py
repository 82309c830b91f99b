"""Checks of what a run refuses at once: workers that cannot come, atoms that are too close."""

from __future__ import annotations

from typing import Final

from mixserver.checks.findings import Finding, Level
from mixserver.config import Case
from mixserver.errors import Implausible
from mixserver.frame import Frame
from mixserver.plausible import CLOSE, CROWDED, IN_BOHR, crowding, refuse_crowding
from mixserver.supply import unsupplied

_DENSE: Final = 3.0
"""Times the density at ambient pressure that few simulations are meant to have."""


def check_guards(case: Case, start: Frame | None) -> list[Finding]:
    """What needs no model.

    Args:
        case: the case.
        start: its structure, if it could be read.
    """
    # without any [[local]] the case is for `mixserver serve`, which tells workers its address
    level: Level = "error" if case.config.local else "warning"
    found = [Finding(level, "workers", message) for message in unsupplied(case)]
    if start is not None and len(start):
        found += _distances(case, start)
    return found


def _distances(case: Case, start: Frame) -> list[Finding]:
    """Atoms that are closer to each other than in materials."""
    seen = crowding(start)
    pair = seen.closest
    file = case.config.upstream.structure
    if case.config.region is not None:
        try:
            refuse_crowding(start, seen, case.config.limits, file)
        except Implausible as error:
            return [
                Finding("error", "distances", str(error), None if pair is None else pair.distance)
            ]
    if pair is not None and pair.fraction < CROWDED:
        meant = case.config.limits.shortest_pair == 0.0
        level: Level = "error" if pair.fraction < CLOSE and not meant else "warning"
        words = f"{pair}, in {file}: closer than in materials at rest. Do atoms overlap? {IN_BOHR}"
        if level == "error":
            words += ". If a collision is meant, set limits.shortest_pair = 0"
        return [Finding(level, "distances", words, pair.distance)]
    if seen.density > _DENSE:
        words = (
            f"{file} is {seen.density:.1f} times denser than its elements are at ambient pressure, "
            f"{start.volume / len(start):.2f} Å³ an atom. If it is not meant to be pressed: "
            f"{IN_BOHR}"
        )
        return [Finding("warning", "distances", words, seen.density)]
    return []
