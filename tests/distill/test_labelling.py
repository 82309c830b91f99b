"""Labels of groups: what they add up to, what is kept, and what is refused."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from argon import crystal
from fakes import EngineListener
from mixserver_worker.engine import EngineResult
from mixserver_worker.engines.toy import ToyEngine
from tolerance import EXACT, FINITE_DIFFERENCE, SAME

from mixserver.core.errors import ConfigError
from mixserver.dispatch.dispatcher import Dispatcher
from mixserver.dispatch.policy import Policy
from mixserver.distill.config.schema import Soft
from mixserver.distill.data.labelling import label_structures
from mixserver.distill.data.labels import Structure, load_labels
from mixserver.distill.data.md_sampling import Snapshot
from mixserver.distill.data.perturbations import soft_structures
from mixserver.wire.worker import Evaluate, ModelCard


class Counting(ToyEngine):
    """Counts what it is asked."""

    def __init__(self, *, weights: bool = True) -> None:
        super().__init__(epsilon=0.0104, sigma=3.4, cutoff=5.2)
        self.asked = 0
        self._weights = weights

    @property
    def card(self) -> ModelCard:
        card = super().card
        if self._weights:
            return card
        return ModelCard(
            engine="toy",
            name=card.name,
            fingerprint=card.fingerprint,
            weights=False,
            no_weights="it was told so",
        )

    def evaluate(self, job: Evaluate) -> EngineResult:
        self.asked += 1
        return super().evaluate(job)


def _dispatcher(engine: ToyEngine) -> Dispatcher:
    return Dispatcher(
        Policy(roles={"expensive": ""}), [EngineListener.one_per_role({"expensive": engine})]
    )


def _structures(groups: int = 3) -> list[Structure]:
    perfect = crystal(2)
    moved = np.random.default_rng(0).normal(0.0, 0.2, (len(perfect), 3))
    frame = perfect.topology.frame(perfect.positions + moved, perfect.cell)
    soft = Soft(strained=1, vacancies=1)
    return soft_structures([Snapshot("40K-0-1", 40.0, 0, 0.1, frame)], soft, groups)


async def test_groups_add_up_to_the_whole_and_are_kept(tmp_path: Path) -> None:
    engine = Counting()
    told: list[tuple[int, int]] = []
    async with _dispatcher(engine) as dispatcher:
        found = await label_structures(
            _structures(), dispatcher, tmp_path, progress=lambda *at: told.append(at)
        )
    assert engine.asked == 9
    assert told == [(0, 3), (1, 3), (2, 3), (3, 3)]
    for labelled in found:
        s = labelled.structure
        plain = Evaluate(
            job=0,
            stream=0,
            positions=s.positions,
            numbers=s.numbers,
            cell=s.cell,
            pbc=(True, True, True),
        )
        answer = ToyEngine(epsilon=0.0104, sigma=3.4, cutoff=5.2).evaluate(plain)
        assert labelled.energy.sum() == pytest.approx(answer.energy, abs=EXACT)
        assert np.allclose(labelled.forces.sum(axis=0), answer.forces, atol=EXACT)
        assert np.allclose(labelled.virial.sum(axis=0), answer.virial, atol=EXACT)
        kept = load_labels(tmp_path / f"{s.name}.npz")
        assert np.allclose(kept.forces, labelled.forces, atol=SAME)
        assert kept.structure.kind == s.kind


async def test_a_groups_forces_are_its_energys_gradient(tmp_path: Path) -> None:
    structure = _structures()[0]
    energies = []
    async with _dispatcher(Counting()) as dispatcher:
        (labelled,) = await label_structures([structure], dispatcher, tmp_path)
        for at, step in enumerate((1e-4, -1e-4)):
            positions = structure.positions.copy()
            positions[3, 1] += step
            moved = dataclasses.replace(structure, name=f"moved-{at}", positions=positions)
            energies.append((await label_structures([moved], dispatcher, tmp_path))[0].energy)
    slope = (energies[0] - energies[1]) / 2e-4
    assert np.allclose(labelled.forces[:, 3, 1], -slope, atol=FINITE_DIFFERENCE)


async def test_what_was_labelled_is_not_asked_again(tmp_path: Path) -> None:
    async with _dispatcher(Counting()) as dispatcher:
        first = await label_structures(_structures(), dispatcher, tmp_path)
    (tmp_path / "strained-000.npz").unlink()
    engine = Counting()
    async with _dispatcher(engine) as dispatcher:
        again = await label_structures(_structures(), dispatcher, tmp_path)
    assert engine.asked == 3
    for one, other in zip(first, again, strict=True):
        assert one.structure.name == other.structure.name
        assert np.allclose(one.forces, other.forces, atol=SAME)


async def test_labels_of_another_structure_are_refused(tmp_path: Path) -> None:
    async with _dispatcher(Counting()) as dispatcher:
        await label_structures(_structures(3), dispatcher, tmp_path)
        with pytest.raises(ConfigError, match=r"labels another structure.*delete it"):
            await label_structures(_structures(4), dispatcher, tmp_path)
        (tmp_path / "40K-0-1.npz").write_bytes(b"PK")
        with pytest.raises(ConfigError, match="not a labelled structure"):
            await label_structures(_structures(3), dispatcher, tmp_path)


async def test_two_structures_of_one_name_are_refused(tmp_path: Path) -> None:
    async with _dispatcher(Counting()) as dispatcher:
        with pytest.raises(ConfigError, match=r"repeated: 40K-0-1"):
            await label_structures(_structures()[:1] * 2, dispatcher, tmp_path)


async def test_a_model_without_weights_gives_undivided_labels(tmp_path: Path) -> None:
    engine = Counting(weights=False)
    async with _dispatcher(engine) as dispatcher:
        found = await label_structures(_structures(), dispatcher, tmp_path)
    assert engine.asked == 3
    assert all(len(labelled.energy) == labelled.structure.groups == 1 for labelled in found)
