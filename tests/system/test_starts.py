"""Real i-PI starts from what is not quite mix.toml's structure: right, or refused in words."""

from __future__ import annotations

import asyncio
import contextlib
import json
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.calculators.socketio import SocketClosed, SocketIOCalculator
from ase.io import write
from command_here import mixserver_here
from command_line import mixserver
from ipi_cases import unique
from limits import HANG_S

from mixserver.config import load_case
from mixserver.core.errors import UpstreamError
from mixserver.server.build import build
from mixserver.server.local_workers import running_local_workers
from mixserver.server.service import Service

HARTREE_BOHR = 51.42208619
"""eV/Å."""
XML = """<simulation verbosity='low'>
  <output prefix='simulation'>
    <properties stride='1' filename='out'> [ step, potential{electronvolt} ] </properties>
    <trajectory filename='for' stride='1'> forces </trajectory>
  </output>
  <total_steps> 1 </total_steps>
  <ffsocket name='mixserver' mode='unix' pbc='false'> <address> start </address> </ffsocket>
  <system>
    <initialize nbeads='1'> FILE </initialize>
    <forces> <force forcefield='mixserver'/> </forces>
    <ensemble> <temperature units='kelvin'> 0.001 </temperature> </ensemble>
    <motion mode='dynamics'> <fixcom> False </fixcom>
      <dynamics mode='nve'> <timestep units='femtosecond'> 0.1 </timestep> </dynamics>
    </motion>
  </system>
</simulation>
"""
TOML = """
[upstream]
address = "unix:start"
structure = "STRUCTURE"
UPSTREAM
[region]
core_radius = 3.0
blend_width = 3.0
seeds = { kind = "atoms", indices = [7] }
[models.cheap]
[models.expensive]
[[local]]
role = "cheap"
command = ["toy", "--epsilon", "0.0104", "--sigma", "3.4", "--cutoff", "7.0"]
[[local]]
role = "expensive"
command = ["toy", "--epsilon", "0.0312", "--sigma", "3.3", "--cutoff", "7.0"]
"""
PRIMITIVE = bulk("Ar", "fcc", 5.3) * (5, 5, 5)
CUBIC = bulk("Ar", "fcc", 5.3, cubic=True) * (3, 3, 3)


def _write_ipi(file: Path, atoms: Atoms, factor: float = 1.0) -> None:
    """i-PI's xyz in Å; its numbers times a factor."""
    box = atoms.cell.cellpar()
    text = " ".join(f"{x:.10f}" for x in (*(factor * box[:3]), *box[3:]))
    rows = "\n".join("Ar " + " ".join(f"{factor * x:.10f}" for x in row) for row in atoms.positions)
    file.write_text(
        f"{len(atoms)}\n# CELL(abcABC): {text} positions{{angstrom}} cell{{angstrom}}\n{rows}\n"
    )


def _case(folder: Path, source: str, structure: str, upstream: str = "") -> Path:
    (folder / "input.xml").write_text(XML.replace("FILE", source))
    toml = TOML.replace("STRUCTURE", structure).replace("UPSTREAM", upstream)
    (folder / "mix.toml").write_text(toml)
    return folder


def _run(case: Path) -> subprocess.CompletedProcess[str]:
    return mixserver("run", case, "--quiet")


def _forces(case: Path) -> np.ndarray:
    """(N, 3) eV/Å of the first step."""
    run = max((case / "runs").glob("[0-9]*"))
    lines = (run / "simulation.for_0.xyz").read_text().splitlines()
    rows = lines[2 : 2 + int(lines[0])]
    return np.array([[float(x) for x in row.split()[1:4]] for row in rows]) * HARTREE_BOHR


def _compared(case: Path) -> dict[str, Any]:
    run = max((case / "runs").glob("[0-9]*"))
    entries = [json.loads(line) for line in (run / "server.log").read_text().splitlines()]
    (entry,) = [e for e in entries if e["event"].startswith("i-PI's positions compared")]
    return entry


def test_an_orientation_that_is_not_that_of_ipi_turns_the_dead_loads(tmp_path: Path) -> None:
    """By symmetry a perfect crystal has no forces; loads in the wrong frame would make some."""
    turned = PRIMITIVE.copy()
    turned.rotate(35.0, (1.0, 2.0, 3.0), rotate_cell=True)
    write(tmp_path / "reference.extxyz", turned)
    standard = PRIMITIVE.copy()
    standard.set_cell(standard.cell.standard_form()[0], scale_atoms=True)
    _write_ipi(tmp_path / "init.xyz", standard)
    case = _case(tmp_path, "<file mode='xyz'> init.xyz </file>", "reference.extxyz")
    done = _run(case)
    assert done.returncode == 0, done.stderr
    assert np.abs(_forces(case)).max() < 1e-7
    entry = _compared(case)
    assert entry["turned_degrees"] > 20.0
    assert entry["rms_displacement"] < 1e-4
    states = [json.loads(file.read_text()) for file in case.glob("runs/*/mixing.json")]
    assert np.abs(states[0]["loads"]["forces"]).max() > 1e-3


