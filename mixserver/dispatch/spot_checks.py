"""Spot checks: every n-th evaluation is repeated by a second worker of each role, and compared.

A worker that returns wrong numbers of the right shape (a faulty GPU, a broken library) passes every
other check. The evaluation waits for the second result, so that no wrong one is sent to i-PI.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import structlog

from mixserver.core.errors import ResultsDiffer
from mixserver.dispatch.agreement import disagreement
from mixserver.dispatch.batch import Batch, JobResult
from mixserver.wire.worker import Evaluate, Role

log = structlog.get_logger(__name__)


@dataclass(slots=True)
class SpotCheck:
    """One job that two workers evaluate."""

    number: int = 0
    """The job's number, as its batch knows it; 0 until its first result."""
    first: JobResult | None = None
    """Its first result."""


class SpotChecks:
    """Decides which jobs are repeated, and compares.

    Args:
        every: so manyth evaluation; 0: none.
    """

    def __init__(self, every: int) -> None:
        self.every = every
        self.second_jobs: dict[int, int] = {}
        """Jobs that have a first result, each with the number of its second job."""
        self._counts: dict[Role, int] = {}
        self._warned: set[Role] = set()

    def due(self, role: Role, batch: Batch) -> SpotCheck | None:
        """The check of a job, if its evaluation is to be checked.

        All jobs of a role in a batch are checked together. Roles are counted by themselves: with
        several time steps, most evaluations need only one of them.
        """
        checked = batch.spot_checks.get(role)
        if checked is None:
            self._counts[role] = self._counts.get(role, 0) + 1
            checked = batch.spot_checks[role] = self._counts[role] % self.every == 0
        return SpotCheck() if checked else None

    def compare(
        self, job: Evaluate, role: Role, first: JobResult, second: JobResult, dtype: str
    ) -> ResultsDiffer | None:
        """The error that ends the run, if two results of a job differ beyond rounding."""
        self._warned.discard(role)
        wrong = disagreement(first.result, second.result, dtype)
        if not wrong:
            log.debug("spot check passed", role=role, workers=[first.worker, second.worker])
            return None
        return ResultsDiffer(
            f"spot check: the {role} workers {first.worker} and {second.worker} evaluated the same "
            f"{len(job.positions)} atoms with the same model in {dtype}, but differ in their "
            f"{wrong}. One of them computes wrong results (hardware, driver or library), also in "
            "evaluations that were not checked: compare both results with those of a third worker, "
            "and go on from a checkpoint of before",
            _evidence(job, first, second),
        )

    def skipped(self, role: Role, worker: str, reason: str) -> None:
        """A check was given up, because no other worker could evaluate the job."""
        if role not in self._warned:
            self._warned.add(role)
            log.warning(
                "no spot check: it needs a second worker of the role, in another process",
                role=role,
                only=worker,
                reason=reason,
            )


def _evidence(job: Evaluate, first: JobResult, second: JobResult) -> Mapping[str, object]:
    found: dict[str, object] = {
        "positions": job.positions,
        "numbers": job.numbers,
        "cell": job.cell,
        "pbc": job.pbc,
        "weight": job.weight,
    }
    for at, done in (("first", first), ("second", second)):
        found |= {
            f"{at}_worker": done.worker,
            f"{at}_energy": done.result.energy,
            f"{at}_forces": done.result.forces,
            f"{at}_virial": done.result.virial,
            f"{at}_energies": done.result.energies,
        }
    return {name: value for name, value in found.items() if value is not None}
