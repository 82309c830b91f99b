"""MPI: broadcasts each evaluation from rank 0 to the other ranks and gathers their results.

Rank 0 talks to the server; the others wait in `Ranks.receive`. They sleep between polls, because
the server may need their cores while it mixes.
"""

from __future__ import annotations

import sys
import time
import traceback
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mixserver.core.arrays import Block, Matrix, Numbers, Scalars, Vectors
from mixserver_worker.engines.lammps.mpi_start import FORWARDED_S

_SPIN_S = 2e-3
"""How long a waiting rank polls continuously before it sleeps between polls."""
_NAP_S = 1e-4
_LONGEST_NAP_S = 5e-3
_NAP_SHARE = 1e-3
"""A nap's share of the time waited so far: idle ranks poll less and less."""
_HEADER = 7
_END, _EVALUATE = 0, 1


@dataclass(frozen=True, slots=True)
class RankJob:
    """One evaluation, as rank 0 broadcasts it."""

    stream: int
    positions: Vectors
    numbers: Numbers
    cell: Matrix
    pbc: tuple[bool, bool, bool]
    energies: bool = False
    criterion: str = ""
    weight: Scalars | None = None
    """(n,) site weights; None means 1 everywhere."""


class Ranks:
    """The ranks that evaluate together; with no communicator, this process alone."""

    def __init__(self, comm: Any = None) -> None:
        self.comm = comm
        self.size: int = 1 if comm is None else comm.Get_size()
        self.rank: int = 0 if comm is None else comm.Get_rank()

    def broadcast(self, job: RankJob) -> None:
        """Rank 0: send a job to the other ranks."""
        if self.size == 1:
            return
        text = job.criterion.encode()
        flags = sum(1 << axis for axis in range(3) if job.pbc[axis])
        counts = [len(job.positions), flags, job.energies, job.stream, len(text)]
        header = np.array([_EVALUATE, *counts, job.weight is not None])
        self._header(header)
        numbers = np.concatenate([job.numbers, np.frombuffer(text, np.uint8)]).astype(np.int32)
        self.comm.Bcast(np.concatenate([job.positions, job.cell]), root=0)
        self.comm.Bcast(numbers, root=0)
        if job.weight is not None:
            self.comm.Bcast(np.ascontiguousarray(job.weight), root=0)

    def release(self) -> None:
        """Rank 0: end `receive` on the other ranks."""
        if self.size > 1:
            self._header(np.zeros(_HEADER, np.int64))

    def receive(self) -> RankJob | None:
        """Other ranks: wait for the next job; None after `release`."""
        header = np.zeros(_HEADER, np.int64)
        self._header(header)
        task, n, flags, energies, stream, length, weighted = (int(value) for value in header)
        if task == _END:
            return None
        numbers, floats = np.empty(n + length, np.int32), np.empty((n + 3, 3))
        self.comm.Bcast(floats, root=0)
        self.comm.Bcast(numbers, root=0)
        weight = np.empty(n) if weighted else None
        if weight is not None:
            self.comm.Bcast(weight, root=0)
        return RankJob(
            stream=stream,
            positions=floats[:n],
            numbers=numbers[:n],
            cell=floats[n:],
            pbc=(bool(flags & 1), bool(flags & 2), bool(flags & 4)),
            energies=bool(energies),
            criterion=bytes(numbers[n:].astype(np.uint8)).decode(),
            weight=weight,
        )

    def any(self, here: bool) -> bool:
        """Whether the condition holds on any rank."""
        return here if self.size == 1 else bool(self.largest(float(here)))

    def largest(self, here: float) -> float:
        """Maximum over all ranks."""
        if self.size == 1:
            return here
        every = np.array([here])
        self.comm.Allreduce(every.copy(), every, op=_mpi().MAX)
        return float(every[0])

    def gather(self, rows: NDArray[Any], columns: list[Scalars], n: int) -> Block:
        """Gather per-atom columns in the order of the atoms; complete on rank 0.

        Args:
            rows: (nlocal,) index of the atom in each row.
            columns: arrays of (nlocal,) or (nlocal, k).
            n: number of atoms on all ranks.

        Returns:
            (n, sum of k).
        """
        if self.size == 1 and len(rows) == n and np.array_equal(rows, np.arange(n)):
            return np.column_stack(columns)
        every = np.zeros((n, sum(1 if c.ndim == 1 else c.shape[1] for c in columns)))
        every[rows] = np.column_stack(columns)
        if self.size > 1:
            total = np.zeros_like(every) if self.rank == 0 else None
            self.comm.Reduce(every, total, op=_mpi().SUM, root=0)
            return every if total is None else total
        return every

    def sum(self, here: Block) -> Block:
        """Sum of the arrays of all ranks; complete on rank 0."""
        if self.size == 1:
            return here
        whole = np.empty_like(here)
        self.comm.Reduce(np.ascontiguousarray(here), whole, op=_mpi().SUM, root=0)
        return whole if self.rank == 0 else here

    def broadcast_object(self, here: Any) -> Any:
        """Rank 0's object, on every rank."""
        return here if self.size == 1 else self.comm.bcast(here, root=0)

    def abort(self, error: BaseException) -> None:
        """End all ranks, because they can no longer be synchronised."""
        if self.size > 1:
            sys.stderr.write("".join(traceback.format_exception(error)))
            sys.stderr.flush()
            time.sleep(FORWARDED_S)
            self.comm.Abort(1)

    def _header(self, header: NDArray[np.int64]) -> None:
        request = self.comm.Ibcast(header, root=0)
        started = time.perf_counter()
        while not request.Test():
            waited = time.perf_counter() - started
            if waited > _SPIN_S:
                time.sleep(min(max(_NAP_S, _NAP_SHARE * waited), _LONGEST_NAP_S))


def _mpi() -> Any:
    from mpi4py import MPI

    return MPI
