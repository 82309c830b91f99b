"""Groups and structures of the soft set: complete, deterministic, and what they say they are."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest
from argon import crystal
from cells import frames
from hypothesis import given
from hypothesis import strategies as st

from mixserver.core.frame import Frame
from mixserver.core.strain import strained
from mixserver.distill.config.schema import Soft
from mixserver.distill.data.atom_groups import SCHEMES, Scheme, divide_atoms
from mixserver.distill.data.md_sampling import Snapshot
from mixserver.distill.data.perturbations import random_strain, soft_structures
from mixserver.geometry import nearest_distances

SOFT = Soft(strained=4, vacancies=3, seed=7)


@given(
    frame=frames(),
    way=st.sampled_from(SCHEMES),
    groups=st.integers(1, 6),
    seed=st.integers(0, 2**32 - 1),
)
def test_every_atom_has_one_group_and_no_group_is_empty(
    frame: Frame, way: Scheme, groups: int, seed: int
) -> None:
    groups = min(groups, len(frame))
    group = divide_atoms(frame, groups, way, np.random.default_rng(seed))
    assert group.dtype == np.int32
    assert sorted(set(group.tolist())) == list(range(groups))
    again = divide_atoms(frame, groups, way, np.random.default_rng(seed))
    assert np.array_equal(group, again)


def test_more_groups_than_atoms_are_refused() -> None:
    with pytest.raises(ValueError, match="4 atoms cannot be divided into 5 groups"):
        divide_atoms(crystal(1), 5, "balls", np.random.default_rng(0))


def test_balls_are_round() -> None:
    frame = crystal(4)
    group = divide_atoms(frame, 2, "balls", np.random.default_rng(3))
    region = np.flatnonzero(group == 1)
    best = np.inf
    for centre in region:
        distance = nearest_distances(frame, np.array([centre]), 50.0)
        best = min(best, distance[region].max() - distance[group == 0].min())
    assert best <= 1e-9  # of some atom: everything inside is nearer than everything outside


def test_slabs_are_between_lattice_planes() -> None:
    frame = crystal(4)
    group = divide_atoms(frame, 2, "slabs", np.random.default_rng(1))
    normals = [np.array(n) for n in np.ndindex(3, 3, 3)]
    cuts = []
    for normal in normals:
        plane = np.round((frame.fractional @ (normal - 1)) % 1.0, 6) % 1.0
        cuts.append(sum(len(set(group[plane == p].tolist())) == 2 for p in set(plane.tolist())))
    assert min(cuts[:13]) <= 2  # along one normal, all planes but those at the cuts are whole


def _snapshots(count: int) -> list[Snapshot]:
    perfect = crystal(2)
    found = []
    for at in range(count):
        moved = np.random.default_rng(at).normal(0.0, 0.1, (len(perfect), 3))
        frame = perfect.topology.frame(perfect.positions + moved, perfect.cell)
        found.append(Snapshot(f"40K-0-{at:06d}", 40.0, 0, 0.1 * at, frame))
    return found


def test_the_soft_set_has_hot_strained_and_vacancy_structures() -> None:
    snapshots = _snapshots(5)
    found = soft_structures(snapshots, SOFT, 4)
    assert [s.kind for s in found] == ["hot"] * 5 + ["strained"] * 4 + ["vacancy"] * 3
    assert len({s.name for s in found}) == 12
    assert all(s.groups == 4 and s.temperature == 40.0 for s in found)
    for structure in found[5:9]:
        strain = structure.cell @ snapshots[0].frame.inverse.T - np.eye(3)
        assert 0 < np.abs(strain).max() <= SOFT.strain
        fractional = structure.positions @ np.linalg.inv(structure.cell)
        assert any(np.allclose(fractional, s.frame.fractional, atol=1e-12) for s in snapshots)
    for structure in found[9:]:
        assert len(structure) == 31
        rows = {tuple(row) for row in structure.positions.tolist()}
        assert any(rows < {tuple(row) for row in s.frame.positions.tolist()} for s in snapshots)


def test_the_seed_decides_and_more_of_one_kind_leaves_the_others() -> None:
    snapshots = _snapshots(5)
    first = {s.name: s for s in soft_structures(snapshots, SOFT, 4)}
    more = msgspec.structs.replace(SOFT, strained=5, vacancies=1)
    second = {s.name: s for s in soft_structures(snapshots, more, 4)}
    for name in first.keys() & second.keys():
        assert np.array_equal(first[name].positions, second[name].positions)
        assert np.array_equal(first[name].group, second[name].group)
    other = soft_structures(snapshots, msgspec.structs.replace(SOFT, seed=8), 4)
    assert not np.array_equal(other[0].group, first[other[0].name].group)


def test_more_changes_than_snapshots_are_refused() -> None:
    with pytest.raises(ValueError, match="4 of 2 snapshots"):
        soft_structures(_snapshots(2), SOFT, 4)


def test_strain_is_symmetric_and_moves_atoms_with_the_cell() -> None:
    strain = random_strain(0.02, np.random.default_rng(0))
    assert np.array_equal(strain, strain.T)
    frame = crystal(1)
    moved = strained(frame, strain)
    assert np.allclose(moved.fractional, frame.fractional, atol=1e-12)
    assert np.allclose(moved.cell, frame.cell @ (np.eye(3) + strain))
