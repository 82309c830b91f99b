"""The Python interface: regions, the calculator against finite differences, and its errors."""

from __future__ import annotations

import doctest
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from limits import HANG_S

from mixserver.api import (
    ConfigError,
    MixedCalculator,
    MixserverError,
    load_case,
    read_run,
    read_structure,
    region_of,
)

ROOT = Path(__file__).parents[1]
MINIMAL = ROOT / "inputs/minimal"
PAGE = ROOT / "docs/reference/python.md"


@pytest.fixture(scope="module")
def calculator() -> Iterator[MixedCalculator]:
    with MixedCalculator(MINIMAL) as made:
        made.structure().get_potential_energy()  # all threads that it needs have started
        yield made


@pytest.fixture
def atoms(calculator: MixedCalculator) -> Atoms:
    atoms = calculator.structure()
    atoms.rattle(0.1, seed=3)
    return atoms


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A short run of the minimal case."""
    folder = tmp_path_factory.mktemp("runs")
    command = [Path(sys.executable).with_name("mixserver"), "run", MINIMAL]
    subprocess.run(
        [*command, "--steps", "3", "--runs", folder],
        check=True,
        capture_output=True,
        timeout=HANG_S,
    )
    return folder / "latest"


def _children() -> list[int]:
    """Processes that threads of this process started."""
    tasks = Path("/proc/self/task").iterdir()
    return [int(pid) for task in tasks for pid in (task / "children").read_text().split()]


def test_forces_are_minus_the_gradient_of_the_energy(atoms: Atoms) -> None:
    forces = atoms.get_forces()
    step = 1e-3
    for atom, axis in [(132, 0), (133, 1), (5, 2)]:
        energies = []
        for sign in (1, -1):
            moved = atoms.copy()
            moved.calc = atoms.calc
            moved.positions[atom, axis] += sign * step
            energies.append(moved.get_potential_energy())
        slope = (energies[0] - energies[1]) / (2 * step)
        assert forces[atom, axis] == pytest.approx(-slope, abs=1e-6)


@pytest.mark.parametrize(("i", "j", "voigt"), [(0, 0, 0), (1, 2, 3)])
def test_stress_is_the_gradient_of_the_energy_with_respect_to_strain(
    atoms: Atoms, i: int, j: int, voigt: int
) -> None:
    stress = atoms.get_stress()
    step = 1e-4
    energies = []
    for sign in (1, -1):
        strain = np.zeros((3, 3))
        strain[i, j] += sign * step / 2
        strain[j, i] += sign * step / 2
        moved = atoms.copy()
        moved.calc = atoms.calc
        moved.set_cell(atoms.cell @ (np.eye(3) + strain), scale_atoms=True)
        energies.append(moved.get_potential_energy())
    slope = (energies[0] - energies[1]) / (2 * step) / atoms.get_volume()
    assert stress[voigt] == pytest.approx(slope, abs=1e-7)


def test_images_evaluated_at_the_same_time_give_what_each_gives_alone(
    calculator: MixedCalculator,
) -> None:
    def image(bead: int) -> Atoms:
        atoms = calculator.structure()
        atoms.rattle(0.05, seed=bead)
        atoms.calc = calculator.image(bead)
        return atoms

    alone = [image(bead).get_forces() for bead in range(4)]
    with ThreadPoolExecutor(4) as threads:
        together = list(threads.map(lambda bead: image(bead).get_forces(), range(4)))
    for one, other in zip(alone, together, strict=True):
        np.testing.assert_array_equal(one, other)


def test_it_is_the_energy_that_a_run_records(calculator: MixedCalculator, run: Path) -> None:
    records = read_run(run)
    assert list(records["evaluation"]) == [0, 1, 2, 3]
    energy = calculator.structure().get_potential_energy()
    # i-PI converts positions to bohr and back
    assert records["energy"][0] == pytest.approx(energy, abs=1e-9)


def test_report_and_region_are_those_of_the_last_evaluation(atoms: Atoms) -> None:
    energy = atoms.get_potential_energy()
    region = region_of(load_case(MINIMAL), atoms)
    assert atoms.calc.report.core == region.core
    assert atoms.calc.report.energy == energy
    assert atoms.calc.report.energy_is == "mixed"
    np.testing.assert_array_equal(atoms.calc.region.lambda_, region.lambda_)


def test_the_region_is_around_its_seed() -> None:
    case = load_case(MINIMAL)
    atoms = read_structure(case)
    region = region_of(case, atoms)
    distance = atoms.get_distances(132, range(len(atoms)), mic=True)
    np.testing.assert_array_equal(region.lambda_ == 1.0, distance <= 4.0)
    np.testing.assert_array_equal(region.lambda_ > 0.0, distance < 7.0)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda atoms: atoms.numbers.__setitem__(7, 10), "atom 7 .* is Ne, .* has Ar there"),
        (lambda atoms: atoms.__delitem__(0), "255 atoms .* 256"),
        (lambda atoms: atoms.set_pbc((True, True, False)), "pbc"),
        (lambda atoms: atoms.set_cell(atoms.cell * 1.8897, scale_atoms=True), "1.88.* bohr"),
    ],
    ids=["element", "number", "pbc", "unit"],
)
def test_other_atoms_are_refused_with_what_differs(
    calculator: MixedCalculator, change: object, words: str
) -> None:
    atoms = calculator.structure()
    change(atoms)  # type: ignore[operator]
    with pytest.raises(MixserverError, match=words):
        atoms.get_potential_energy()
    with pytest.raises(MixserverError, match=words):
        region_of(calculator.case, atoms)
    assert np.isfinite(calculator.structure().get_potential_energy()), "it still works"


def test_seeds_that_a_model_chooses_are_not_guessed() -> None:
    with pytest.raises(ConfigError, match="MixedCalculator"):
        region_of(load_case(ROOT / "inputs/silicon_vacancy"))


def test_a_case_without_workers_is_refused_and_leaves_no_thread(tmp_path: Path) -> None:
    text = (MINIMAL / "mix.toml").read_text()
    (tmp_path / "mix.toml").write_text(text[: text.index("[[local]]")])
    (tmp_path / "init.xyz").write_bytes((MINIMAL / "init.xyz").read_bytes())
    with pytest.raises(ConfigError, match="local"):
        MixedCalculator(tmp_path)


def test_a_closed_calculator_says_so() -> None:
    calculator = MixedCalculator(MINIMAL)
    atoms = calculator.structure()
    calculator.close()
    calculator.close()
    with pytest.raises(MixserverError, match="closed"):
        atoms.get_potential_energy()


def test_a_script_that_closes_nothing_ends_with_its_workers() -> None:
    script = (
        "from mixserver.ase import MixedCalculator\n"
        f"atoms = MixedCalculator({str(MINIMAL)!r}).structure()\n"
        "print(atoms.get_potential_energy())\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=HANG_S
    )
    assert np.isfinite(float(done.stdout)), "the energy alone is printed"
    assert not done.stderr


def test_a_worker_that_is_killed_is_replaced() -> None:
    others = _children()
    with MixedCalculator(MINIMAL) as calculator:
        atoms = calculator.structure()
        before = atoms.get_potential_energy()
        workers = [child for child in _children() if child not in others]
        assert len(workers) == 2
        for worker in workers:
            os.kill(worker, signal.SIGKILL)
        atoms.calc.reset()
        assert atoms.get_potential_energy() == before


def test_the_page_about_it_is_right(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    failed, tried = doctest.testfile(
        str(PAGE), module_relative=False, globs={"run": run}, optionflags=doctest.ELLIPSIS
    )
    assert tried > 10
    assert failed == 0
