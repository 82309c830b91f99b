"""Validates results against their jobs: shapes, finiteness, sums and symmetry, not physics."""

from __future__ import annotations

import math
from typing import Final

import numpy as np

from mixserver.core.arrays import Block, Matrix, Scalars, Vectors
from mixserver.dispatch.scheduling.events import FailureReceived, ResultReceived
from mixserver.wire.worker import Evaluate, Result

_ROUNDING: Final = 1e-5
_SINGLE: Final = 2.0**-24
"""Rounding of one addition in single precision; a model may add up its sites one by one."""
_ASYMMETRY: Final = 2.0**-12
"""Half of the digits of single precision."""
_ARM: Final = 10.0
"""Å, of the forces in a virial."""
STRONGEST: Final = 1e8
"""eV/Å. No structure explains more: bare nuclei of silicon 0.01 Å apart repel with 3e7."""
_SMALL: Final = 10_000
"""Elements up to which BLAS multiplies without threads."""


def validated(
    event: ResultReceived, job: Evaluate, *, symmetric: bool
) -> ResultReceived | FailureReceived:
    """The event, or what is wrong with its result.

    Args:
        event: a worker has returned a result.
        job: what was sent to it.
        symmetric: see `result_error`.
    """
    worker, result = event.worker, event.result
    if error := result_error(job, result, symmetric=symmetric):
        error = f"worker {worker} {error} for job {result.job}"
        return FailureReceived(worker, result.job, "worker", error)
    if error := strongest_force_error(result):
        return FailureReceived(worker, result.job, "input", f"it {error}", result)
    return event


def result_error(job: Evaluate, result: Result, *, symmetric: bool = True) -> str:
    """What is wrong with a result, in words that follow "worker X"; "" if nothing is.

    That its arrays fit each other is checked when a `Result` is made.

    Args:
        job: what was sent.
        result: what came back.
        symmetric: whether its virial must be; a stock client's is passed on as it is.
    """
    n = len(job.positions)
    if len(result.forces) != n:
        return f"returned forces on {len(result.forces)} atoms, but was sent {n}"
    if not math.isfinite(result.energy):
        return f"returned an energy that is not finite ({result.energy})"
    if job.energies and result.energies is None:
        return "was asked for site energies but returned none"
    if job.criterion and result.values is None:
        return f"was asked for {job.criterion!r} but returned no values"
    for name, array in (
        ("forces", result.forces),
        ("site energies", result.energies),
        ("criterion values", result.values),
    ):
        if array is not None and not _all_finite(array):
            bad = ~np.isfinite(array.reshape(n, -1)).all(axis=1)
            return (
                f"returned {np.count_nonzero(bad)} {name} that are not finite "
                f"(first: atom {int(np.argmax(bad))})"
            )
    if not _all_finite(result.virial):
        return f"returned a virial that is not finite ({result.virial.tolist()})"
    if symmetric and (error := _virial_error(result)):
        return error
    if job.replica is not None and (error := _replica_error(job, result)):
        return error
    if job.energies and result.energies is not None:
        energies = result.energies
        return _sum_error(result.energy, energies if job.weight is None else job.weight * energies)
    return ""


def strongest_force_error(result: Result) -> str:
    """What is wrong with forces that no structure explains, whoever is at fault; "" if nothing."""
    forces = result.forces
    if forces.size <= _SMALL and np.vdot(forces, forces) < STRONGEST**2:
        return ""  # the sum of all squares is a bound of the largest
    if not forces.size or max(float(forces.max()), -float(forces.min())) < STRONGEST:
        return ""
    with np.errstate(over="ignore"):
        sizes = np.abs(forces).max(axis=1)
    atom = int(np.argmax(sizes))
    return f"returned a force of {sizes[atom]:.3g} eV/Å on atom {atom}, which no structure explains"


def _replica_error(job: Evaluate, result: Result) -> str:
    """What is wrong with the energies and virials of the structures of a job."""
    energies, virials = result.replica_energies, result.virials
    if energies is None or virials is None or len(energies) != job.replicas:
        found = "none" if energies is None else f"those of {len(energies)}"
        return f"was asked for energies of {job.replicas} structures but returned {found}"
    if not (_all_finite(energies) and _all_finite(virials)):
        return "returned energies or virials of structures that are not finite"
    scale = max(1.0, float(np.abs(virials).sum()))
    apart = float(np.abs(virials.sum(axis=0) - result.virial).max())
    lopsided = float(np.abs(virials - virials.transpose(0, 2, 1)).max())
    if max(apart, lopsided) > _ASYMMETRY * scale:
        return (
            f"returned virials of structures that are not symmetric (by {lopsided:.3g} eV) or do "
            f"not add up to that of the job (by {apart:.3g} eV)"
        )
    return _sum_error(result.energy, energies)


def _virial_error(result: Result) -> str:
    """What is wrong with a virial that should be symmetric."""
    (_, xy, xz), (yx, _, yz), (zx, zy, _) = result.virial.tolist()
    asymmetry = max(abs(xy - yx), abs(xz - zx), abs(yz - zy))
    if asymmetry == 0.0:
        return ""
    force = max(1.0, float(np.abs(result.forces).max(initial=0.0)))
    scale = _ARM * math.sqrt(len(result.forces)) * force
    allowed = _ASYMMETRY * max(scale, float(np.abs(result.virial).max()))
    if asymmetry <= allowed:
        return ""
    return (
        f"returned a virial that is not symmetric, by {asymmetry:.3g} eV (rounding explains "
        f"{allowed:.2g}): {result.virial.tolist()}"
    )


def _sum_error(energy: float, energies: Scalars) -> str:
    """What is wrong with an energy that should be the sum of the weighted site energies."""
    parts = float(energies.sum())
    relative = _ROUNDING + _SINGLE * len(energies)
    allowed = relative * float(np.abs(energies).sum()) + 1e-3
    if abs(energy - parts) <= allowed:
        return ""
    return (
        f"returned an energy of {energy:.9g} eV, but its {len(energies)} site energies add up to "
        f"{parts:.9g} eV (rounding explains {allowed:.2g} eV)"
    )


def _all_finite(array: Vectors | Scalars | Matrix | Block) -> bool:
    """Whether no element is NaN or infinite."""
    if array.size <= _SMALL and math.isfinite(np.vdot(array, array)):
        return True  # one call, a third of the time of the two below
    return bool(np.isfinite(array).all())  # also decides where the squares overflow
