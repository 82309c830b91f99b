"""The cell that repeats is found through heat, defects, surfaces and rotations."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, fcc111
from ase.geometry import find_mic
from ase.spacegroup import crystal
from evaluators import frame_of
from hypothesis import given
from hypothesis import strategies as st

from mixserver.analysis.bulk.primitive_cell import PrimitiveCell, find_primitive_cell
from mixserver.core.errors import ConfigError

CRYSTALS: dict[str, Atoms] = {
    "diamond": bulk("Si", cubic=True),
    "fcc": bulk("Al", cubic=True),
    "bcc": bulk("W", cubic=True),
    "hcp": bulk("Mg"),
    "rocksalt": bulk("NaCl", "rocksalt", a=5.64, cubic=True),
    "caesium chloride": bulk("NiAl", "cesiumchloride", a=2.89),
    "zincblende": bulk("SiC", "zincblende", a=4.36, cubic=True),
    "monoclinic": Atoms(
        "SiO", [[0, 0, 0], [1.9, 1.4, 1.2]], cell=[[4.1, 0, 0], [0, 3.2, 0], [1.0, 0, 5.3]], pbc=1
    ),
}
PRIMITIVE = {"diamond": 2, "fcc": 1, "bcc": 1, "hcp": 2, "rocksalt": 2}
PRIMITIVE |= {"caesium chloride": 2, "zincblende": 2, "monoclinic": 2}


def _supercell(name: str, least: int = 120) -> Atoms:
    unit = CRYSTALS[name]
    n = int(np.ceil((least / len(unit)) ** (1 / 3)))
    return unit * (n, n, n + 1)


def _fits(found: PrimitiveCell, structure: Atoms, tolerance: float) -> None:
    """Every atom of the structure is at a place of the crystal, up to one shift of all."""
    crystal = found.crystal
    numbers = crystal.topology.numbers
    first = structure.numbers == numbers[0]
    worst = []
    for atom in np.flatnonzero(first)[:80]:
        apart = structure.positions - structure.positions[atom]
        off = np.full(len(structure), np.inf)
        for place, number in zip(crystal.positions, numbers, strict=True):
            same = structure.numbers == number
            lengths = find_mic(apart[same] - (place - crystal.positions[0]), crystal.cell)[1]
            off[same] = np.minimum(off[same], lengths)
        worst.append(float(off.max()))
    assert min(worst) < tolerance


@pytest.mark.parametrize("name", CRYSTALS)
def test_a_crystal_comes_back_as_its_primitive_cell(name: str) -> None:
    unit, structure = CRYSTALS[name], _supercell(name)
    found = find_primitive_cell(frame_of(structure))
    assert len(found.crystal) == PRIMITIVE[name]
    assert found.fraction == 1.0
    assert found.exact
    assert found.crystal.volume / len(found.crystal) == pytest.approx(
        unit.get_volume() / len(unit), rel=1e-12
    )
    assert np.linalg.det(found.crystal.cell) > 0.0
    _fits(found, structure, 1e-9)


@given(
    name=st.sampled_from(sorted(CRYSTALS)),
    seed=st.integers(0, 2**32 - 1),
    heat=st.floats(0.0, 0.12),
    lost=st.integers(0, 4),
    turned=st.booleans(),
)
def test_heat_vacancies_and_rotation_do_not_hide_it(
    name: str, seed: int, heat: float, lost: int, turned: bool
) -> None:
    rng = np.random.default_rng(seed)
    whole = _supercell(name)
    if turned:
        whole.rotate(float(rng.uniform(0, 180)), rng.normal(size=3), rotate_cell=True)
    structure = whole.copy()
    structure.positions += rng.normal(0.0, heat, structure.positions.shape)
    structure.positions += rng.integers(-2, 3, (len(structure), 3)) @ structure.cell[:]
    structure = structure[rng.permutation(len(structure))]
    del structure[:lost]
    found = find_primitive_cell(frame_of(structure))
    unit = CRYSTALS[name]
    assert len(found.crystal) == PRIMITIVE[name]
    assert found.exact  # then cells are as precise as the structure's own
    assert found.crystal.volume / len(found.crystal) == pytest.approx(
        unit.get_volume() / len(unit), rel=1e-9
    )
    assert found.fraction > 0.9
    _fits(found, whole, 0.02 + heat)


def test_interstitials_and_other_elements_have_no_place_in_it() -> None:
    structure = bulk("W", cubic=True) * (5, 5, 5)
    structure += Atoms("He3", [[0.8, 1.58, 0.1], [9.0, 8.1, 7.5], [4.0, 11.0, 3.0]])
    found = find_primitive_cell(frame_of(structure))
    assert found.crystal.topology.numbers.tolist() == [74]
    assert found.fraction == pytest.approx(250 / 253)


def test_a_surface_has_a_bulk_below_it() -> None:
    structure = fcc111("Cu", (6, 6, 7), vacuum=12.0, a=3.6)
    structure.pbc = (True, True, False)
    structure.rattle(0.05, seed=2)
    found = find_primitive_cell(frame_of(structure))
    assert len(found.crystal) == 1
    assert not found.exact
    assert found.crystal.volume == pytest.approx(3.6**3 / 4, rel=0.02)


def test_many_cells_are_as_precise_as_few() -> None:
    structure = bulk("Si", cubic=True) * (16, 16, 16)
    structure.rattle(0.15, seed=3)
    found = find_primitive_cell(frame_of(structure))
    assert found.exact
    assert found.crystal.volume == pytest.approx(5.43**3 / 4, rel=1e-12)


def _gas() -> Atoms:
    places = np.random.default_rng(0).uniform(0, 20, (200, 3))
    return Atoms("Ar200", places, cell=[20.0] * 3, pbc=True)


@pytest.mark.parametrize(
    ("structure", "said"),
    [
        (_gas(), "three independent ones of 75 % are needed"),
        (Atoms("Si", cell=[30.0] * 3, pbc=True), "no crystal repeats"),
        (Atoms("H2", [[0, 0, 0], [0, 0, 0.74]], cell=[9.0] * 3), "no crystal repeats"),
        (bulk("Mg"), "smallest cell that does is 1 of the whole"),
    ],
    ids=["gas", "atom", "molecule", "one cell"],
)
def test_a_structure_without_a_crystal_is_refused(structure: Any, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        find_primitive_cell(frame_of(structure))


def _tilted(degrees: float) -> Atoms:
    """SrTiO3 below 105 K: octahedra turned about c, the next layer the other way."""
    d = 0.25 * np.tan(np.radians(degrees))
    a = 3.905
    return crystal(
        ["Sr", "Ti", "O", "O"],
        [(0, 0.5, 0.25), (0, 0, 0), (0, 0, 0.25), (0.25 - d, 0.75 - d, 0)],
        spacegroup=140,
        cellpar=[a * 2**0.5, a * 2**0.5, 2 * a, 90, 90, 90],
    )


@pytest.mark.parametrize("heat", [0.0, 0.05])
@pytest.mark.parametrize(
    ("unit", "repeats", "atoms"),
    [
        (_tilted(3.0), (4, 4, 3), 10),
        (
            crystal(
                ["Bi"],
                [(0, 0, 0.2339)],
                spacegroup=166,
                cellpar=[4.546, 4.546, 11.862, 90, 90, 120],
            ),
            (6, 6, 3),
            2,
        ),
        (
            Atoms(
                "Zr2O4",
                scaled_positions=[
                    *((0, 0, 0), (0.5, 0.5, 0.5), (0, 0.5, 0.205), (0, 0.5, 0.705)),
                    *((0.5, 0, 0.295), (0.5, 0, 0.795)),
                ],
                cell=[3.64, 3.64, 5.27],
                pbc=True,
            ),
            (5, 5, 4),
            6,
        ),
    ],
    ids=["tilted perovskite", "bismuth", "tetragonal zirconia"],
)
def test_a_small_distortion_with_twice_the_period_is_kept(
    unit: Atoms, repeats: tuple[int, int, int], atoms: int, heat: float
) -> None:
    structure = unit * repeats
    structure.rattle(heat, seed=4)
    found = find_primitive_cell(frame_of(structure))
    assert len(found.crystal) == atoms
    assert found.fraction == 1.0
    assert found.crystal.volume / len(found.crystal) == pytest.approx(
        unit.get_volume() / len(unit), rel=1e-9
    )
    _fits(found, unit * repeats, 0.01 + heat)


def _halves(kind: str) -> Atoms:
    if kind == "two elements":
        made = bulk("Si", a=5.43, cubic=True) * (4, 4, 8)
        made.numbers[made.positions[:, 2] > 0.5 * made.cell[2, 2] - 0.1] = 32
        return made
    made = bulk("Pd", cubic=True) * (5, 5, 5)
    holes = made.positions + np.array([1.945, 0.0, 0.0])
    kept = np.random.default_rng(0).random(len(holes)) < 0.55
    return made + Atoms(f"H{kept.sum()}", holes[kept])


@pytest.mark.parametrize("kind", ["two elements", "half filled"])
def test_two_crystals_are_not_laid_on_top_of_each_other(kind: str) -> None:
    with pytest.raises(ConfigError, match="no crystal repeats"):
        find_primitive_cell(frame_of(_halves(kind)))


def test_an_antiphase_boundary_leaves_the_crystal_that_both_sides_are() -> None:
    made = bulk("NiAl", "cesiumchloride", a=2.88) * (8, 8, 8)
    upper = made.positions[:, 2] > 0.5 * made.cell[2, 2] - 0.1
    made.numbers[upper] = np.where(made.numbers[upper] == 28, 13, 28)
    found = find_primitive_cell(frame_of(made))
    assert sorted(found.crystal.topology.numbers.tolist()) == [13, 28]
    assert found.crystal.volume == pytest.approx(2.88**3, rel=1e-3)
    assert found.fraction < 0.9
    assert not found.exact


@pytest.mark.parametrize("gap", [1.0, 2.37, 3.16, 4.74, 7.9])
def test_a_vacuum_is_no_part_of_the_crystal(gap: float) -> None:
    structure = bulk("W", cubic=True, a=3.16) * (4, 4, 4)
    structure.cell[2, 2] += gap
    found = find_primitive_cell(frame_of(structure))
    assert len(found.crystal) == 1
    assert found.crystal.volume == pytest.approx(3.16**3 / 2, rel=1e-3)
    assert not found.exact


def test_what_repeats_in_a_plane_only_is_told_so() -> None:
    structure = fcc111("Cu", (6, 6, 3), vacuum=12.0, a=3.6)
    structure.pbc = True
    with pytest.raises(ConfigError, match="span a plane or a line only"):
        find_primitive_cell(frame_of(structure))
