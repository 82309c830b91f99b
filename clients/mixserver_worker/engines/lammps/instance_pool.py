"""Keeps LAMMPS instances by stream, and replaces an instance in which LAMMPS fails."""

from __future__ import annotations

import logging
from collections import OrderedDict
from typing import TYPE_CHECKING, Final, TypeAlias

import numpy as np

from mixserver.core.errors import BadInput, MixserverError, WorkerFault
from mixserver_worker.engine import EngineResult
from mixserver_worker.engines.lammps.compiled.team import Team
from mixserver_worker.engines.lammps.instance import LammpsInstance, LostAtoms
from mixserver_worker.engines.lammps.library import LammpsAbort, LammpsError
from mixserver_worker.engines.lammps.mpi import RankJob, Ranks
from mixserver_worker.engines.lammps.setup import PotentialSetup
from mixserver_worker.engines.lammps.weighting.site_weights import (
    WeightedPotential,
    WeightingScheme,
)

if TYPE_CHECKING:
    from mixserver_worker.engines.lammps.compiled.potential import CompiledAtoms, CompiledPotential

_log = logging.getLogger("mixserver.lammps")
_CAUSED_BY_ATOMS: Final = (
    "Pair distance < table inner cutoff",
    "Pair distance > table outer cutoff",
    "Non-numeric",
    "Neighbor list overflow",
    "Too many neighbor bins",
    "Out of range atoms",
)
"""LAMMPS's errors whose cause is the positions: another worker could not do better."""

_Key: TypeAlias = int | tuple[int, str]
_Instance: TypeAlias = "LammpsInstance | WeightedPotential | CompiledAtoms"


class InstancePool:
    """LAMMPS instances of one potential, the least recently used of which are closed.

    Args:
        setup: the potential without weights.
        scheme: how it is weighted; None if it cannot be.
        ranks: all of them make the same calls.
        most: how many instances are kept.
        compiled: the potential for compiled code; None if LAMMPS evaluates all of it.
        threads: of each rank, for compiled code.
    """

    def __init__(
        self,
        setup: PotentialSetup,
        scheme: WeightingScheme | None,
        ranks: Ranks,
        most: int,
        compiled: CompiledPotential | None = None,
        threads: int = 1,
    ) -> None:
        self.setup, self.scheme, self._ranks = setup, scheme, ranks
        self._most, self._compiled, self._team = most, compiled, Team(threads)
        self.instances: OrderedDict[_Key, _Instance] = OrderedDict()
        """By stream; those with weights by stream and "weighted"."""

    def close(self) -> None:
        """End all LAMMPS instances and threads."""
        for instance in self.instances.values():
            instance.close()
        self.instances.clear()
        self._team.close()

    def evaluate(self, job: RankJob) -> EngineResult:
        """Evaluate on all ranks; a second time in a new instance if LAMMPS fails.

        Raises:
            BadInput: the atoms are at fault.
            WorkerFault: LAMMPS failed in a new instance too.
        """
        try:
            try:
                return self._instance(job).evaluate(job)
            except LammpsAbort:
                raise
            except LammpsError as error:
                _log.warning("LAMMPS: %s; trying again with a new instance", error)
            self.remove(_key(job))
            return self._instance(job).evaluate(job)
        except LammpsAbort as error:
            self._ranks.abort(error)
            self.remove(_key(job))
            raise WorkerFault(f"LAMMPS aborted: {error}") from error
        except LostAtoms as error:
            self.remove(_key(job))
            raise BadInput(f"{error}, in a new instance too: the atoms have flown apart") from error
        except LammpsError as error:
            self.remove(_key(job))
            if any(words in str(error) for words in _CAUSED_BY_ATOMS):
                raise BadInput(f"LAMMPS refuses these positions: {error}") from error
            raise WorkerFault(f"LAMMPS failed, in a new instance too: {error}") from error
        except MixserverError:
            raise
        except BaseException as error:
            self._ranks.abort(error)
            raise

    def _instance(self, job: RankJob) -> _Instance:
        """The instance that holds these atoms. Every rank makes the same choice."""
        key = _key(job)
        found = self.instances.get(key)
        if found is not None and _holds(found, job):
            self.instances.move_to_end(key)
            return found
        if found is not None:
            self.remove(key)
        if len(self.instances) >= self._most:
            for other, instance in self.instances.items():
                if _holds(instance, job):
                    self.instances[key] = self.instances.pop(other)
                    return instance
            self.remove(next(iter(self.instances)))
        made: _Instance
        if self._compiled is not None:
            # numba is imported only where it is used
            from mixserver_worker.engines.lammps.compiled.potential import CompiledAtoms

            made = CompiledAtoms(self._compiled, job, self._ranks, self._team)
        elif job.weight is not None and self.scheme is not None:
            made = WeightedPotential(self.scheme, job, self._ranks)
        else:
            made = LammpsInstance(self.setup, job, self._ranks)
        if not made.fast_loop:
            _log.warning("LAMMPS on this device misses new positions; using slow full set-ups")
        self.instances[key] = made
        return made

    def remove(self, key: _Key) -> None:
        """Close an instance, if there is one."""
        instance = self.instances.pop(key, None)
        if instance is not None:
            instance.close()


def _key(job: RankJob) -> _Key:
    """Instances with and without weights of a stream are kept side by side."""
    return job.stream if job.weight is None else (job.stream, "weighted")


def _holds(instance: _Instance, job: RankJob) -> bool:
    return (
        instance.weighted == (job.weight is not None)
        and instance.pbc == job.pbc
        and np.array_equal(instance.numbers, job.numbers)
    )
