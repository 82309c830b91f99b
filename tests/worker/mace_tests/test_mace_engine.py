"""The MACE engine against mace-torch's own calculator, finite differences, and itself."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import ase
import ase.io
import numpy as np
import pytest
from mace_samples import MODELS
from mixserver_worker.conformance import (
    System,
    Tolerance,
    check_engine,
    check_forces,
    check_virial,
)
from mixserver_worker.engine import EngineResult
from mixserver_worker.engines.mace.engine import MaceEngine
from mixserver_worker.engines.mace.model import read_model
from odd_systems import AGREES, CASES, agree, job, system

from mixserver.core.errors import BadInput, WorkerFault

pytestmark = pytest.mark.mace

FLOAT32 = 2e-4
"""eV/Å: a model evaluated in single precision."""

Make = Callable[..., MaceEngine]


@functools.cache
def _calculator(file: str, head: str) -> tuple[Any, Any]:
    """The model in a file, and mace's calculator with it."""
    from mace.calculators import MACECalculator

    module = read_model(file).module
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        heads = getattr(module, "heads", None) or ["Default"]
        calculator = MACECalculator(
            models=[module.double()], device="cpu", default_dtype="float64", head=head or heads[0]
        )
    return module, calculator


def reference(file: str, head: str, system: System, weight: Any) -> EngineResult:
    """Weighted site energies of the whole model, unpruned, through mace's own forward."""
    import torch

    module, calculator = _calculator(file, head)
    atoms = ase.Atoms(
        numbers=system.numbers, positions=system.positions, cell=system.cell, pbc=system.pbc
    )
    if any(system.pbc):
        atoms.wrap()
    data = calculator._atoms_to_batch(atoms).to_dict()
    data["positions"].requires_grad_(True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        out = module(data, training=True, compute_force=False, compute_displacement=True)
    energy = (torch.as_tensor(weight) * out["node_energy"]).sum()
    slope, strain = torch.autograd.grad(
        energy, [data["positions"], out["displacement"]], allow_unused=True
    )
    virial = np.zeros((3, 3)) if strain is None else -strain[0].numpy()
    return EngineResult(
        float(energy.detach()), -slope.numpy(), virial, out["node_energy"].detach().numpy()
    )


def weights_of(system: System) -> np.ndarray[Any, Any]:
    weight = np.random.default_rng(4).random(len(system))
    weight[1::2] = 0.0
    weight[-1] = 0.3
    return weight


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("name", ["one layer", "two layers", "three layers"])
def test_agrees_with_mace_in_every_cell(
    engine: Make, model_file: Callable[[str], str], name: str, case: str
) -> None:
    atoms = system(case)
    got = engine(name).evaluate(job(atoms))
    expected = reference(model_file(name), "", atoms, np.ones(len(atoms)))
    # mace replaces open cell vectors by its own, so only there its strain is another one
    agree(got, expected, virial=all(atoms.pbc))
    np.testing.assert_allclose(got.energies, expected.energies, rtol=0, atol=1e-11)
    assert len(atoms) == 1 or np.abs(got.forces).max() > 0.1, "a test that cannot fail"


@pytest.mark.parametrize("name", MODELS)
def test_weighted_and_pruned_agrees_with_mace_unpruned(
    engine: Make, model_file: Callable[[str], str], name: str
) -> None:
    atoms = system("triclinic")
    weight = weights_of(atoms)
    got = engine(name).evaluate(job(atoms, weight))
    head = "coupled cluster" if name == "two heads" else ""
    expected = reference(model_file(name), head, atoms, weight)
    agree(got, expected)
    assert got.energies is not None
    assert expected.energies is not None
    with_weight = weight != 0.0
    np.testing.assert_allclose(
        got.energies[with_weight], expected.energies[with_weight], rtol=0, atol=1e-11
    )
    assert not got.energies[~with_weight].any()
    assert np.abs(got.forces).max() > 0.05, "a test that cannot fail"


@pytest.mark.parametrize(
    ("name", "case"),
    [
        ("two layers", "triclinic"),
        ("three layers", "smaller than the cutoff"),
        ("zbl", "slab"),
        ("two heads", "free"),
    ],
)
def test_conforms(engine: Make, name: str, case: str) -> None:
    made, atoms, tolerance = engine(name), system(case), Tolerance()
    check_engine(made, atoms, tolerance=tolerance)


@pytest.mark.parametrize("name", ["one layer", "attention", "nonlinear", "last readout"])
def test_gradients_by_finite_differences(engine: Make, name: str) -> None:
    atoms, tolerance = system("left-handed"), Tolerance()
    check_forces(engine(name), atoms, tolerance, count=3)
    check_virial(engine(name), atoms, tolerance)


def long_chain() -> System:
    """Atoms every 2.4 Å: pruning of a model with cutoff 3.6 Å leaves most of them out."""
    dice = np.random.default_rng(2)
    positions = np.arange(16)[:, None] * np.array([2.4, 0.0, 0.0])
    positions = positions + dice.normal(scale=0.1, size=positions.shape)
    return System(
        positions, dice.choice([1, 6], 16).astype(np.int32), np.zeros((3, 3)), (False,) * 3
    )


@pytest.mark.parametrize("name", ["one layer", "two layers", "three layers"])
def test_atoms_that_no_site_depends_on_have_no_force(engine: Make, name: str) -> None:
    atoms = long_chain()
    weight = np.zeros(16)
    weight[0] = 1.0
    answer = engine(name).evaluate(job(atoms, weight))
    layers = round(engine(name).card.receptive_field / engine(name).card.cutoff)
    felt = np.abs(answer.forces).max(axis=1) > 0.0
    assert felt[: layers + 1].all()
    assert not felt[layers + 1 :].any()
    cut = replace(
        atoms, positions=atoms.positions[: layers + 1], numbers=atoms.numbers[: layers + 1]
    )
    alone = engine(name).evaluate(job(cut, weight[: layers + 1]))
    assert answer.energy == pytest.approx(alone.energy, abs=1e-13)
    np.testing.assert_allclose(answer.forces[: layers + 1], alone.forces, rtol=0, atol=1e-13)


def test_zero_weights_give_zeros_without_evaluating_the_model(engine: Make) -> None:
    atoms = system("triclinic")
    atoms.positions[0] = atoms.positions[1]  # the model could not evaluate this
    answer = engine("two layers").evaluate(job(atoms, np.zeros(len(atoms))))
    assert answer.energy == 0.0
    assert not answer.forces.any()
    assert not answer.virial.any()
    assert answer.energies is not None
    assert not answer.energies.any()


def test_no_atoms_at_all(engine: Make) -> None:
    nothing = System(np.zeros((0, 3)), np.zeros(0, np.int32), np.eye(3), (True,) * 3)
    answer = engine("two layers").evaluate(job(nothing))
    assert answer.energy == 0.0
    assert answer.forces.shape == (0, 3)


@pytest.mark.parametrize("name", MODELS)
def test_one_free_atom_has_the_energy_mace_gives_it(
    engine: Make, model_file: Callable[[str], str], name: str
) -> None:
    atom = System(np.array([[3.0, 1.0, 9.0]]), np.array([6], np.int32), np.eye(3), (False,) * 3)
    answer = engine(name).evaluate(job(atom))
    head = "coupled cluster" if name == "two heads" else ""
    expected = reference(model_file(name), head, atom, np.ones(1))
    assert answer.energy == pytest.approx(expected.energy, abs=1e-12)
    assert not answer.forces.any()


def test_net_force_vanishes_even_in_single_precision(engine: Make) -> None:
    atoms = system("triclinic")
    answer = engine("two layers", dtype="float32").evaluate(job(atoms, weights_of(atoms)))
    assert np.abs(answer.forces.sum(axis=0)).max() < 1e-13


def test_single_precision_far_from_the_origin(engine: Make) -> None:
    atoms = system("free")
    exact = engine("two layers").evaluate(job(atoms))
    far = replace(atoms, positions=atoms.positions + 4000.0)
    answer = engine("two layers", dtype="float32").evaluate(job(far))
    assert abs(answer.energy - exact.energy) < FLOAT32
    np.testing.assert_allclose(answer.forces, exact.forces, rtol=0, atol=FLOAT32)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_repeats_bit_for_bit_on_one_thread(engine: Make, dtype: str) -> None:
    atoms = system("triclinic")
    weight = weights_of(atoms)
    answers = [engine("two layers", dtype=dtype).evaluate(job(atoms, weight)) for _ in range(3)]
    for answer in answers[1:]:
        assert answer.energy == answers[0].energy
        np.testing.assert_array_equal(answer.forces, answers[0].forces)
        np.testing.assert_array_equal(answer.virial, answers[0].virial)


def test_new_weights_on_the_same_sites_keep_the_graph(engine: Make) -> None:
    atoms = system("triclinic")
    weight = weights_of(atoms)
    made = engine("two layers", skin=0.4)
    made.evaluate(job(atoms, weight, stream=90))
    cached = made.graphs.graphs[(90,)]
    graph, on_device = cached.graph, cached.on_device
    half = made.evaluate(job(atoms, 0.5 * weight, stream=90))
    assert cached.graph is graph
    assert cached.on_device is on_device
    fresh = engine("two layers").evaluate(job(atoms, 0.5 * weight, stream=91))
    agree(half, fresh)


@pytest.mark.parametrize("skin", [0.0, 0.3, 1.5])
def test_the_skin_changes_nothing(engine: Make, skin: float) -> None:
    atoms = system("slab")
    weight = weights_of(atoms)
    walk = np.random.default_rng(9).normal(scale=0.05, size=(6, *atoms.positions.shape))
    for step in walk.cumsum(axis=0):
        moved = replace(atoms, positions=atoms.positions + step)
        got = engine("two layers", skin=skin).evaluate(job(moved, weight, stream=5))
        fresh = engine("two layers").evaluate(job(moved, weight, stream=6))
        agree(got, fresh)


def broken(change: Callable[[System], System]) -> System:
    atoms = system("triclinic")
    return change(replace(atoms, positions=atoms.positions.copy(), numbers=atoms.numbers.copy()))


def _nan(atoms: System) -> System:
    atoms.positions[3, 1] = np.nan
    return atoms


def _same_place(atoms: System) -> System:
    atoms.positions[4] = atoms.positions[2] + atoms.cell[0]
    return atoms


def _helium(atoms: System) -> System:
    atoms.numbers[5] = 2
    return atoms


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_nan, "position of atom 3 is not finite"),
        (_same_place, "atoms 2 and 4 are at the same place"),
        (_helium, "knows H, C, Si, not He"),
        (lambda a: replace(a, cell=a.cell * [[1], [1], [0]]), "no volume"),
    ],
)
def test_bad_input_is_refused(
    engine: Make, change: Callable[[System], System], message: str
) -> None:
    with pytest.raises(BadInput, match=message):
        engine("two layers").evaluate(job(broken(change)))