def test_equal_atoms_in_another_order_are_refused_and_reordered(tmp_path: Path) -> None:
    order = np.random.default_rng(0).permutation(len(CUBIC))
    write(tmp_path / "reference.extxyz", CUBIC)
    _write_ipi(tmp_path / "init.xyz", CUBIC[order])
    case = _case(tmp_path, "<file mode='xyz'> init.xyz </file>", "reference.extxyz")
    refused = mixserver_here("run", case, "--quiet")
    assert refused.returncode == 1
    assert "equal atoms in another order than the structure" in refused.stderr
    assert "mixserver reorder" in refused.stderr
    done = mixserver_here("reorder", case, "-o", case / "ordered.extxyz")
    assert done.returncode == 0, done.stderr
    seed = int(np.flatnonzero(order == 7)[0])
    assert f"region.seeds.indices = [{seed}]" in done.stdout
    mended = (case / "mix.toml").read_text()
    mended = mended.replace("reference.extxyz", "ordered.extxyz")
    (case / "mix.toml").write_text(mended.replace("indices = [7]", f"indices = [{seed}]"))
    done = _run(case)
    assert done.returncode == 0, done.stderr
    assert np.abs(_forces(case)).max() < 1e-7
    assert _compared(case)["rms_displacement"] < 1e-6


@pytest.mark.parametrize("mismatch", ["refuse", "warn"])
def test_another_cell_is_refused_unless_it_is_meant(tmp_path: Path, mismatch: str) -> None:
    write(tmp_path / "reference.extxyz", CUBIC)
    _write_ipi(tmp_path / "init.xyz", CUBIC, factor=1.35)
    case = _case(
        tmp_path,
        "<file mode='xyz'> init.xyz </file>",
        "reference.extxyz",
        f'mismatch = "{mismatch}"',
    )
    done = (mixserver_here if mismatch == "refuse" else mixserver)("run", case, "--quiet")
    if mismatch == "refuse":
        assert done.returncode == 1
        assert "lengths are 1.3500 times as large, another volume" in done.stderr
    else:
        assert done.returncode == 0, done.stderr
        assert _compared(case)["cell_within_percent"] == pytest.approx(35.0)


SEEDS = {
    "energy": 'seeds = { kind = "atoms", indices = [7] }',
    "force": 'seeds = { kind = "sphere", centre = [4.0, 5.0, 6.0], radius = 2.0 }',
}


@pytest.mark.parametrize("kind", ["energy", pytest.param("force", marks=pytest.mark.physics)])
def test_copies_that_ipi_turns_have_the_same_forces(tmp_path: Path, kind: str) -> None:
    """i-PI's <ffrotations> sends turned and inverted copies and turns the forces back."""
    hot = CUBIC.copy()
    hot.positions += np.random.default_rng(4).normal(0.0, 0.15, hot.positions.shape)
    write(tmp_path / "reference.extxyz", CUBIC)
    _write_ipi(tmp_path / "init.xyz", hot)
    case = _case(tmp_path, "<file mode='xyz'> init.xyz </file>", "reference.extxyz")
    toml = (case / "mix.toml").read_text().replace(SEEDS["energy"], SEEDS[kind])
    (case / "mix.toml").write_text(
        toml.replace("[models.cheap]", f'[mixing]\nkind = "{kind}"\n[models.cheap]')
    )
    found = []
    for turned in (False, True):
        if turned:
            text = (case / "input.xml").read_text()
            text = text.replace(
                "<ffsocket name='mixserver'",
                "<ffrotations name='mixserver'> <random> True </random> <inversion> True "
                "</inversion> <ffsocket name='inner'",
            ).replace("</ffsocket>", "</ffsocket> </ffrotations>")
            (case / "input.xml").write_text(text)
        done = _run(case)
        assert done.returncode == 0, done.stderr
        run = max((case / "runs").glob("[0-9]*"))
        found.append((_forces(case), np.loadtxt(run / "simulation.out")[:, 1]))
    (forces, potential), (turned_forces, turned_potential) = found
    assert np.abs(forces).max() > 0.01
    np.testing.assert_allclose(turned_forces, forces, atol=1e-6)
    np.testing.assert_allclose(turned_potential, potential, rtol=1e-7)
    assert len(list(case.glob("runs/0002/failed.xyz"))) == 0


async def test_ase_is_compared_too_and_may_turn_its_atoms(tmp_path: Path) -> None:
    hot = CUBIC.copy()
    hot.positions += np.random.default_rng(9).normal(0.0, 0.1, hot.positions.shape)
    turned = hot.copy()
    turned.rotate(70.0, (3.0, 1.0, 2.0), rotate_cell=True)
    turned.positions += 11.0
    shuffled = hot[np.random.default_rng(3).permutation(len(hot))]
    write(tmp_path / "reference.extxyz", CUBIC)
    name = unique("start")
    case = _case(tmp_path, "", "reference.extxyz")
    (case / "input.xml").unlink()
    (case / "mix.toml").write_text(
        (case / "mix.toml").read_text().replace("unix:start", f"unix:{name}")
    )

    def use() -> list[tuple[float, np.ndarray]]:
        found = []
        with (
            contextlib.suppress(SocketClosed, ConnectionError),
            SocketIOCalculator(unixsocket=name, timeout=HANG_S) as calculator,
        ):
            for atoms in (hot, turned, shuffled):
                atoms.calc = calculator
                found.append((atoms.get_potential_energy(), atoms.get_forces()))
        return found

    loaded = load_case(case)
    (tmp_path / "run").mkdir()
    parts = build(loaded, tmp_path / "run")
    service = Service(parts)
    async with service.listening(), running_local_workers(loaded, parts, tmp_path / "run"):
        serving = asyncio.ensure_future(service.serve())
        asked = asyncio.ensure_future(asyncio.to_thread(use))
        with pytest.raises(UpstreamError, match="equal atoms in another order"):
            await serving
        found = await asked
    (energy, forces), (turned_energy, turned_forces) = found
    assert turned_energy == pytest.approx(energy, abs=1e-6)
    rotation = np.linalg.solve(hot.cell[:], turned.cell[:])
    np.testing.assert_allclose(turned_forces, forces @ rotation, atol=1e-6)
    assert np.abs(forces).max() > 0.01
    assert (tmp_path / "run" / "failed.xyz").exists()
