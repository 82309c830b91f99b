"""Test of the fast loop on a device, once per instance.

A device has memory of its own, and LAMMPS's fast paths copy only what they know has changed:
positions that are written from outside may be missed without an error.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Protocol

import numpy as np

from mixserver.core.arrays import Vectors
from mixserver_worker.engines.lammps.library import LammpsAbort, LammpsError
from mixserver_worker.engines.lammps.mpi import RankJob, Ranks


class _Evaluates(Protocol):
    def __call__(self, job: RankJob, *, full: bool) -> Vectors: ...


def sees_new_positions(forces: _Evaluates, job: RankJob, skin: float, ranks: Ranks) -> bool:
    """Whether the fast loop evaluates the positions that it gets, as a full set-up does.

    One atom moves a little, then so far that LAMMPS builds new neighbour lists, then a little
    again.

    Args:
        forces: evaluates a job in the fast loop or with a full set-up.
        job: positions to start from.
        skin: Å, of the neighbour lists.
        ranks: all of them make the same call.
    """
    try:
        return _sees(forces, job, skin, ranks)
    except LammpsAbort:
        raise
    except LammpsError:
        return False  # with full set-ups, an error is one of the positions themselves


def _sees(forces: _Evaluates, job: RankJob, skin: float, ranks: Ranks) -> bool:
    forces(job, full=True)
    seen: list[tuple[RankJob, Vectors]] = []
    moved = job.positions.copy()
    for step in (0.03, 0.55 * skin, 0.02):
        moved = moved.copy()
        moved[0] += step * np.array([0.6, 0.0, 0.8])
        now = replace(job, positions=moved, energies=False, criterion="", weight=None)
        seen.append((now, forces(now, full=False)))
    for now, fast in seen:
        exact = forces(now, full=True)
        tolerance = 1e-4 * max(1.0, float(np.abs(exact).max(initial=0.0)))
        wrong = float(np.abs(fast - exact).max(initial=0.0))
        if ranks.any(ranks.rank == 0 and not wrong <= tolerance):
            return False
    return True
