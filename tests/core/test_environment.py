"""A child is no rank of a batch job; threads, GPUs and tuning stay."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mixserver.core.environment import without_batch, without_rank

RANK = (
    "PMI_RANK PMI_SIZE PMI_FD PMIX_RANK PMIX_SERVER_URI2 OMPI_COMM_WORLD_SIZE PALS_RANKID "
    "OMPI_MCA_orte_hnp_uri SLURM_PROCID SLURM_STEP_ID MPI_LOCALRANKID HYDI_CONTROL_FD"
)
BATCH = (
    "SLURM_JOB_ID SLURM_NODELIST SLURM_CONF PBS_NODEFILE PBS_JOBID LSB_HOSTS LSB_MCPU_HOSTS "
    "PE_HOSTFILE NSLOTS HYDRA_LAUNCHER HYDRA_HOST_FILE I_MPI_HYDRA_BOOTSTRAP OMPI_MCA_plm"
)
KEPT = (
    "CUDA_VISIBLE_DEVICES ROCR_VISIBLE_DEVICES OMP_NUM_THREADS MKL_NUM_THREADS PATH HOME TMPDIR "
    "LD_LIBRARY_PATH LAMMPS_POTENTIALS MPICH_GPU_SUPPORT_ENABLED UCX_TLS OMPI_MCA_btl PEAK "
    "KMP_AFFINITY MIXSERVER_PARENT"
)


@pytest.mark.parametrize("name", RANK.split())
def test_ranks_are_forgotten(name: str) -> None:
    assert not without_rank({name: "1"})
    assert not without_batch({name: "1"})


@pytest.mark.parametrize("name", BATCH.split())
def test_the_job_is_known_to_programs_that_may_use_it(name: str) -> None:
    assert without_rank({name: "1"}) == {name: "1"}
    assert not without_batch({name: "1"})


@pytest.mark.parametrize("name", KEPT.split())
def test_everything_else_stays(name: str) -> None:
    assert without_batch({name: "1"}) == {name: "1"}


@given(st.dictionaries(st.text(), st.text()))
def test_nothing_is_changed_or_added(environment: dict[str, str]) -> None:
    assert without_batch(environment).items() <= without_rank(environment).items()
    assert without_rank(environment).items() <= environment.items()
