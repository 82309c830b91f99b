"""Lennard-Jones in NumPy: an engine for tests, benchmarks and the minimal example.

It implements the whole protocol (site weights, site energies, a criterion), so that mixserver can
be tried without LAMMPS and MACE. It is not a model of any material.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Collection
from typing import Literal

import numpy as np

from mixserver.core.arrays import Indices, Scalars
from mixserver.core.errors import BadInput, ConfigError
from mixserver.wire.replicas import separate
from mixserver.wire.worker import Evaluate, ModelCard
from mixserver_worker.engine import EngineResult
from mixserver_worker.engines.neighbours import neighbour_list
from mixserver_worker.engines.validate_job import validate_job
from mixserver_worker.replicas import together

_TOUCHING = 1e-3
"""Å. Closer atoms are an error of the sender, not a physical state."""


class ToyEngine:
    r"""Lennard-Jones with shifted force, one set of parameters for all elements.

    .. math::
        e_i = \tfrac12 \sum_j [\phi(r_{ij}) - \phi(r_c) - (r_{ij} - r_c) \phi'(r_c)], \quad
        \phi(r) = 4 \epsilon [(\sigma/r)^{12} - (\sigma/r)^6]

    so that energy and force go to zero at the cutoff (S. Toxvaerd, J. C. Dyre, J. Chem. Phys. 134,
    081102, 2011).

    Args:
        kind: "lj", or "zero" to return zeros at once.
        epsilon: eV.
        sigma: Å.
        cutoff: Å.
        species: atomic numbers it accepts; None for any.
        seconds: minimum time of an evaluation, to imitate a slow model.
    """

    def __init__(
        self,
        kind: Literal["lj", "zero"] = "lj",
        *,
        epsilon: float = 0.01,
        sigma: float = 2.5,
        cutoff: float = 6.0,
        species: Collection[int] | None = None,
        seconds: float = 0.0,
    ) -> None:
        if kind not in ("lj", "zero"):
            raise ConfigError(f'the toy engine is "lj" or "zero", not {kind!r}')
        if not (sigma > 0.0 and cutoff > 0.0 and np.isfinite([epsilon, sigma, cutoff]).all()):
            raise ConfigError(
                f"the toy engine needs sigma > 0 and cutoff > 0 (Å), got {sigma} and {cutoff}"
            )
        self._kind, self._seconds = kind, seconds
        self._epsilon, self._sigma, self._cutoff = epsilon, sigma, cutoff
        settings = f"toy {kind} {epsilon!r} {sigma!r} {cutoff!r}"
        self._card = ModelCard(
            engine="toy",
            name=f"toy-{kind}",
            fingerprint=hashlib.sha256(settings.encode()).hexdigest(),
            species=None if species is None else tuple(sorted(species)),
            cutoff=cutoff,
            receptive_field=cutoff,
            weights=True,
            energies=True,
            criteria=True,
            replicas=True,
        )

    @property
    def card(self) -> ModelCard:
        """The model card."""
        return self._card

    def evaluate(self, job: Evaluate) -> EngineResult:
        """Evaluate one job.

        Raises:
            BadInput: positions that are not finite, touching atoms, an unknown element or
                criterion.
        """
        started = time.perf_counter()
        validate_job(job, self._card.species, self._card.name)
        answers = [self._evaluate_one(one) for one in separate(job)]
        if self._seconds:
            time.sleep(max(0.0, self._seconds - (time.perf_counter() - started)))
        return answers[0] if job.replica is None else together(answers)

    def _evaluate_one(self, job: Evaluate) -> EngineResult:
        values = _criterion(job)
        return self._zeros(job, values) if self._kind == "zero" else self._lj(job, values)

    def close(self) -> None:
        """Nothing to release."""

    def _zeros(self, job: Evaluate, values: Scalars | None) -> EngineResult:
        n = len(job.positions)
        return EngineResult(
            energy=0.0,
            forces=np.zeros((n, 3)),
            virial=np.zeros((3, 3)),
            energies=np.zeros(n) if job.energies else None,
            values=values,
        )

    def _lj(self, job: Evaluate, values: Scalars | None) -> EngineResult:
        n = len(job.positions)
        first, second, vector, distance = neighbour_list(
            job.positions, job.cell, job.pbc, self._cutoff
        )
        if distance.size and distance.min() < _TOUCHING:
            at = int(distance.argmin())
            raise BadInput(
                f"job {job.job}: atoms {first[at]} and {second[at]} are {distance[at]:.1e} Å apart"
            )
        phi, slope = self._pair(distance)
        phi_cut, slope_cut = self._pair(np.array([self._cutoff]))
        phi = phi - phi_cut - (distance - self._cutoff) * slope_cut
        slope = slope - slope_cut
        energies = 0.5 * _summed(first, phi, n)
        if job.weight is None:
            energy, pull = float(energies.sum()), slope / distance
        else:
            energy = float(job.weight @ energies)
            pull = 0.5 * (job.weight[first] + job.weight[second]) * slope / distance
        along = vector * pull[:, None]
        forces = np.stack([_summed(first, along[:, k], n) for k in range(3)], axis=1)
        virial = -0.5 * vector.T @ along
        return EngineResult(
            energy=energy,
            forces=forces,
            virial=0.5 * (virial + virial.T),
            energies=energies if job.energies else None,
            values=values,
        )

    def _pair(self, distance: Scalars) -> tuple[Scalars, Scalars]:
        """Pair energy (eV) and dphi/dr (eV/Å)."""
        sixth = (self._sigma / distance) ** 6
        phi = 4.0 * self._epsilon * (sixth * sixth - sixth)
        slope = -24.0 * self._epsilon * (2.0 * sixth * sixth - sixth) / distance
        return phi, slope


def _summed(index: Indices, terms: Scalars, n: int) -> Scalars:
    """Sum of the terms of each atom."""
    return np.bincount(index, terms, minlength=n).astype(np.float64, copy=False)


def _criterion(job: Evaluate) -> Scalars | None:
    """Neighbours of every atom, the only criterion of this engine."""
    if not job.criterion:
        return None
    match job.criterion.split():
        case ["coord/atom", "cutoff", number]:
            try:
                cutoff = float(number)
            except ValueError:
                cutoff = float("nan")
            if not 0.0 < cutoff < float("inf"):
                raise BadInput(f"criterion {job.criterion!r} needs a cutoff > 0 (Å)")
            found = neighbour_list(job.positions, job.cell, job.pbc, cutoff)
            return np.bincount(found.first, minlength=len(job.positions)).astype(np.float64)
    raise BadInput(
        f'the toy engine has the criterion "coord/atom cutoff R" only, not {job.criterion!r}; '
        "others need the LAMMPS engine"
    )
