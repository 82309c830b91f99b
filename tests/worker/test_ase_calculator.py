"""ASE calculators as engines: the rules they keep, and what they are refused for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

pytest.importorskip("ase", exc_type=ImportError)

from ase.build import bulk
from ase.calculators.calculator import Calculator
from ase.calculators.emt import EMT
from mixserver_worker.conformance import System, Tolerance, check_engine, evaluate
from mixserver_worker.engines.ase_calculator import AseEngine

from mixserver.core.errors import BadInput, ConfigError, WorkerFault

SAME = 1e-12
LJ = {"sigma": 2.3, "epsilon": 0.1, "rc": 5.0, "smooth": True}


class Springs(Calculator):  # type: ignore[misc]
    """Every atom on a spring to the next: no stress."""

    implemented_properties: ClassVar[list[str]] = ["energy", "forces"]

    def __init__(self, file: str = "", broken: str = "") -> None:
        super().__init__()
        self.broken = broken

    def calculate(self, atoms: Any = None, properties: Any = None, changes: Any = None) -> None:
        super().calculate(atoms, properties, changes)
        apart = np.diff(atoms.positions, axis=0)
        forces = np.zeros_like(atoms.positions)
        forces[:-1] += apart
        forces[1:] -= apart
        if self.broken == "error":
            raise RuntimeError("no convergence")
        energy = float("nan") if self.broken == "nan" else 0.5 * float((apart**2).sum())
        self.results = {"energy": energy, "forces": forces}


def copper(pbc: bool | tuple[bool, bool, bool] = True) -> System:
    atoms = bulk("Cu", cubic=True)
    atoms.rattle(0.1, seed=1)
    skew = np.eye(3) + 0.1 * np.array([[0, 1, -1], [0.5, 0, 1], [1, 0.3, 0]])
    atoms.set_cell(np.array(atoms.cell) @ skew, scale_atoms=True)
    atoms.pbc = pbc
    return System.of(atoms)


@pytest.mark.parametrize("pbc", [True, (True, True, False), False])
def test_emt_conforms(pbc: bool | tuple[bool, bool, bool]) -> None:
    check_engine(AseEngine("emt", species=[29]), copper(pbc))


def test_lennard_jones_conforms() -> None:
    check_engine(AseEngine("ase.calculators.lj:LennardJones", LJ, cutoff=5.0), copper())


def test_answers_are_those_of_ase() -> None:
    system = copper()
    answer = evaluate(AseEngine("ase.calculators.emt.EMT"), system)
    atoms = bulk("Cu", cubic=True)
    atoms.set_cell(system.cell)
    atoms.set_positions(system.positions)
    atoms.calc = EMT()
    assert answer.energy == pytest.approx(atoms.get_potential_energy(), abs=SAME)
    np.testing.assert_allclose(answer.forces, atoms.get_forces(), atol=SAME)
    np.testing.assert_allclose(
        answer.virial, -atoms.get_stress(voigt=False) * atoms.get_volume(), atol=SAME
    )


def test_without_stress_it_must_be_said_in_words() -> None:
    path = f"{__name__}:Springs"
    with pytest.raises(ConfigError, match=r"has no stress(.|\n)*--no-virial"):
        AseEngine(path)
    engine = AseEngine(path, no_virial=True)
    assert not evaluate(engine, copper()).virial.any()
    assert not engine.card.energies


def test_free_systems_have_a_virial_without_stress() -> None:
    engine = AseEngine(f"{__name__}:Springs", no_virial=True)
    system = copper(False)
    answer = evaluate(engine, system)
    apart = np.diff(system.positions, axis=0)
    np.testing.assert_allclose(answer.virial, -apart.T @ apart, atol=SAME)


def test_a_free_system_needs_no_cell() -> None:
    system = replace(copper(False), cell=np.zeros((3, 3)))
    expected = evaluate(AseEngine("emt"), copper(False))
    np.testing.assert_allclose(
        evaluate(AseEngine("emt"), system).forces, expected.forces, atol=SAME
    )


@pytest.mark.parametrize(
    ("path", "settings", "match"),
    [
        ("emt.EMT", {}, "is the package installed here"),
        ("no-such", {}, "neither package.module:Name nor"),
        ("no.such.module:Thing", {}, "is the package installed here"),
        ("ase.calculators.emt:ETM", {}, "there is no ETM"),
        (f"{__name__}:Springs", {"sigm": 1}, "does not take"),
        ("pathlib:Path", {}, "not an ASE calculator with energy and forces"),
    ],
)
def test_invalid_settings_are_reported(path: str, settings: dict[str, Any], match: str) -> None:
    with pytest.raises(ConfigError, match=match):
        AseEngine(path, settings)


def test_an_element_the_calculator_lacks_is_the_jobs_fault() -> None:
    system = copper()
    system.numbers[0] = 14
    with pytest.raises(BadInput, match="EMT"):
        evaluate(AseEngine("ase.calculators.emt:EMT"), system)
    with pytest.raises(BadInput, match="knows Cu, not Si"):
        evaluate(AseEngine("emt", species=[29]), system)


def test_a_calculator_that_fails_is_the_workers_fault() -> None:
    engine = AseEngine(f"{__name__}:Springs", {"broken": "error"}, no_virial=True)
    with pytest.raises(WorkerFault, match="RuntimeError: no convergence"):
        evaluate(engine, copper())


def test_an_energy_that_is_not_finite_is_refused() -> None:
    engine = AseEngine(f"{__name__}:Springs", {"broken": "nan"}, no_virial=True)
    with pytest.raises(BadInput, match="not finite"):
        evaluate(engine, copper())


def test_weights_and_criteria_are_refused() -> None:
    engine = AseEngine("emt")
    with pytest.raises(BadInput, match="neither criteria nor site weights"):
        evaluate(engine, copper(), weight=np.linspace(0, 1, 4))
    with pytest.raises(BadInput, match="neither criteria"):
        evaluate(engine, copper(), criterion="coord/atom cutoff 3")


@pytest.mark.parametrize(
    "wrap",
    [lambda f: f, lambda f: [f], lambda f: ("a", [f]), lambda f: {"Si": f}, lambda f: [{"x": [f]}]],
)
@pytest.mark.parametrize("kind", [str, Path])
def test_files_count_by_their_content_however_deep_they_are_named(
    tmp_path: Path, kind: type, wrap: Callable[[object], object]
) -> None:
    def fingerprint(name: str, content: str) -> str:
        (tmp_path / name).write_text(content)
        file = kind(tmp_path / name)
        engine = AseEngine(f"{__name__}:Springs", {"file": wrap(file)}, no_virial=True)
        return engine.card.fingerprint

    one = fingerprint("a.pth", "one")
    assert fingerprint("a.pth", "two") != one
    assert fingerprint("b.pth", "one") == one  # wherever it lies


def test_the_fingerprint_is_of_settings_and_files(tmp_path: Path) -> None:
    file = tmp_path / "model"
    prints = []
    for text in ("one", "two", "one"):
        file.write_text(text)
        engine = AseEngine(f"{__name__}:Springs", {"file": str(file)}, no_virial=True)
        prints.append(engine.card.fingerprint)
    assert prints[0] == prints[2] != prints[1]
    assert (
        AseEngine("emt").card.fingerprint
        != AseEngine("emt", {"asap_cutoff": True}).card.fingerprint
    )


def test_its_card_takes_what_is_known() -> None:
    card = AseEngine("emt", cutoff=5.0, species=[29, 13]).card
    assert (card.cutoff, card.receptive_field, card.species) == (5.0, 5.0, (13, 29))
    assert not card.weights
    assert not card.criteria
    assert AseEngine("emt", cutoff=5.0, receptive_field=10.0).card.receptive_field == 10.0
    assert evaluate(AseEngine("emt"), copper()).energies is not None
    assert Tolerance.of("float32").step > Tolerance.of("float64").step
