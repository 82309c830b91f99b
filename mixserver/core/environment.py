"""Environment variables of batch jobs and MPI launchers that child processes must not inherit.

A child is no rank of the job that mixserver itself may be a rank of, and a launcher that starts
ranks on this machine must not look for the batch system's nodes. Threads, GPUs and everything else
stay: OMP_NUM_THREADS, CUDA_VISIBLE_DEVICES, LD_LIBRARY_PATH, tuning of MPI, ...
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

LOCAL_LAUNCHERS: Final = {"HYDRA_LAUNCHER": "fork", "I_MPI_HYDRA_BOOTSTRAP": "fork"}
"""Have MPICH's and Intel's mpiexec start ranks on this machine, by fork and nothing else."""

_RANK: Final = re.compile(
    r"(PMI|PMI2|PMIX|PALS|ALPS_APP|MV2_COMM|ORTE|PRTE|JSM|FLUX_TASK|OMPI_COMM|I_MPI_PMI)_.*"
    r"|OMPI_(UNIVERSE_SIZE|FIRST_RANKS|NUM_APP_CTX|APP_CTX_NUM_PROCS|FILE_LOCATION)"
    r"|OMPI_MCA_(ess|orte|pmix|prte)_.*"
    r"|MPI_LOCAL(RANKID|NRANKS)|HYDI_CONTROL_FD|PMI_FD|MPIEXEC_.*"
    r"|SLURM_(PROCID|LOCALID|NODEID|GTIDS|TASK_PID|STEP.*|SRUN_.*|MPI_TYPE|PMI.*|LAUNCH_.*)"
)
"""Variables that identify this process as a rank of a launcher."""
_BATCH: Final = re.compile(
    r"(SLURM|SLURMD|SRUN|PBS|LSB|LSF|SGE|COBALT|LOADL|OAR|FLUX|HYDRA|I_MPI_HYDRA)_.*"
    r"|PE_HOSTFILE|PE|NSLOTS|NHOSTS|LS_JOBPID|LS_SUBCWD|LOADLBATCH|JOB_ID"
    r"|OMPI_MCA_(plm|ras|rmaps)(_.*)?|OMPI_MCA_orte_default_hostfile"
)
"""Variables of a batch system: nodes, tasks, and how to start them."""


def without_rank(environment: Mapping[str, str]) -> dict[str, str]:
    """The environment of a process that is not an MPI rank."""
    return {name: value for name, value in environment.items() if not _RANK.fullmatch(name)}


def without_batch(environment: Mapping[str, str]) -> dict[str, str]:
    """The environment of a process that stays on this machine, as outside a batch job."""
    kept = without_rank(environment)
    return {name: value for name, value in kept.items() if not _BATCH.fullmatch(name)}
