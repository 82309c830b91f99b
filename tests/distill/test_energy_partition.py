import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mixserver_worker.engines.toy import ToyEngine
from tolerance import EXACT

from mixserver.core.arrays import Matrix, Scalars, Vectors
from mixserver.core.frame import Frame, Topology
from mixserver.distill.data.energy_partition import (
    SphericalRegion,
    atoms_around,
    measure_ghost_forces,
    one_hot,
    random_regions,
    region_rows,
    significant_pairs,
    site_gradients,
)
from mixserver.wire.worker import Evaluate

CUTOFF = 4.5
TOY = ToyEngine(epsilon=0.1, sigma=2.2, cutoff=CUTOFF)


def crystal(cell: Matrix, basis: Vectors) -> Frame:
    return Topology(np.full(len(basis), 14, np.int32)).frame(basis @ cell, cell)


FCC = crystal(np.array([[0, 1.9, 1.9], [1.9, 0, 1.9], [1.9, 1.9, 0]]), np.zeros((1, 3)))
ODD = crystal(
    np.array([[3.1, 0, 0], [0.4, 3.4, 0], [-0.3, 0.9, 4.4]]),
    np.array([[0, 0, 0], [0.45, 0.52, 0.55]]),
)


def weighted(positions: Vectors, cell: Matrix, weight: Scalars) -> Vectors:
    return TOY.evaluate(
        Evaluate(
            job=1,
            stream=1,
            positions=np.ascontiguousarray(positions),
            numbers=np.full(len(positions), 14, np.int32),
            cell=cell,
            pbc=(True, True, True),
            weight=weight,
        )
    ).forces


def divided(frame: Frame):  # type: ignore[no-untyped-def]
    structure = one_hot(frame, CUTOFF)
    basis = len(frame)
    forces = np.array(
        [
            weighted(structure.positions, structure.cell, (structure.group == b).astype(float))
            for b in range(basis)
        ]
    )[..., None]
    return site_gradients(structure, basis, forces, significant_pairs(forces))


@pytest.mark.parametrize("frame", [FCC, ODD])
def test_forces_are_those_of_a_whole_weighted_crystal(frame: Frame) -> None:
    """What the division says of a region equals one weighted evaluation of a crystal around it."""
    region = SphericalRegion((0.7, 0.2, 0.4), 2.5, 3.0)
    parts = divided(frame)
    repeat = np.array([9, 9, 9])
    shifts = np.stack(np.meshgrid(*(np.arange(n) - n // 2 for n in repeat), indexing="ij"), -1)
    shifts = shifts.reshape(-1, 3)
    positions = (frame.positions[None] + (shifts @ frame.cell)[:, None]).reshape(-1, 3)
    whole = weighted(positions, frame.cell * repeat[:, None], region(positions))
    for basis, at in atoms_around(frame, np.array(region.centre), 6.5):
        apart = np.linalg.norm(at[:, None] - positions[None], axis=2)
        assert apart.min(axis=1).max() < 1e-9
        expected = whole[apart.argmin(axis=1)]
        got = parts.forces(basis, at, region)[:, :, 0]
        np.testing.assert_allclose(got, expected, atol=EXACT)
        assert np.abs(expected).max() > 1e-3


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 1000))
def test_nothing_pulls_on_balance_where_lambda_is_constant(seed: int) -> None:
    """Sum over all sites of the pull on one atom: the force in the perfect crystal, zero in fcc."""
    rng = np.random.default_rng(seed)
    parts = divided(FCC)
    at = rng.integers(-3, 4, (4, 3)) @ FCC.cell
    force = parts.forces(0, at, lambda x: np.full(len(x), 0.37))
    assert np.abs(force).max() < EXACT


def test_a_linear_models_rows_make_its_forces() -> None:
    """Columns are combined like coefficients."""
    structure = one_hot(ODD, CUTOFF)
    one = divided(ODD)
    columns = site_gradients(
        structure,
        2,
        np.concatenate([_forces(structure.positions, structure.cell, structure.group)] * 2, axis=3)
        * np.array([1.0, 2.0]),
        significant_pairs(_forces(structure.positions, structure.cell, structure.group)),
    )
    region = SphericalRegion((0.0, 0.0, 0.0), 3.0, 2.0)
    plain = region_rows(one, ODD, region, CUTOFF)
    both = region_rows(columns, ODD, region, CUTOFF)
    np.testing.assert_allclose(both @ np.array([3.0, -1.0]), plain[:, 0], atol=EXACT)


def _forces(positions: Vectors, cell: Matrix, group: np.ndarray) -> np.ndarray:  # type: ignore[type-arg]
    return np.array([weighted(positions, cell, (group == b).astype(float)) for b in range(2)])[
        ..., None
    ]


def test_a_supercell_holds_the_reach_twice() -> None:
    structure = one_hot(ODD, 7.0)
    normals = np.cross(np.roll(structure.cell, -1, axis=0), np.roll(structure.cell, -2, axis=0))
    heights = abs(np.linalg.det(structure.cell)) / np.linalg.norm(normals, axis=1)
    assert heights.min() >= 14.0
    assert structure.group[:2].tolist() == [0, 1]
    assert set(structure.group[2:].tolist()) == {2}


def test_ghosts_of_one_model_with_itself_are_none() -> None:
    parts = divided(FCC)
    region = SphericalRegion((0.0, 0.0, 0.0), 3.0, 3.0)
    rows = region_rows(parts, FCC, region, CUTOFF)
    none = measure_ghost_forces(rows - rows, FCC, region, CUTOFF)
    assert none.largest == none.rms == 0.0
    some = measure_ghost_forces(rows, FCC, region, CUTOFF)
    assert some.largest >= some.rms > 1e-4


def test_an_abrupt_region_has_ghosts_too() -> None:
    parts = divided(FCC)
    region = SphericalRegion((0.0, 0.0, 0.0), 4.0, 0.0)
    found = measure_ghost_forces(region_rows(parts, FCC, region, CUTOFF), FCC, region, CUTOFF)
    smooth = SphericalRegion((0.0, 0.0, 0.0), 4.0, 8.0)
    smaller = measure_ghost_forces(region_rows(parts, FCC, smooth, CUTOFF), FCC, smooth, CUTOFF)
    assert found.rms > smaller.rms > 0.0


@pytest.mark.parametrize("blend", [0.0, 1.0])
def test_a_region_that_ends_between_atoms_has_a_mean_too(blend: float) -> None:
    wide = crystal(np.eye(3) * 9.0, np.zeros((1, 3)))
    felt = measure_ghost_forces(
        np.array([3.0, 0.0, 4.0]), wide, SphericalRegion((0.0, 0.0, 0.0), 3.0, blend), 1.0
    )
    assert (felt.largest, felt.rms) == (5.0, 5.0)


def test_regions_are_many_and_the_same_for_a_seed() -> None:
    made = random_regions(FCC, 12, np.random.default_rng(4), widths=(3.0, 8.0))
    again = random_regions(FCC, 12, np.random.default_rng(4), widths=(3.0, 8.0))
    assert made == again
    assert len(set(made)) == 12
    assert all(3.0 <= region.blend <= 8.0 for region in made)
