"""The metatomic engine against metatomic's own calculator, finite differences, and itself."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import ase
import numpy as np
import pytest
from mixserver_worker.conformance import System, check_engine
from mixserver_worker.engines.metatomic.engine import MetatomicEngine
from mixserver_worker.engines.metatomic.model import quiet
from odd_systems import agree, job, system

from mixserver.core.errors import BadInput
from mixserver.core.strain import stress_to_voigt

pytestmark = pytest.mark.metatomic

Make = Callable[..., MetatomicEngine]
WAYS: dict[str, dict[str, Any]] = {
    "neighbours": {"use": "neighbours"},
    "positions": {"use": "positions"},
    "both": {"use": "both"},
    "half list": {"use": "both", "full_list": False},
    "atomic units": {"use": "both", "atomic_units": True},
}


@pytest.mark.parametrize("case", ["triclinic", "smaller than the cutoff"])
@pytest.mark.parametrize("way", WAYS)
def test_agrees_with_metatomics_own_calculator(
    engine: Make, export: Callable[..., str], way: str, case: str
) -> None:
    atoms = system(case)
    got = engine(**WAYS[way]).evaluate(job(atoms))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from metatomic_ase import MetatomicCalculator

        calculator = MetatomicCalculator(export(**WAYS[way]), device="cpu")
        same = ase.Atoms(
            numbers=atoms.numbers, positions=atoms.positions, cell=atoms.cell, pbc=atoms.pbc
        )
        same.calc = calculator
        energy, forces = same.get_potential_energy(), same.get_forces()
        virial = -same.get_stress() * same.get_volume()
    assert got.energy == pytest.approx(energy, abs=1e-10)
    np.testing.assert_allclose(got.forces, forces, rtol=0, atol=1e-10)
    np.testing.assert_allclose(stress_to_voigt(got.virial), virial, rtol=0, atol=1e-9)
    assert len(atoms) == 1 or np.abs(got.forces).max() > 0.1, "a test that cannot fail"


@pytest.mark.parametrize(
    ("way", "case"),
    [
        ("neighbours", "left-handed"),
        ("positions", "slab"),
        ("both", "triclinic"),
        ("half list", "wire"),
        ("half list", "smaller than the cutoff"),
        ("atomic units", "free"),
        ("both", "cluster in a large cell"),
    ],
)
def test_conforms(engine: Make, way: str, case: str) -> None:
    check_engine(engine(**WAYS[way]), system(case))


def test_single_precision_conforms_also_far_from_the_origin(engine: Make) -> None:
    atoms = system("free")
    single, double = engine(dtype="float32"), engine(dtype="float64")
    assert single.card.dtype == "float32"
    check_engine(single, atoms)
    exact = double.evaluate(job(atoms))
    far = single.evaluate(job(replace(atoms, positions=atoms.positions + 3000.0)))
    np.testing.assert_allclose(far.forces, exact.forces, rtol=0, atol=1e-4)


@pytest.mark.parametrize("case", ["triclinic", "free"])
def test_units_change_nothing(engine: Make, case: str) -> None:
    atoms = system(case)
    weight = np.linspace(0.0, 1.0, len(atoms))
    agree(
        engine(atomic_units=True).evaluate(job(atoms, weight)),
        engine().evaluate(job(atoms, weight)),
        room=1e-9,
    )


def long_chain() -> System:
    dice = np.random.default_rng(2)
    positions = np.arange(16)[:, None] * np.array([2.4, 0.0, 0.0])
    positions = positions + dice.normal(scale=0.1, size=positions.shape)
    return System(
        positions, dice.choice([1, 6], 16).astype(np.int32), np.zeros((3, 3)), (False,) * 3
    )


@pytest.mark.parametrize("periodic", [False, True])
def test_atoms_beyond_the_interaction_range_are_left_out(engine: Make, periodic: bool) -> None:
    made, atoms = engine(), long_chain()
    if periodic:  # the chain closes across the cell, so that the range has both directions
        atoms = replace(atoms, cell=np.diag([38.4, 30.0, 30.0]), pbc=(True, False, True))
    weight = np.zeros(16)
    weight[0] = 1.0
    answer = made.evaluate(job(atoms, weight, stream=60))
    felt = set(np.flatnonzero(np.abs(answer.forces).max(axis=1) > 0.0).tolist())
    assert felt == ({0, 1, 2, 14, 15} if periodic else {0, 1, 2})
    kept = set(made.graphs.graphs[(60,)].graph.order.tolist())
    assert felt <= kept
    assert len(kept) <= 8
    whole = made.evaluate(job(atoms))
    assert whole.energies is not None
    assert answer.energy == pytest.approx(whole.energies[0], abs=1e-13)


def test_the_card_says_who_it_is(engine: Make) -> None:
    card = engine(atomic_units=True).card
    assert (card.engine, card.name, card.dtype) == ("metatomic", "messages", "float64")
    assert card.species == (1, 6, 14)
    assert card.cutoff == pytest.approx(3.6)
    assert card.receptive_field == pytest.approx(7.2)
    assert card.weights
    assert not card.replicas
    assert card.fingerprint != engine().card.fingerprint


def test_an_energy_among_several_is_chosen_by_its_variant(export: Callable[..., str]) -> None:
    file = export(output="energy/pbe")
    by_name = MetatomicEngine(file, variant="pbe", device="cpu", threads=1)
    alone = MetatomicEngine(file, device="cpu", threads=1)  # the only one
    assert by_name.card.fingerprint == alone.card.fingerprint
    agree(alone.evaluate(job(system("free"))), by_name.evaluate(job(system("free"))))


def test_overlapping_atoms_are_refused(engine: Make) -> None:
    atoms = system("triclinic")
    atoms.positions[4] = atoms.positions[2] + atoms.cell[0]
    with pytest.raises(BadInput, match="atoms 2 and 4 are at the same place"):
        engine().evaluate(job(atoms))


def test_loading_and_evaluating_emit_no_warnings(export: Callable[..., str]) -> None:
    import subprocess
    import sys

    from limits import HANG_S

    code = (
        "import sys, numpy as np\n"
        "from mixserver_worker.engines.threads import prepare_torch\n"
        "prepare_torch(1)\n"
        "from mixserver_worker.engines.metatomic.engine import MetatomicEngine\n"
        "from mixserver.wire.worker import Evaluate\n"
        "e = MetatomicEngine(sys.argv[1], device='cpu', threads=1)\n"
        "e.evaluate(Evaluate(job=1, stream=1, positions=2 * np.eye(3), cell=np.eye(3) * 9,\n"
        "    numbers=np.array([14, 1, 6], np.int32), pbc=(True, True, False)))\n"
    )
    done = subprocess.run(
        [sys.executable, "-W", "always", "-c", code, export()],
        capture_output=True,
        text=True,
        check=True,
        timeout=HANG_S,
    )
    assert (done.stdout, done.stderr) == ("", "")


def test_a_model_that_returns_other_atoms_is_noticed(engine: Make) -> None:
    import torch
    from metatensor.torch import Labels

    made: Any = engine()
    atoms = system("free")
    types = torch.from_numpy(atoms.numbers)
    wrong = Labels(["system", "atom"], torch.tensor([[0, 3], [0, 4]], dtype=torch.int32))
    made.evaluate(job(atoms, stream=61))
    graph = made.graphs.graphs[(61,)]
    saved = graph.on_device.prepared
    object.__setattr__(graph.on_device, "prepared", (types, wrong))
    with quiet(), pytest.raises(Exception, match="energies for 10 sites"):
        made.evaluate(job(atoms, stream=61))
    assert saved[1] is None
