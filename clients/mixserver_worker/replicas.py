"""The results of several structures as the result of one job."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mixserver_worker.engine import EngineResult


def together(results: Sequence[EngineResult]) -> EngineResult:
    """The result of a job of several structures from theirs, in their order."""
    energies = [one.energies for one in results if one.energies is not None]
    virials = np.stack([one.virial for one in results])
    each = np.array([one.energy for one in results])
    return EngineResult(
        energy=float(each.sum()),
        forces=np.concatenate([one.forces for one in results]),
        virial=virials.sum(axis=0),
        energies=np.concatenate(energies) if energies else None,
        replica_energies=each,
        virials=virials,
    )
