"""Several structures in one job: jobs combined into one, and separated again with their results."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from mixserver.wire.worker import Evaluate, Result


def combine(jobs: Sequence[Evaluate]) -> Evaluate:
    """One job of all structures, with the number and the stream of the first.

    Args:
        jobs: at least one, of one structure each, all with the same `pbc` and `energies` and
            without a criterion.

    Raises:
        ValueError: they cannot be combined.
    """
    first = jobs[0]
    for job in jobs:
        if job.replica is not None or job.criterion or job.parameters:
            raise ValueError("only plain jobs of one structure can be combined")
        if job.pbc != first.pbc or job.energies != first.energies:
            raise ValueError("jobs with other periodic axes or wishes cannot be combined")
    return Evaluate(
        job=first.job,
        stream=first.stream,
        positions=np.concatenate([job.positions for job in jobs]),
        numbers=np.concatenate([job.numbers for job in jobs]),
        cell=first.cell,
        pbc=first.pbc,
        weight=_joined([job.weight for job in jobs], [len(job.positions) for job in jobs], 1.0),
        energies=first.energies,
        wanted=_joined([job.wanted for job in jobs], [len(job.positions) for job in jobs], 0),
        replica=np.repeat(np.arange(len(jobs), dtype=np.int32), [len(j.positions) for j in jobs]),
        cells=np.stack([job.cell for job in jobs]),
        streams=np.array([job.stream for job in jobs], np.int32),
    )


def separate(job: Evaluate) -> list[Evaluate]:
    """The jobs of a job's structures, in their order; the job itself if it has one only."""
    if job.replica is None or job.cells is None or job.streams is None:
        return [job]
    return [
        msgspec.structs.replace(
            job,
            stream=stream,
            positions=job.positions[rows],
            numbers=job.numbers[rows],
            cell=cell,
            weight=None if job.weight is None else job.weight[rows],
            wanted=None if job.wanted is None else job.wanted[rows],
            replica=None,
            cells=None,
            streams=None,
        )
        for rows, cell, stream in zip(
            _rows(job.replica), job.cells, job.streams.tolist(), strict=True
        )
    ]


def separate_result(result: Result, job: Evaluate) -> list[Result]:
    """The results of a job's structures, in their order.

    Args:
        result: of the job; it fits.
        job: of several structures.

    Raises:
        ValueError: it has no parts.
    """
    if job.replica is None or result.replica_energies is None or result.virials is None:
        raise ValueError("a result without parts cannot be separated")
    return [
        msgspec.structs.replace(
            result,
            energy=energy,
            forces=result.forces[rows],
            virial=virial,
            energies=None if result.energies is None else result.energies[rows],
            replica_energies=None,
            virials=None,
        )
        for rows, energy, virial in zip(
            _rows(job.replica), result.replica_energies.tolist(), result.virials, strict=True
        )
    ]


def _rows(replica: NDArray[np.int32]) -> list[slice]:
    count = int(replica[-1]) + 1
    ends = np.searchsorted(replica, np.arange(count + 1)).tolist()
    return [slice(start, end) for start, end in itertools.pairwise(ends)]


def _joined(
    arrays: Sequence[NDArray[Any] | None], counts: Sequence[int], missing: float
) -> NDArray[Any] | None:
    """One array of all, or None if none is there; `missing` stands for one that is not."""
    there = [array for array in arrays if array is not None]
    if not there:
        return None
    dtype = there[0].dtype
    return np.concatenate(
        [
            np.full(count, missing, dtype) if array is None else array
            for array, count in zip(arrays, counts, strict=True)
        ]
    )
