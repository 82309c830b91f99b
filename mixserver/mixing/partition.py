"""Dividing core and blend atoms into jobs: large groups are bisected, small ones put together.

Which atoms are evaluated does not depend on it, and site energies add up, so energies and forces
are the same to rounding. Without memory, so that a run that is continued divides as it did before.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from mixserver.core.arrays import Indices, Vectors
from mixserver.core.bisection import bisect
from mixserver.core.frame import Frame


class JobSizes(NamedTuple):
    """How many core and blend atoms a job should have."""

    least: int = 0
    """Groups are put together up to this number."""
    most: float = math.inf
    """Larger groups are split; at least 1."""


def divide(
    frame: Frame, groups: Sequence[Indices], sizes: JobSizes, fractional: Vectors | None = None
) -> list[Indices]:
    """Divide groups of atoms into those of jobs.

    Args:
        frame: the atoms.
        groups: disjoint, each of ascending indices.
        sizes: what is too large or too small.
        fractional: (N, 3) coordinates by which groups are bisected; those of the frame by default.
            Coordinates that never change keep atoms that vibrate about a cut in one job.

    Returns:
        Groups of ascending indices, ordered by their first atoms.
    """
    parts: list[Indices] = []
    for group in groups:
        if len(group) > sizes.most:
            places = frame.fractional if fractional is None else fractional
            parts += bisect(group, places[group], frame.cell, frame.topology.pbc, sizes.most)
        else:
            parts.append(group)
    if sizes.least > 1 and len(parts) > 1:
        parts = _put_together(parts, sizes)
    if len(parts) > len(groups):
        parts.sort(key=lambda part: int(part[0]))
    return parts


def _put_together(groups: Sequence[Indices], sizes: JobSizes) -> list[Indices]:
    """Join groups with fewer atoms than `least`, none to more than `most`."""
    together: list[Indices] = []
    waiting: list[Indices] = []
    held = 0
    for group in groups:
        if len(group) >= sizes.least:
            together.append(group)
            continue
        if held + len(group) > sizes.most:
            together.append(np.sort(np.concatenate(waiting)))
            waiting, held = [], 0
        waiting.append(group)
        held += len(group)
        if held >= sizes.least:
            together.append(np.sort(np.concatenate(waiting)))
            waiting, held = [], 0
    if waiting:
        together.append(np.sort(np.concatenate(waiting)))
    return sorted(together, key=lambda group: int(group[0]))
