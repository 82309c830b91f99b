"""Starts MPI for ranks of several nodes in a way that delivers all that LAMMPS sends, and tries it.

When atoms move far or the cell changes, LAMMPS's ranks send them to each other and receive "from
any source". MPICH's UCX module loses such messages between nodes with TCP (the mpich wheels 4.3.2
to 5.0.2 do, within some tens of messages): all ranks would then wait for ever, with full load.
"""

from __future__ import annotations

import os
import re
import sys
import time
from collections.abc import Mapping
from typing import Any, Final

import numpy as np

from mixserver.core.errors import MissingPackage

FORWARDED_S: Final = 0.5
"""Wait before an abort: mpiexec drops output that it has not forwarded by then."""
_NETWORK: Final = "MPIR_CVAR_CH4_NETMOD"
_BOTH_MODULES: Final = re.compile(r"MPICH Device:\s*ch4:ucx[ ,]+ofi\b")
"""MPICH with a choice of network modules, UCX by default."""
_MESSAGES: Final = 300
_LIMIT_S: Final = 20.0
_TAG: Final = 77


def launched_with_mpi() -> bool:
    """Whether this process is one of several that mpiexec started."""
    sizes = (os.environ.get(name, "1") for name in ("PMI_SIZE", "OMPI_COMM_WORLD_SIZE"))
    return any(size.isdigit() and int(size) > 1 for size in sizes)


def world() -> Any:
    """mpi4py's COMM_WORLD if mpiexec started several ranks, else None.

    Ends all ranks, with a message, if they are on several nodes and messages between them get lost.

    Raises:
        MissingPackage: there are several ranks but mpi4py is not installed.
    """
    if not launched_with_mpi():
        return None
    try:
        import mpi4py
    except ImportError as error:
        raise MissingPackage("mpi4py", "lammps") from error
    mpi4py.rc(initialize=False, finalize=True)
    from mpi4py import MPI

    if not MPI.Is_initialized():
        os.environ |= network_choice(os.environ, MPI.Get_library_version())
        MPI.Init_thread(MPI.THREAD_MULTIPLE)
    comm = MPI.COMM_WORLD
    here = comm.Split_type(MPI.COMM_TYPE_SHARED)
    alone = here.Get_size() < comm.Get_size()
    here.Free()
    if comm.allreduce(alone, op=MPI.LOR):
        _try_messages(comm, MPI.ANY_SOURCE)
    return comm


def network_choice(environment: Mapping[str, str], library: str) -> dict[str, str]:
    """Variables that MPICH needs for ranks on several nodes; a choice of the user stays.

    Args:
        environment: of this rank.
        library: what MPI says of its version and configuration.
    """
    if _NETWORK in environment or not _BOTH_MODULES.search(library):
        return {}
    ranks, here = environment.get("PMI_SIZE", "1"), environment.get("MPI_LOCALNRANKS")
    nodes = environment.get("SLURM_STEP_NUM_NODES", "1")
    return {_NETWORK: "ofi"} if nodes != "1" or here not in (None, ranks) else {}


def _try_messages(comm: Any, any_source: int) -> None:
    """Send as LAMMPS does, between nodes too; end all ranks if a message does not come."""
    size, rank = comm.Get_size(), comm.Get_rank()
    sent, got = np.zeros(1, np.int32), np.zeros(1, np.int32)
    for number in range(_MESSAGES):
        # one of them leads to another node, however ranks are placed
        step = 1 if number % 2 else max(1, size // 2)
        sent[0] = number
        requests = [
            comm.Isend(sent, dest=(rank + step) % size, tag=_TAG),
            comm.Irecv(got, source=any_source, tag=_TAG),
        ]
        if not _completed(requests) or got[0] != number or not _completed([comm.Ibarrier()]):
            _give_up(comm, number)


def _completed(requests: list[Any]) -> bool:
    limit = time.monotonic() + _LIMIT_S
    while not all(request.Test() for request in requests):
        if time.monotonic() > limit:
            return False
        os.sched_yield()  # ranks may share a core
    return True


def _give_up(comm: Any, number: int) -> None:
    sys.stderr.write(
        f"Error: MPI loses messages between the nodes of this worker: rank {comm.Get_rank()} on "
        f"{os.uname().nodename} waited {_LIMIT_S:g} s for number {number} of {_MESSAGES}, received "
        f"from any source; LAMMPS would hang. {_NETWORK}={os.environ.get(_NETWORK, '')!r}: with "
        f"MPICH set it to 'ofi' (and FI_TCP_IFACE to the interface between the nodes), or use "
        f"another MPI, or one node.\n"
    )
    sys.stderr.flush()
    time.sleep(FORWARDED_S)
    comm.Abort(1)
