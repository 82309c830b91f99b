"""The soft set of silicon from a real MACE: a few steps, every kind of structure, all labels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from cells import silicon
from tolerance import EXACT

from mixserver.core.structures import write_frame
from mixserver.distill.config.load import load_project
from mixserver.distill.data.labelling import label_structure, label_structures, without_groups
from mixserver.distill.data.md_sampling import sample
from mixserver.distill.data.perturbations import soft_structures
from mixserver.distill.recipe_workers import expensive_workers

MODEL = Path(__file__).parents[2] / "inputs/silicon_vacancy/model/si_mace.model"
TEMPERATURE = 600.0

pytestmark = [pytest.mark.mace, pytest.mark.physics]


async def test_the_soft_set_of_silicon(tmp_path: Path) -> None:
    pytest.importorskip("mace")
    perfect = silicon(2, rattle=0.0)
    write_frame(tmp_path / "si.xyz", silicon(1, rattle=0.0))
    (tmp_path / "distill.toml").write_text(
        f'name = "si"\nstructure = "si.xyz"\n[expensive]\ncount = 1\n'
        f'command = ["mace", "{MODEL}", "--device", "cpu", "--dtype", "float64", '
        '"--threads", "1"]\n'
        f"[soft]\ntemperatures = [{TEMPERATURE}]\nsnapshots = 3\nequilibration_ps = 0.03\n"
        "every_ps = 0.01\nstrained = 1\nvacancies = 1\n"
    )
    project = load_project(tmp_path)
    async with expensive_workers(project, tmp_path / "workers") as dispatcher:
        snapshots = await sample(project.recipe.soft, perfect, dispatcher, tmp_path)
        structures = soft_structures(snapshots, project.recipe.soft, 4)
        labels = await label_structures(structures, dispatcher, tmp_path)
        ungrouped = [
            await label_structure(without_groups(structure), dispatcher) for structure in structures
        ]
    assert [len(labelled.structure) for labelled in labels] == [64, 64, 64, 64, 63]
    for divided, plain in zip(labels, ungrouped, strict=True):
        assert divided.energy.sum() == pytest.approx(plain.energy[0], abs=1e-8)
        assert np.allclose(divided.forces.sum(axis=0), plain.forces[0], atol=EXACT)
        assert np.allclose(divided.virial.sum(axis=0), plain.virial[0], atol=1e-8)
    hot = [np.sqrt(np.mean(labelled.forces.sum(axis=0) ** 2)) for labelled in labels[:3]]
    assert 0.2 < min(hot) < max(hot) < 2.0  # eV/Å, what silicon has at some hundred K
