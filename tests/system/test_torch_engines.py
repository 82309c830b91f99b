"""Real i-PI runs whose local workers evaluate packaged torch models, in both roles and mixings."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from ase.build import bulk
from command_line import edit, minimal_case, mixserver_done

from mixserver.analysis.run_properties import read_properties

PACKAGES = Path(__file__).parents[1] / "worker" / "nequip_tests" / "packages"
ALLEGRO = ["nequip", str(PACKAGES / "si_allegro.nequip.zip"), "--device", "cpu"]
TOY = ["toy", "--epsilon", "0.02", "--sigma", "2.1", "--cutoff", "5.0"]


@pytest.fixture
def case(tmp_path: Path) -> Path:
    """216 silicon atoms at constant energy, with a region around one of them."""
    folder = minimal_case(tmp_path)
    atoms = bulk("Si", cubic=True) * (3, 3, 3)
    atoms.rattle(0.05, seed=1)
    lengths = " ".join(f"{length:.10f}" for length in atoms.cell.lengths())
    comment = f"# CELL(abcABC): {lengths} 90 90 90 cell{{angstrom}} positions{{angstrom}}"
    lines = [str(len(atoms)), comment]
    lines += [f"Si {x:.8f} {y:.8f} {z:.8f}" for x, y, z in atoms.positions]
    (folder / "init.xyz").write_text("\n".join(lines) + "\n")
    edit(folder / "input.xml", "mode='nvt' splitting='baoab'", "mode='nve'")
    edit(folder / "input.xml", "> 5.0 </timestep>", "> 1.0 </timestep>")
    edit(folder / "input.xml", "> 40 </velocities>", "> 300 </velocities>")
    edit(folder / "mix.toml", ("core_radius = 4.0", "core_radius = 3.0"))
    return folder


def with_workers(case: Path, kind: str, **commands: list[str]) -> None:
    text = (case / "mix.toml").read_text()
    text = text[: text.index("[[local]]")].replace('kind = "energy" ', f'kind = "{kind}" ')
    if kind == "force":
        text = text.replace("follow = true", "")
    for role, command in commands.items():
        text += f'[[local]]\nrole = "{role}"\ncommand = {json.dumps(command)}\n'
    (case / "mix.toml").write_text(text)


def run(case: Path, kind: str, **commands: list[str]) -> None:
    with_workers(case, kind, **commands)
    mixserver_done("run", case, "--quiet", "--steps", "8")
    (folder,) = (case / "runs").glob("[0-9]*")
    table = read_properties([folder], ("step", "conserved", "potential"))
    potential, conserved = table.columns["potential"], table.columns["conserved"]
    assert len(potential) == 9
    assert np.ptp(potential) > 0.01, "a test that cannot fail"
    if kind == "energy":
        assert np.ptp(conserved) < 0.02 * np.ptp(potential)


@pytest.mark.nequip
@pytest.mark.parametrize(
    ("kind", "cheap", "expensive"), [("energy", TOY, ALLEGRO), ("force", ALLEGRO, TOY)]
)
def test_a_packaged_model_in_either_role(
    case: Path, kind: str, cheap: list[str], expensive: list[str]
) -> None:
    run(case, kind, cheap=cheap, expensive=expensive)


@pytest.mark.metatomic
def test_a_metatomic_model(case: Path) -> None:
    pytest.importorskip("metatomic")
    from metatomic_samples import export

    export(case / "messages.pt", atomic_units=True)
    run(case, "energy", cheap=TOY, expensive=["metatomic", "messages.pt", "--device", "cpu"])


@pytest.mark.symmetrix
@pytest.mark.parametrize(
    ("kind", "role"),
    [("energy", "expensive"), pytest.param("force", "cheap", marks=pytest.mark.physics)],
)
def test_mace_on_symmetrix_kernels(
    case: Path, kind: str, role: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("symmetrix")
    import torch

    monkeypatch.syspath_prepend(str(PACKAGES.parents[1] / "mace_tests"))
    from mace_samples import build
    from mixserver_worker.engines.mace.model import quiet
    from symmetrix_samples import SYMMETRIX_MODELS

    with quiet():
        torch.save(build(**SYMMETRIX_MODELS["first residual"]), case / "random.model")
    mace = ["mace", "random.model", "--device", "cpu", "--kernels", "symmetrix", "--cache", "cache"]
    run(case, kind, **{"cheap": TOY, "expensive": TOY, role: mace})
    assert list((case / "cache" / "symmetrix").glob("*.json"))
