"""The soft set of silicon from a real MACE: a few steps, every kind of structure, all labels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from cells import silicon
from tolerance import EXACT

from mixserver.distill.hot import sample
from mixserver.distill.labels import ask, label, whole
from mixserver.distill.pool import workers
from mixserver.distill.reading import load_order
from mixserver.distill.structures import soft_structures
from mixserver.record.structures import write_frame

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
    order = load_order(tmp_path)
    async with workers(order, tmp_path / "workers") as dispatcher:
        snapshots = await sample(order.recipe.soft, perfect, dispatcher, tmp_path)
        structures = soft_structures(snapshots, order.recipe.soft, 4)
        labels = await label(structures, dispatcher, tmp_path)
        undivided = [await ask(whole(structure), dispatcher) for structure in structures]
    assert [len(labelled.structure) for labelled in labels] == [64, 64, 64, 64, 63]
    for divided, plain in zip(labels, undivided, strict=True):
        assert divided.energy.sum() == pytest.approx(plain.energy[0], abs=1e-8)
        assert np.allclose(divided.forces.sum(axis=0), plain.forces[0], atol=EXACT)
        assert np.allclose(divided.virial.sum(axis=0), plain.virial[0], atol=1e-8)
    hot = [np.sqrt(np.mean(labelled.forces.sum(axis=0) ** 2)) for labelled in labels[:3]]
    assert 0.2 < min(hot) < max(hot) < 2.0  # eV/Å, what silicon has at some hundred K