def test_bad_weights_and_criteria_are_refused(engine: Make) -> None:
    atoms = system("triclinic")
    with pytest.raises(BadInput, match="weight of atom 2 is not finite"):
        engine("two layers").evaluate(job(atoms, np.where(np.arange(10) == 2, np.inf, 1.0)))
    with pytest.raises(BadInput, match="no criteria"):
        engine("two layers").evaluate(job(atoms, criterion="coord/atom cutoff 2.9"))


def test_a_result_that_is_not_finite_is_the_workers_fault(
    model_file: Callable[[str], str],
) -> None:
    import torch

    made = MaceEngine(model_file("two layers"), device="cpu")
    with torch.no_grad():
        made.sites.module.products[0].linear.weight.fill_(np.nan)
    with pytest.raises(WorkerFault, match="not finite"):
        made.evaluate(job(system("triclinic")))


def test_an_engine_works_after_close(engine: Make) -> None:
    atoms = system("slab")
    made = engine("two layers", skin=0.2)
    before = made.evaluate(job(atoms))
    made.close()
    agree(made.evaluate(job(atoms)), before)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("name", ["si_mace", "si_tiny", "wbe_mace"])
def test_trained_models_agree_with_mace(shared_models: Path, name: str, dtype: str) -> None:
    data = shared_models.parent / "data"
    file = data / ("w_128_900K.xyz" if name == "wbe_mace" else "si_216_900K.xyz")
    atoms = System.of(ase.io.read(file))
    if name == "wbe_mace":
        atoms.numbers[::9] = 4
    weight = np.zeros(len(atoms))
    weight[10:40] = np.linspace(0.1, 1.0, 30)
    made = MaceEngine(str(shared_models / f"{name}.model"), device="cpu", dtype=dtype, threads=1)
    got = made.evaluate(job(atoms, weight))
    expected = reference(str(shared_models / f"{name}.model"), "", atoms, weight)
    agree(got, expected, room=AGREES if dtype == "float64" else 1e-5)
