"""MACE on kernels of symmetrix-xl against the torch engine, finite differences and itself."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mace_samples import build
from mixserver_worker.conformance import System, Tolerance, check_engine
from mixserver_worker.engines.mace.engine import MaceEngine
from mixserver_worker.engines.mace.model import quiet
from mixserver_worker.engines.symmetrix import stages
from mixserver_worker.engines.symmetrix.engine import SymmetrixEngine
from mixserver_worker.memory import OutOfMemory, bounded
from odd_systems import CASES, agree, job, system
from symmetrix_samples import HEAD, SYMMETRIX_MODELS

from mixserver.core.errors import BadInput

pytest.importorskip("symmetrix")
pytestmark = [pytest.mark.mace, pytest.mark.symmetrix]

SPLINES = {"float64": 2e-6, "float32": 2e-4}
"""Relative to the largest force: radial functions are splines; rounding."""

KINDS = [
    pytest.param(name, marks=pytest.mark.physics if name in ("first residual", "density") else ())
    for name in SYMMETRIX_MODELS
]
"""The features of the longer ones are together in "vectors"."""

Make = Callable[..., SymmetrixEngine]


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], str]:
    """Path of one of SYMMETRIX_MODELS, made when first asked for."""
    folder = tmp_path_factory.mktemp("symmetrix-models")

    def path(name: str) -> str:
        found = folder / f"{name.replace(' ', '-')}.model"
        if not found.exists():
            import torch

            with quiet():
                torch.save(build(**SYMMETRIX_MODELS[name]), found)
        return str(found)

    return path


@pytest.fixture(scope="module")
def made(
    file: Callable[[str], str], tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., Any]:
    """Engines of both kinds, kept, with one cache of converted models."""
    cache = tmp_path_factory.mktemp("cache")
    engines: dict[tuple[Any, ...], Any] = {}

    def make(kind: type, name: str, **settings: Any) -> Any:
        key = (kind, name, *sorted(settings.items()))
        if key not in engines:
            more = {"head": HEAD} if name == "two heads" else {}
            if kind is SymmetrixEngine:
                more["cache"] = cache
            settings = {"device": "cpu", "threads": 1} | settings
            engines[key] = kind(file(name), **settings, **more)
        return engines[key]

    return make


@pytest.fixture(scope="module")
def symmetrix(made: Callable[..., Any]) -> Make:
    return lambda name, **settings: made(SymmetrixEngine, name, **settings)


@pytest.fixture(scope="module")
def by_torch(made: Callable[..., Any]) -> Callable[[str], MaceEngine]:
    return lambda name: made(MaceEngine, name)


def some_weights(atoms: System) -> np.ndarray[Any, Any]:
    weight = np.random.default_rng(4).random(len(atoms))
    weight[1::2] = 0.0
    weight[-1] = -0.3
    return weight


@pytest.mark.parametrize("name", KINDS)
def test_agrees_with_torch_in_every_cell(
    symmetrix: Make, by_torch: Callable[[str], MaceEngine], name: str
) -> None:
    for case in CASES:
        atoms = system(case)
        for weight in (None, some_weights(atoms)):
            got = symmetrix(name).evaluate(job(atoms, weight))
            expected = by_torch(name).evaluate(job(atoms, weight))
            agree(got, expected, room=SPLINES["float64"])
            np.testing.assert_allclose(got.energies, expected.energies, rtol=0, atol=1e-6)
        assert len(atoms) == 1 or np.abs(got.forces).max() > 0.05, "a test that cannot fail"


@pytest.mark.parametrize("name", KINDS)
def test_conforms(symmetrix: Make, name: str) -> None:
    case = "slab" if name in ("two heads", "density") else "triclinic"
    check_engine(symmetrix(name), system(case), tolerance=Tolerance())


def test_single_precision(symmetrix: Make, by_torch: Callable[[str], MaceEngine]) -> None:
    name = "vectors"
    atoms = system("triclinic")
    engine = symmetrix(name, dtype="float32")
    weight = some_weights(atoms)
    got = engine.evaluate(job(atoms, weight))
    agree(got, by_torch(name).evaluate(job(atoms, weight)), room=SPLINES["float32"])
    assert np.abs(got.forces.sum(axis=0)).max() < 1e-12
    check_engine(engine, atoms)
    assert engine.card.fingerprint != symmetrix(name).card.fingerprint


@pytest.mark.parametrize("name", ["plain", pytest.param("vectors", marks=pytest.mark.physics)])
def test_several_threads(symmetrix: Make, by_torch: Callable[[str], MaceEngine], name: str) -> None:
    """Another evaluator of symmetrix-xl: the one that CUDA has too."""
    engine = symmetrix(name, threads=2)
    assert "Kokkos" in type(engine.staged._model).__name__
    for case in ("triclinic", "free"):
        atoms = system(case)
        weight = some_weights(atoms)
        got = engine.evaluate(job(atoms, weight))
        agree(got, by_torch(name).evaluate(job(atoms, weight)), room=SPLINES["float64"])
    check_engine(engine, system("triclinic"))


@pytest.mark.parametrize("apart", [0.05, 0.4, 0.8, 1.3, 3.59, 3.6, 3.7])
def test_two_atoms_at_any_distance(
    symmetrix: Make, by_torch: Callable[[str], MaceEngine], apart: float
) -> None:
    """Splines begin at 0 and end at the cutoff, 3.6 Å."""
    pair = System(
        np.array([[0.0, 0.0, 0.0], [0.6 * apart, 0.8 * apart, 0.0]]),
        np.array([6, 14], np.int32),
        np.zeros((3, 3)),
        (False,) * 3,
    )
    for name in ("plain", "vectors"):
        got = symmetrix(name).evaluate(job(pair))
        agree(got, by_torch(name).evaluate(job(pair)), room=5.0 * SPLINES["float64"])


def test_layers_are_pruned(symmetrix: Make) -> None:
    """A chain whose sites at one end depend on four neighbours: the rest changes nothing."""
    dice = np.random.default_rng(2)
    positions = np.arange(16)[:, None] * np.array([2.4, 0.0, 0.0])
    positions = positions + dice.normal(scale=0.1, size=positions.shape)
    numbers = dice.choice([1, 6], 16).astype(np.int32)
    chain = System(positions, numbers, np.zeros((3, 3)), (False,) * 3)
    weight = np.zeros(16)
    weight[0] = 0.7
    engine = symmetrix("plain", skin=0.4)
    got = engine.evaluate(job(chain, weight))
    cached = engine.graphs.graphs[1,].graph
    assert cached.atoms == (1, 2, 3)
    assert got.forces[:3].any(axis=1).all()
    assert not got.forces[3:].any()
    alone = replace(chain, positions=positions[:3], numbers=numbers[:3])
    short = engine.evaluate(job(alone, weight[:3], stream=2))
    assert got.energy == pytest.approx(short.energy, abs=1e-13)
    np.testing.assert_allclose(got.forces[:3], short.forces, rtol=0, atol=1e-13)


@pytest.mark.parametrize("skin", [0.0, 0.3, 1.5])
def test_the_skin_changes_nothing(symmetrix: Make, skin: float) -> None:
    atoms = system("slab")
    weight = some_weights(atoms)
    walk = np.random.default_rng(9).normal(scale=0.05, size=(6, *atoms.positions.shape))
    for step in walk.cumsum(axis=0):
        moved = replace(atoms, positions=atoms.positions + step)
        got = symmetrix("two heads", skin=skin).evaluate(job(moved, weight, stream=5))
        agree(got, symmetrix("two heads").evaluate(job(moved, weight, stream=6)), room=1e-11)


def test_elements_may_change_from_job_to_job(
    symmetrix: Make, by_torch: Callable[[str], MaceEngine]
) -> None:
    for species in ((1, 6), (6, 14), (14,), (1, 6, 14), (1,)):
        atoms = system("free", species=species)
        for name in ("vectors", "plain"):
            got = symmetrix(name).evaluate(job(atoms, some_weights(atoms)))
            expected = by_torch(name).evaluate(job(atoms, some_weights(atoms)))
            agree(got, expected, room=SPLINES["float64"])


def test_large_energies_of_isolated_atoms_keep_their_digits(tmp_path: Path) -> None:
    """As of codes with all electrons: 1e5 eV an atom, in single precision."""
    import torch

    module = build(**SYMMETRIX_MODELS["plain"])
    energies = torch.tensor([[-13.1, -1029.7, -108342.1]], dtype=torch.float64)
    module.atomic_energies_fn.atomic_energies.copy_(energies)
    path = tmp_path / "heavy.model"
    with quiet():
        torch.save(module, path)
    atoms = system("triclinic")
    expected = MaceEngine(str(path), device="cpu", threads=1).evaluate(job(atoms))
    engine = SymmetrixEngine(str(path), device="cpu", dtype="float32", threads=1, cache=tmp_path)
    got = engine.evaluate(job(atoms))
    assert abs(got.energy - expected.energy) < 1e-3
    np.testing.assert_allclose(got.forces, expected.forces, rtol=0, atol=1e-4)


def _same_place(atoms: System) -> System:
    atoms.positions[4] = atoms.positions[2] + atoms.cell[0]
    return atoms


def _helium(atoms: System) -> System:
    atoms.numbers[5] = 2
    return atoms


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_same_place, "atoms 2 and 4 are at the same place"),
        (_helium, "knows H, C, Si, not He"),
        (lambda atoms: replace(atoms, cell=atoms.cell * [[1], [1], [0]]), "no volume"),
    ],
)
def test_bad_input_is_refused(
    symmetrix: Make, change: Callable[[System], System], message: str
) -> None:
    atoms = system("triclinic")
    atoms = replace(atoms, positions=atoms.positions.copy(), numbers=atoms.numbers.copy())
    with pytest.raises(BadInput, match=message):
        symmetrix("plain").evaluate(job(change(atoms)))
    with pytest.raises(BadInput, match="no criteria"):
        symmetrix("plain").evaluate(job(system("triclinic"), criterion="coord/atom cutoff 2.9"))


@pytest.mark.physics
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_compiled_code_for_equal_weights(
    file: Callable[[str], str], by_torch: Callable[[str], MaceEngine], tmp_path: Path, dtype: str
) -> None:
    engine = SymmetrixEngine(
        file("density"), device="cpu", dtype=dtype, threads=1, cache=tmp_path, compiled=True
    )
    assert engine.whole is not None
    for case in CASES:
        atoms = system(case)
        for weight in (None, np.full(len(atoms), 0.7)):
            got = engine.evaluate(job(atoms, weight))
            expected = by_torch("density").evaluate(job(atoms, weight))
            agree(got, expected, room=SPLINES[dtype])
    check_engine(engine, system("triclinic"))


def test_more_edges_than_can_be_numbered_are_evaluated_in_parts(
    symmetrix: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """symmetrix-xl does not check its 32-bit numbers; the limit is lowered to reach it here."""
    engine = symmetrix("plain")
    positions = np.arange(16)[:, None] * np.array([2.4, 0.0, 0.0])
    chain = System(positions, np.full(16, 6, np.int32), np.zeros((3, 3)), (False,) * 3)
    weight = np.linspace(0.1, 1.0, 16)
    whole = engine.evaluate(job(chain, weight))
    monkeypatch.setattr(stages, "_LARGEST", 16 * 30 - 1)  # radial functions, edges
    with pytest.raises(OutOfMemory, match="more than symmetrix-xl can number"):
        engine.evaluate(job(chain, weight))
    agree(bounded(engine).evaluate(job(chain, weight)), whole, room=1e-12)
