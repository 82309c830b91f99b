"""Small jobs that come at the same time are evaluated in one call of the engine.

An engine on a graph needs about as long for eight clusters of 5 sites as for one, because it calls
hundreds of kernels for either. So jobs about different beads, systems or channels wait for others
for a moment, and are shared out to the idle workers as jobs of several structures.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np

from mixserver.wire.worker import Evaluate, ModelCard, Role

HOLD_S: Final = 0.002
"""Seconds that a job waits for others: i-PI's beads come one after the other."""


class HeldJob(NamedTuple):
    """A job that waits for others."""

    wishes: tuple[bool, ...]
    """What jobs must have in common to be evaluated together."""
    stream: int
    number: int
    sites: int


class HeldJobs:
    """Jobs that wait for others to be combined with.

    Args:
        most_sites: of a job of several structures; 0 combines none.
        role: whose jobs.
    """

    def __init__(self, most_sites: int, role: Role = "expensive") -> None:
        self._most = most_sites
        self._role = role
        self._held: list[HeldJob] = []

    def hold(self, role: Role, job: Evaluate, number: int, card: ModelCard | None) -> bool:
        """Whether a job waits for others from now on; else it is submitted at once."""
        if not self._most or role != self._role or card is None or not card.replicas:
            return False
        sites = int(np.count_nonzero(job.sites))
        if job.criterion or job.parameters or 2 * sites > self._most:
            return False
        # one bead may want site energies when others do not: those in whose region something joins
        wishes = (job.energies, *job.pbc)
        self._held.append(HeldJob(wishes, job.stream, number, sites))
        return True

    def __len__(self) -> int:
        return len(self._held)

    def take(self, workers: int) -> list[list[int]]:
        """Stop waiting.

        Args:
            workers: how many are idle.

        Returns:
            The numbers of the jobs that are evaluated together, all with the same wishes. Ordered
            by stream, so that the same beads are together in every evaluation.
        """
        held, self._held = sorted(self._held), []
        groups = []
        for _, alike in itertools.groupby(held, key=lambda job: job.wishes):
            jobs = list(alike)
            parts = share_out([job.sites for job in jobs], self._most, workers)
            groups += [[jobs[at].number for at in part] for part in parts]
        return groups


def share_out(sites: Sequence[int], most: int, workers: int) -> list[list[int]]:
    """Divide jobs into groups of neighbours: as few as the workers, more if they are too large.

    Args:
        sites: of each job, at most `most`.
        most: sites of a group.
        workers: that could evaluate a group at the same time.

    Returns:
        Groups of ascending places in `sites`.
    """
    groups: list[list[int]] = []
    left = sum(sites)
    count = max(1, min(workers, len(sites)), math.ceil(left / max(1, most)))
    held = 0
    for at, size in enumerate(sites):
        if not groups or held + size > most or held + size / 2 > left / max(1, count):
            if groups:
                left -= held
                count -= 1
            groups.append([])
            held = 0
        groups[-1].append(at)
        held += size
    return groups
