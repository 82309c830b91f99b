"""Validation of a job, which every engine calls before it computes.

Potential codes do not reject bad input: a NaN position silently drops the atom, an unknown element
becomes another one.
"""

from __future__ import annotations

from collections.abc import Collection

import numpy as np

from mixserver.core.errors import BadInput
from mixserver.wire.worker import Evaluate
from mixserver_worker.engines.elements import listed

_FLAT = 1e-5
"""Å³ (Å², Å) below which periodic lattice vectors span no volume."""


def validate_job(job: Evaluate, species: Collection[int] | None, model: str) -> None:
    """Raise if no engine could evaluate this job.

    Args:
        job: what is to be evaluated.
        species: atomic numbers the model knows; None if it takes any.
        model: its name, for the message.

    Raises:
        BadInput: something is not finite, the periodic cell is flat, or an element is unknown.
    """
    if not np.isfinite(job.positions).all():
        atom = int(np.flatnonzero(~np.isfinite(job.positions).all(axis=1))[0])
        raise BadInput(f"job {job.job}: the position of atom {atom} is not finite")
    if job.weight is not None and not np.isfinite(job.weight).all():
        atom = int(np.flatnonzero(~np.isfinite(job.weight))[0])
        raise BadInput(f"job {job.job}: the site weight of atom {atom} is not finite")
    periodic = job.cell[np.asarray(job.pbc)]
    if not np.isfinite(job.cell).all() or (
        len(periodic) and np.prod(np.linalg.svd(periodic, compute_uv=False)) < _FLAT
    ):
        raise BadInput(f"job {job.job}: the cell has no volume: {job.cell.tolist()} (Å)")
    if species is not None:
        known = np.isin(job.numbers, sorted(species))
        if not known.all():
            raise BadInput(
                f"job {job.job}: model {model} knows {listed(species) or 'no element'}, "
                f"not {listed(job.numbers[~known])}. Give mixserver a model that knows every "
                "element of the system."
            )
