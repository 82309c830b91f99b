"""How long jobs of a role and size usually take, learned from the latest results.

The median decides, so neither a slow worker nor a first evaluation (kernels, neighbour lists) makes
an ordinary job look late, or a late one ordinary.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from statistics import median
from typing import Final, TypeAlias

import numpy as np

from mixserver.wire.worker import Evaluate, Role

_KEPT: Final = 32
"""Latest results of a size that the median is taken of."""
_ENOUGH: Final = 8
"""Results of a size before anything is known about it."""
_SIZES: Final = 256
"""Sizes that are remembered; the one not seen for longest goes first."""
_LEAST_S: Final = 2.0
"""No job is late before: a second copy of a quick job gains nothing."""


JobSize: TypeAlias = tuple[int, int, bool]
"""What the cost of a job depends on: its atoms, those with a site weight, and whether a criterion
is wanted. Counts are rounded, so that similar jobs are equal."""


def job_size(job: Evaluate) -> JobSize:
    """The size of a job."""
    atoms = _rounded(len(job.positions))
    if job.weight is None:
        return atoms, atoms, bool(job.criterion)
    return atoms, _rounded(int(np.count_nonzero(job.weight))), bool(job.criterion)


class JobDurations:
    """Learns durations.

    Args:
        factor: multiples of the median after which a job is late; 0: no job ever is.
    """

    def __init__(self, factor: float) -> None:
        self._factor = factor
        self._known: OrderedDict[tuple[Role, JobSize], deque[float]] = OrderedDict()

    def record(self, role: Role, size: JobSize, seconds: float) -> None:
        """A job was evaluated in so many seconds."""
        if not self._factor:
            return
        known = self._known.get((role, size))
        if known is None:
            if len(self._known) >= _SIZES:
                self._known.popitem(last=False)
            known = self._known[role, size] = deque(maxlen=_KEPT)
        known.append(seconds)

    def late_after(self, role: Role, size: JobSize) -> float | None:
        """Seconds after which a job is late; None if too little is known.

        Where its own size is unknown, jobs that are larger in every respect tell: what takes longer
        than they do is late. Smaller ones tell nothing.
        """
        if not self._factor:
            return None
        known = self._known.get((role, size))
        if known is not None:
            self._known.move_to_end((role, size))
        if known is None or len(known) < _ENOUGH:
            larger = [
                durations
                for (its_role, its), durations in self._known.items()
                if its_role == role
                and len(durations) >= _ENOUGH
                and all(a >= b for a, b in zip(its, size, strict=True))
            ]
            if not larger:
                return None
            known = min(larger, key=median)
        return max(_LEAST_S, self._factor * median(known))


def _rounded(count: int) -> int:
    """A count rounded down to three binary digits: those that are equal differ by 25 % at most."""
    shift = count.bit_length() - 3
    return count >> shift << shift if shift > 0 else count
