"""The LAMMPS engine on two MPI ranks of two nodes, which are network namespaces."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "chaos"))
from mixserver_worker.engines.lammps.mpi_start import network_choice
from nodes import Network, network, permitted
from test_mpi import MPIEXEC, compare_walk, folder, run

__all__ = ["folder"]
pytestmark = [
    pytest.mark.lammps,
    pytest.mark.skipif(not permitted(), reason="network namespaces are not permitted here"),
]
WHEEL = "MPICH Version:      5.0.2\nMPICH Device:       ch4:ucx ofi\n"
IMPATIENT = """
from mixserver_worker.engines.lammps import mpi_start
mpi_start._LIMIT_S = 3.0
mpi_start.world()
print("nothing was lost")
"""


@pytest.fixture
def nodes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Network]:
    monkeypatch.setenv("UCX_TLS", "tcp,self")  # nodes of a cluster share no memory
    with network(("node1", "node2"), tmp_path) as made:
        yield made


def test_ranks_on_two_nodes_agree_with_one(nodes: Network, folder: Path) -> None:
    """Atoms move far and the cell changes, so that LAMMPS sends them from rank to rank."""
    compare_walk(folder, run(folder, "walk", mpiexec=nodes.mpiexec(MPIEXEC, 1)))


def test_a_network_that_loses_messages_is_noticed_before_any_job(
    nodes: Network, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MPIR_CVAR_CH4_NETMOD", "ucx")
    (folder / "impatient.py").write_text(IMPATIENT)
    done = run(folder, "", "impatient.py", nodes.mpiexec(MPIEXEC, 1))
    if done.returncode == 0 and "nothing was lost" in done.stdout:
        pytest.skip("this MPICH delivers over UCX")
    assert "Error: MPI loses messages between the nodes of this worker: rank" in done.stderr
    assert "MPIR_CVAR_CH4_NETMOD='ucx'" in done.stderr


@pytest.mark.parametrize(
    ("environment", "library", "chosen"),
    [
        ({"PMI_SIZE": "4", "MPI_LOCALNRANKS": "2"}, WHEEL, "ofi"),
        ({"PMI_SIZE": "4", "SLURM_STEP_NUM_NODES": "2"}, WHEEL, "ofi"),
        ({"PMI_SIZE": "4", "MPI_LOCALNRANKS": "4"}, WHEEL, None),
        ({"PMI_SIZE": "4", "SLURM_STEP_NUM_NODES": "1"}, WHEEL, None),
        ({"PMI_SIZE": "4", "MPI_LOCALNRANKS": "2", "MPIR_CVAR_CH4_NETMOD": "ucx"}, WHEEL, None),
        ({"PMI_SIZE": "4", "MPI_LOCALNRANKS": "2"}, WHEEL.replace(" ofi", ""), None),
        ({"PMI_SIZE": "4", "MPI_LOCALNRANKS": "2"}, "Open MPI v5.0.5", None),
    ],
)
def test_mpich_gets_another_network_module_only_between_nodes(
    environment: dict[str, str], library: str, chosen: str | None
) -> None:
    assert network_choice(environment, library).get("MPIR_CVAR_CH4_NETMOD") == chosen
