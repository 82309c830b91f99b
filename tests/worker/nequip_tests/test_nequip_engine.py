"""The NequIP and Allegro engine against the models' own forward, finite differences, and itself."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from mixserver_worker.conformance import System, check_engine
from mixserver_worker.engine import EngineResult
from mixserver_worker.engines.nequip.engine import NequipEngine
from mixserver_worker.engines.nequip.package import quiet
from mixserver_worker.engines.nequip.site_energies import double_by_default
from mixserver_worker.engines.torch.edges import find_edges
from odd_systems import agree, job, system

pytestmark = pytest.mark.nequip

PACKAGES = ("si_allegro", "random_nequip", "random_nequip_float32")
ROOM = {"float64": 1e-11, "float32": 3e-5}
Make = Callable[..., NequipEngine]


def atoms_for(engine: NequipEngine, case: str = "triclinic") -> System:
    return system(case, species=engine.card.species)


def own(engine: NequipEngine, atoms: System, weight: Any = None) -> EngineResult:
    """The model's own results, by positions, cell and all of its modules.

    Without weights, forces and virial are those that it computes itself.
    """
    import torch

    sites: Any = engine.sites
    edges = find_edges(atoms.positions, atoms.cell, atoms.pbc, sites.cutoff)
    types = np.searchsorted(sites.species, atoms.numbers)
    vectors = edges.positions[edges.receiver] - edges.positions[edges.sender] + edges.shift
    if sites.pair_cutoffs is not None:
        limits = sites.pair_cutoffs.numpy()[types[edges.receiver], types[edges.sender]]
        near = np.linalg.norm(vectors, axis=1) <= limits
    else:
        near = np.ones(len(vectors), bool)
    pairs = np.ascontiguousarray(np.stack((edges.receiver, edges.sender))[:, near])
    images = np.rint(-edges.shift @ np.linalg.inv(atoms.cell))
    cell = torch.from_numpy(atoms.cell).requires_grad_(True)
    positions = torch.from_numpy(edges.positions).requires_grad_(True)
    data = {
        "pos": positions,
        "cell": cell[None],
        "edge_cell_shift": torch.from_numpy(images[near]),
        "edge_index": torch.from_numpy(pairs),
        "atom_types": torch.from_numpy(types),
    }
    with quiet(), double_by_default():
        if weight is None:
            out = sites.module(data)
            forces, virial = out["forces"].numpy(), out["virial"].numpy()[0]
            energies = out["atomic_energy"].detach().numpy()[:, 0]
        else:
            inner = sites.module.model.func(data)["atomic_energy"][:, 0]
            total = (torch.from_numpy(weight) * inner).sum()
            slope, of_cell = torch.autograd.grad(total, [positions, cell])
            strain = positions.detach().T @ slope + cell.detach().T @ of_cell
            forces, virial = -slope.numpy(), -strain.numpy()
            energies = inner.detach().numpy()
    weight = np.ones(len(atoms)) if weight is None else weight
    virial = 0.5 * (virial + virial.T)
    return EngineResult(float(weight @ energies), forces, virial, energies.astype(np.float64))


@pytest.mark.parametrize("case", ["triclinic", "smaller than the cutoff"])
@pytest.mark.parametrize("name", PACKAGES)
def test_agrees_with_the_model_itself(engine: Make, name: str, case: str) -> None:
    made = engine(name)
    atoms = atoms_for(made, case)
    got, expected = made.evaluate(job(atoms)), own(made, atoms)
    room = ROOM[made.card.dtype]
    agree(got, expected, room=room)
    np.testing.assert_allclose(got.energies, expected.energies, rtol=0, atol=100 * room)
    assert len(atoms) == 1 or np.abs(got.forces).max() > 0.1, "a test that cannot fail"


@pytest.mark.parametrize("name", PACKAGES)
def test_weighted_and_pruned_agrees_with_the_whole_model(engine: Make, name: str) -> None:
    made = engine(name)
    atoms = atoms_for(made)
    weight = np.where(np.arange(len(atoms)) < 3, np.linspace(0.2, 1.0, len(atoms)), 0.0)
    got, expected = made.evaluate(job(atoms, weight)), own(made, atoms, weight)
    agree(got, expected, room=ROOM[made.card.dtype])
    assert np.abs(got.forces).max() > 0.02, "a test that cannot fail"


@pytest.mark.parametrize(
    ("name", "case"),
    [
        ("si_allegro", "left-handed"),
        ("si_allegro", "slab"),
        ("random_nequip", "free"),
        ("random_nequip", "cluster in a large cell"),
        ("random_nequip_float32", "triclinic"),
    ],
)
def test_conforms(engine: Make, name: str, case: str) -> None:
    check_engine(engine(name), atoms_for(engine(name), case))


@pytest.mark.parametrize(("name", "layers"), [("si_allegro", 1), ("random_nequip", 3)])
def test_the_receptive_field_is_that_of_the_model(engine: Make, name: str, layers: int) -> None:
    """In a chain with one neighbour within the cutoff on each side."""
    made = engine(name)
    card = made.card
    assert card.receptive_field == pytest.approx(layers * card.cutoff)
    spacing = 0.55 * card.cutoff
    count = layers + 4
    positions = np.arange(count)[:, None] * np.array([spacing, 0.1, -0.05])
    positions[:, 1] += np.random.default_rng(2).normal(scale=0.15, size=count)
    numbers = np.full(count, 14, np.int32)
    chain = System(positions, numbers, np.zeros((3, 3)), (False,) * 3)
    weight = np.zeros(count)
    weight[0] = 1.0
    answer = made.evaluate(job(chain, weight))
    felt = np.abs(answer.forces).max(axis=1) > 0.0
    assert felt[: layers + 1].all()
    assert not felt[layers + 1 :].any()
    cut = replace(chain, positions=positions[: layers + 1], numbers=numbers[: layers + 1])
    alone = made.evaluate(job(cut, weight[: layers + 1]))
    assert answer.energy == pytest.approx(alone.energy, abs=1e-12)


def test_cards_say_who_they_are(engine: Make) -> None:
    allegro, nequip = engine("si_allegro").card, engine("random_nequip").card
    assert (allegro.engine, allegro.name, allegro.dtype) == ("nequip", "si_allegro", "float64")
    assert allegro.species == (14,)
    assert nequip.species == (1, 6, 14)
    assert allegro.weights
    assert allegro.energies
    cards = [engine(name).card for name in PACKAGES]
    assert len({card.fingerprint for card in cards}) == len(cards)
    assert cards[2].dtype == "float32"


@pytest.mark.parametrize("name", PACKAGES)
def test_later_layers_are_evaluated_where_they_are_needed_only(
    name: str, engine: Make, caplog: pytest.LogCaptureFixture
) -> None:
    """The self-test at load agrees, so that nothing falls back to whole layers."""
    with caplog.at_level(logging.WARNING, "mixserver.nequip"):
        engine(name, skin=0.25)
    assert not caplog.records


def test_net_force_vanishes_even_in_single_precision(engine: Make) -> None:
    made = engine("random_nequip_float32")
    atoms = atoms_for(made)
    answer = made.evaluate(job(atoms, np.linspace(0.0, 1.0, len(atoms))))
    assert np.abs(answer.forces.sum(axis=0)).max() < 1e-12
